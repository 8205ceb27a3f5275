"""Read-only, and without the columns that are secrets: session_id, state, browser_digest, code_verifier, nonce."""

from django.contrib import admin

from auth_sessions.models import ConsoleSession, OAuthState, Session
from keyhub.admin import OrganizationFilter, ReadOnlyAdmin


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    fields = (
        "id",
        "user",
        "active_membership",
        "revoked",
        "revoked_at",
        "revoked_reason",
        "expires_at",
        "last_accessed_at",
        "ip_address",
        "user_agent",
        "created_at",
    )
    list_display = ("id", "user", "active_membership__tenant", "revoked", "expires_at", "last_accessed_at")
    list_select_related = ("user", "active_membership__tenant")
    list_filter = ("revoked", "expires_at")
    search_fields = ("user__email__exact",)
    search_help_text = "The exact e-mail of the user, or the id of a row."
    ordering = ("-expires_at", "-id")


@admin.register(OAuthState)
class OAuthStateAdmin(ReadOnlyAdmin):
    fields = list_display = ("id", "provider", "redirect_uri", "consumed_at", "created_at")
    list_filter = ("created_at",)
    ordering = ("-created_at", "-id")


@admin.register(ConsoleSession)
class ConsoleSessionAdmin(ReadOnlyAdmin):
    fields = list_display = ("id", "organization_id", "expires_at", "created_at")
    list_filter = (OrganizationFilter, "expires_at")
    search_fields = ("organization_id__exact",)
    search_help_text = "The exact id of the organization, or the id of a row."
    ordering = ("-expires_at", "-id")
