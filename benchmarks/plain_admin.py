"""Django's default admin over the same lists: the peer of benchmarks.site, and the ROOT_URLCONF of its process.

The columns, filters, searches and orders of KeyHub's lists, as one writes them who knows select_related. Where Django's
usual filter would collect all values of a column of the audit log by DISTINCT, it is left out and its lookup is given
in the address; numbers of members and codes are counted row by row, which is quicker than annotate(Count()).
"""

from django.contrib import admin
from django.urls import path

from accounts.models import User, UserIdentity
from audit.models import AuditLog
from auth_sessions.models import Session
from tenancy.models import Tenant, TenantJoinCode, TenantMembership


class PlainAdmin(admin.ModelAdmin):
    list_per_page = 50


class MembershipInline(admin.TabularInline):
    model = TenantMembership
    fields = ("user", "role", "left_at")
    autocomplete_fields = ("user",)
    extra = 0


class IdentityInline(admin.TabularInline):
    model = UserIdentity
    fields = ("provider", "provider_sub")
    extra = 0


class TenantAdmin(PlainAdmin):
    inlines = (MembershipInline,)
    list_display = ("name", "slug", "organization_id", "tenant_type", "is_default", "members", "codes")
    list_filter = ("tenant_type", "is_default")
    search_fields = ("name", "slug", "organization_id")
    ordering = ("organization_id", "slug")

    def members(self, tenant):
        return tenant.memberships.active().count()

    def codes(self, tenant):
        return tenant.join_codes.count()


class MembershipAdmin(PlainAdmin):
    autocomplete_fields = ("tenant", "user")
    list_display = ("user", "tenant", "role", "created_at", "left_at")
    list_select_related = ("tenant", "user")
    list_filter = ("role", ("left_at", admin.EmptyFieldListFilter))
    search_fields = ("user__email",)
    ordering = ("tenant_id", "user_id")


class CodeState(admin.SimpleListFilter):
    title = parameter_name = "state"

    def lookups(self, request, model_admin):
        return TenantJoinCode.State.choices

    def queryset(self, request, queryset):
        return queryset.filter(state=self.value()) if self.value() else queryset


class CodeAdmin(PlainAdmin):
    autocomplete_fields = ("tenant", "created_by")
    list_display = ("code", "tenant", "role", "state", "used_count", "max_uses", "expires_at", "created_by")
    list_select_related = ("tenant", "created_by")
    list_filter = (CodeState, "role")
    search_fields = ("code", "tenant__name")
    ordering = ("-created_at", "-id")

    def get_queryset(self, request):
        return super().get_queryset(request).with_state()

    def state(self, code):
        return code.state


class UserAdmin(PlainAdmin):
    inlines = (IdentityInline,)
    list_display = ("email", "name", "created_at", "disabled_at")
    list_filter = (("disabled_at", admin.EmptyFieldListFilter), ("anonymized_at", admin.EmptyFieldListFilter))
    search_fields = ("email", "name")
    ordering = ("-created_at", "-id")


class IdentityAdmin(PlainAdmin):
    list_display = ("provider", "provider_sub", "user", "created_at")
    list_select_related = ("user",)
    autocomplete_fields = ("user",)
    search_fields = ("user__email",)
    ordering = ("provider", "provider_sub")


class SessionState(admin.SimpleListFilter):
    title = parameter_name = "state"

    def lookups(self, request, model_admin):
        return [("alive", "alive")]

    def queryset(self, request, queryset):
        return queryset.live() if self.value() else queryset


class SessionAdmin(PlainAdmin):
    list_display = ("id", "user", "active_membership__tenant", "revoked", "expires_at", "last_accessed_at")
    list_select_related = ("user", "active_membership__tenant")
    list_filter = (SessionState, "revoked", "expires_at")
    search_fields = ("user__email",)
    ordering = ("-expires_at", "-id")
    raw_id_fields = ("user", "active_membership")


class AuditLogAdmin(PlainAdmin):
    list_display = (
        "created_at",
        "organization_id",
        "tenant_label",
        "actor_label",
        "action",
        "resource_type",
        "resource_id",
        "outcome",
    )
    list_filter = ("outcome", "created_at")
    search_fields = ("action",)
    ordering = ("-created_at", "-id")


site = admin.AdminSite()
for model, model_admin in (
    (Tenant, TenantAdmin),
    (TenantMembership, MembershipAdmin),
    (TenantJoinCode, CodeAdmin),
    (User, UserAdmin),
    (UserIdentity, IdentityAdmin),
    (Session, SessionAdmin),
    (AuditLog, AuditLogAdmin),
):
    site.register(model, model_admin)

urlpatterns = [path("admin/", site.urls)]
