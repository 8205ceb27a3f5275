"""Tenants, and what the page of one shows."""

from django import forms
from django.contrib import admin
from django.db.models import OuterRef, Q
from django.utils.translation import gettext_lazy as _

from keyhub.admin import (
    LATEST_AUDIT_ROWS,
    KeyHubAdmin,
    OrganizationFilter,
    Section,
    counted_in_a_list,
    link_to_list,
    register_section,
    told,
    validate_organization_id,
)
from tenancy.admin.groups import groups_of
from tenancy.admin.join_codes import codes_of
from tenancy.admin.members import TenantMembershipInline, members_of
from tenancy.models import (
    Tenant,
    TenantJoinCode,
    TenantMembership,
)


class TenantForm(forms.ModelForm):
    def clean_organization_id(self):
        validate_organization_id(self.cleaned_data["organization_id"])
        return self.cleaned_data["organization_id"]


@admin.register(Tenant)
class TenantAdmin(KeyHubAdmin):
    form = TenantForm
    fields = (
        "organization_id",
        "name",
        "slug",
        "description",
        "tenant_type",
        "is_default",
        "created_at",
        "updated_at",
    )
    readonly_fields = ("created_at", "updated_at")
    inlines = (TenantMembershipInline,)
    list_display = ("name", "slug", "organization_id", "tenant_type", "is_default", "members", "join_codes")
    list_filter = (OrganizationFilter, "tenant_type", "is_default")
    search_fields = ("name", "slug", "organization_id")
    search_help_text = _("A slug, a part of the name or of the organization's id, or a tenant's id.")
    ordering = ("organization_id", "slug")

    def exactly(self, term: str) -> Q:
        return Q(slug=term) | Q(organization_id=term)

    def tenant_of(self, row: Tenant) -> Tenant:
        return row

    def get_queryset(self, request):
        return (
            super()
            .get_queryset(request)
            .annotate(
                active_members=counted_in_a_list(TenantMembership.objects.active().filter(tenant=OuterRef("pk"))),
                codes=counted_in_a_list(TenantJoinCode.objects.filter(tenant=OuterRef("pk"))),
            )
        )

    @admin.display(description=_("active members"))
    def members(self, tenant: Tenant) -> str:
        lookups = {"tenant__id__exact": tenant.pk, "left_at__isempty": 1}
        return link_to_list(told(tenant.active_members), TenantMembership, **lookups)

    @admin.display(description=_("join codes"))
    def join_codes(self, tenant: Tenant) -> str:
        return link_to_list(told(tenant.codes), TenantJoinCode, tenant__id__exact=tenant.pk)


register_section(Tenant, Section(_("Members"), "tenancy.view_tenantmembership", members_of))
register_section(Tenant, Section(_("Join codes"), "tenancy.view_tenantjoincode", codes_of))
register_section(Tenant, Section(_("Groups"), "tenancy.view_group", groups_of))
register_section(Tenant, LATEST_AUDIT_ROWS)
