"""Read-only, and without the columns that are secrets: session_id, state, browser_digest, code_verifier, nonce."""

from django import forms
from django.contrib import admin
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.models import User
from auth_sessions.models import ConsoleSession, OAuthState, Session
from keyhub.admin import (
    Number,
    Operation,
    OrganizationFilter,
    ReadOnlyAdmin,
    Section,
    Table,
    as_uuid,
    count_of,
    link_to,
    link_to_page,
    offer,
    page_of_list,
    register,
    register_section,
)
from tenancy.models import Tenant

LATEST_SESSIONS = 10


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request, model_admin):
        return [("alive", _("Alive")), ("revoked", _("Revoked")), ("expired", _("Expired"))]

    def queryset(self, request, queryset):
        if self.value() == "alive":
            return queryset.live()
        if self.value() == "revoked":
            return queryset.filter(revoked=True)
        return queryset.filter(revoked=False, expires_at__lte=Now()) if self.value() == "expired" else queryset


class WhoseFilter(admin.SimpleListFilter):
    """Set by links from the pages of users and tenants, and then told, to be taken off."""

    column: str

    def lookups(self, request, model_admin):
        return [(self.value(), self.value())] if self.value() else []

    def queryset(self, request, queryset):
        if not self.value():
            return queryset
        some_id = as_uuid(self.value())
        return queryset.filter(**{self.column: some_id}) if some_id else queryset.none()


class UserFilter(WhoseFilter):
    title, parameter_name, column = _("user"), "user", "user"


class TenantFilter(WhoseFilter):
    title, parameter_name, column = _("tenant"), "tenant", "active_membership__tenant"


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
    list_display = ("id", "user", "active_membership_tenant", "revoked", "expires_at", "last_accessed_at")
    list_select_related = ("user", "active_membership__tenant")
    list_filter = (StateFilter, UserFilter, TenantFilter, "revoked", "expires_at")
    search_fields = ("user__email",)
    searches_parts = False
    search_help_text = _("The exact e-mail of the user, or the id of a row.")
    ordering = ("-expires_at", "-id")

    def exactly(self, term: str) -> Q:
        return Q(user__in=User.objects.with_email(term))

    @admin.display(description=_("active membership tenant"))
    def active_membership_tenant(self, session: Session) -> Tenant | None:
        return self.tenant_of(session)

    def tenant_of(self, row: Session) -> Tenant | None:
        return row.active_membership and row.active_membership.tenant


class Reason(forms.Form):
    reason = forms.CharField(
        required=False, max_length=200, label=_("Reason"), help_text=_("Kept with the session; not shown to its user.")
    )


def reason_of(options: dict) -> str:
    return options["reason"] or "revoked by an operator"


def revoke(session: Session, options: dict) -> dict | None:
    return {"reason": reason_of(options)} if session.revoke(reason_of(options)) else None


def what_ended(sessions: int, options: dict) -> dict | None:
    return {"sessions": sessions, "reason": reason_of(options)} if sessions else None


def revoke_all_of_a_user(user: User, options: dict) -> dict | None:
    return what_ended(Session.objects.revoke_all(user, reason=reason_of(options)), options)


def revoke_all_of_a_tenant(tenant: Tenant, options: dict) -> dict | None:
    return what_ended(Session.objects.filter(active_membership__tenant=tenant).revoke(reason_of(options)), options)


def sessions_ended(done: list[dict]) -> str:
    number = sum(details["sessions"] for details in done)
    return ngettext("%(number)d session has ended.", "%(number)d sessions have ended.", number) % {"number": number}


REVOCATION = {"permission": "auth_sessions.revoke_session", "options": Reason, "icon": "logout"}
offer(
    Session,
    Operation(
        "revoke",
        _("Revoke"),
        _("Whoever uses these sessions has to sign in again."),
        run=revoke,
        done=_("Revoked: %(done)d of %(selected)d."),
        applies=lambda session: not session.revoked,
        **REVOCATION,
    ),
)
offer(
    User,
    Operation(
        "revoke_sessions",
        _("Sign out everywhere"),
        _("All their sessions end. They can sign in again."),
        run=revoke_all_of_a_user,
        done=_("Signed out: %(done)d of %(selected)d."),
        summary=sessions_ended,
        **REVOCATION,
    ),
)
offer(
    Tenant,
    Operation(
        "revoke_sessions",
        _("Sign everybody out"),
        _("All sessions that act in the tenant end. Its members can sign in again."),
        run=revoke_all_of_a_tenant,
        done=_("Signed out: %(done)d of %(selected)d."),
        summary=sessions_ended,
        **REVOCATION,
    ),
)


def sessions_of(user: User) -> Table:
    rows = user.sessions.order_by("-expires_at", "-id")[:LATEST_SESSIONS]
    return Table(
        [_("Expires"), _("Revoked"), _("Last access"), _("Address"), _("Client")],
        [
            (link_to_page(each, each.expires_at), _("yes") if each.revoked else _("no"), each.last_accessed_at,
             each.ip_address, each.user_agent)
            for each in rows
        ],
        more=page_of_list(Session, user=user.pk),
    )  # fmt: skip


def sessions_in(tenant: Tenant) -> Table:
    rows = Session.objects.live().filter(active_membership__tenant=tenant).select_related("user")
    return Table(
        [_("User"), _("Expires"), _("Last access")],
        [
            (link_to(each.user), link_to_page(each, each.expires_at), each.last_accessed_at)
            for each in rows.order_by("-expires_at", "-id")[:LATEST_SESSIONS]
        ],
        more=page_of_list(Session, tenant=tenant.pk, state="alive"),
    )


register_section(User, Section(_("Sessions"), "auth_sessions.view_session", sessions_of))
register_section(Tenant, Section(_("Sessions alive"), "auth_sessions.view_session", sessions_in))
register(
    Number(
        "sessions",
        _("Sessions alive"),
        "auth_sessions.view_session",
        lambda: count_of(Session.objects.live()),
        lambda: page_of_list(Session, state="alive"),
    )
)


@admin.register(OAuthState)
class OAuthStateAdmin(ReadOnlyAdmin):
    fields = list_display = ("id", "provider", "redirect_uri", "consumed_at", "created_at")
    list_filter = ("created_at",)
    ordering = ("-created_at", "-id")


@admin.register(ConsoleSession)
class ConsoleSessionAdmin(ReadOnlyAdmin):
    fields = list_display = ("id", "organization_id", "expires_at", "created_at")
    list_filter = (OrganizationFilter, "expires_at")
    search_fields = ("organization_id",)
    searches_parts = False
    search_help_text = _("The exact id of the organization, or the id of a row.")
    ordering = ("-expires_at", "-id")

    def exactly(self, term: str) -> Q:
        return Q(organization_id=term)


def end(session: ConsoleSession, options: dict) -> dict | None:
    return {} if ConsoleSession.objects.filter(pk=session.pk).revoke() else None


offer(
    ConsoleSession,
    Operation(
        "revoke",
        _("Revoke"),
        _("Whoever uses these sessions has to sign in again. The rows go."),
        "auth_sessions.revoke_consolesession",
        end,
        done=_("Revoked: %(done)d of %(selected)d."),
        icon="logout",
        takes_the_row_away=True,
    ),
)
