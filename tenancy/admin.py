from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Coalesce

from keyhub.admin import (
    KeyHubAdmin,
    KeyHubInline,
    OrganizationFilter,
    link_to,
    link_to_list,
    validate_organization_id,
)
from tenancy.models import DEEPEST_GROUP, Group, GroupMembership, Tenant, TenantJoinCode, TenantMembership


class MemberRowForm(forms.ModelForm):
    """A membership stays its user's: only a new row asks whose it is."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding and "user" in self.fields:
            user = self.instance.user
            self.fields["user"].disabled = True
            self.fields["user"].widget = forms.Select(choices=[(user.pk, user)])


class MemberInline(KeyHubInline):
    form = MemberRowForm
    autocomplete_fields = ("user",)

    def get_queryset(self, request):
        return super().get_queryset(request).select_related(self.fk_name, "user")


class TenantMembershipInline(MemberInline):
    model = TenantMembership
    fk_name = "tenant"
    fields = ("user", "role", "left_at")


class GroupMembershipInline(MemberInline):
    model = GroupMembership
    fk_name = "group"
    fields = ("user", "role")


@admin.display
def state(code: TenantJoinCode) -> str:
    return "-" if code._state.adding else TenantJoinCode.State(code.state).label


@admin.display
def uses(code: TenantJoinCode) -> str:
    if code._state.adding:
        return "-"
    return f"{code.used_count} of {code.max_uses}" if code.max_uses else f"{code.used_count}, no limit"


class JoinCodeForm(forms.ModelForm):
    def _get_validation_exclusions(self):
        # max_uses is judged by used_count, which is no field of the form.
        return super()._get_validation_exclusions() - {"used_count"}


class TenantJoinCodeInline(KeyHubInline):
    model = TenantJoinCode
    form = JoinCodeForm
    fk_name = "tenant"
    fields = ("code", "role", "max_uses", uses, "expires_at", state)
    readonly_fields = (uses, state)

    def get_queryset(self, request):
        return super().get_queryset(request).with_state()


class TenantForm(forms.ModelForm):
    def clean_organization_id(self):
        validate_organization_id(self.cleaned_data["organization_id"])
        return self.cleaned_data["organization_id"]


def count_of(rows: models.QuerySet) -> Coalesce:
    """How many of these rows each tenant has, as a column of the list's one query."""
    counted = rows.filter(tenant=models.OuterRef("pk")).order_by().values("tenant").annotate(count=models.Count("*"))
    return Coalesce(models.Subquery(counted.values("count")), 0)


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
    inlines = (TenantMembershipInline, TenantJoinCodeInline)
    list_display = ("name", "slug", "organization_id", "tenant_type", "is_default", "members", "join_codes")
    list_filter = (OrganizationFilter, "tenant_type", "is_default")
    search_fields = ("name", "slug", "organization_id")
    search_help_text = "A part of the name, the slug or the organization's id, or a tenant's id."
    ordering = ("organization_id", "slug")

    def get_queryset(self, request):
        return (
            super()
            .get_queryset(request)
            .annotate(
                active_members=count_of(TenantMembership.objects.filter(left_at=None)),
                codes=count_of(TenantJoinCode.objects.all()),
            )
        )

    @admin.display(description="active members")
    def members(self, tenant: Tenant) -> str:
        return link_to_list(tenant.active_members, TenantMembership, tenant__id__exact=tenant.pk, left_at__isempty=1)

    @admin.display
    def join_codes(self, tenant: Tenant) -> str:
        return link_to_list(tenant.codes, TenantJoinCode, tenant__id__exact=tenant.pk)


@admin.register(TenantMembership)
class TenantMembershipAdmin(KeyHubAdmin):
    fields = ("tenant", "user", "role", "left_at", "left_reason", "created_at", "updated_at")
    readonly_fields = ("left_reason", "created_at", "updated_at")
    settled_fields = ("tenant", "user")
    autocomplete_fields = ("tenant", "user")
    list_display = ("user", "tenant", "role", "created_at", "left_at")
    list_select_related = ("tenant", "user")
    list_filter = ("role", ("left_at", admin.EmptyFieldListFilter))
    search_fields = ("user__email",)
    search_help_text = "A part of the user's e-mail."
    ordering = ("tenant_id", "user_id")


class StateFilter(admin.SimpleListFilter):
    title = parameter_name = "state"

    def lookups(self, request, model_admin):
        return TenantJoinCode.State.choices

    def queryset(self, request, queryset):
        return queryset.filter(state=self.value()) if self.value() else queryset


@admin.register(TenantJoinCode)
class TenantJoinCodeAdmin(KeyHubAdmin):
    form = JoinCodeForm
    fields = ("tenant", "code", "role", "max_uses", "expires_at", "created_by", uses, state, "revoked_at", "created_at")
    readonly_fields = (uses, state, "revoked_at", "created_at")
    settled_fields = ("tenant",)
    autocomplete_fields = ("tenant", "created_by")
    list_display = ("code", "tenant_link", "role", state, uses, "expires_at", "created_by")
    list_select_related = ("tenant", "created_by")
    list_filter = (StateFilter, "role")
    search_fields = ("code", "tenant__name")
    search_help_text = "A part of the code or of the tenant's name."
    ordering = ("code",)

    def get_queryset(self, request):
        return super().get_queryset(request).with_state()

    @admin.display(description="tenant")
    def tenant_link(self, code: TenantJoinCode) -> str:
        return link_to(code.tenant)


class GroupForm(forms.ModelForm):
    def clean_parent_group(self):
        parent = self.cleaned_data["parent_group"]
        if parent is None:
            return None
        tenant_id = self.cleaned_data["tenant"].pk if "tenant" in self.cleaned_data else self.instance.tenant_id
        if tenant_id and parent.tenant_id != tenant_id:
            raise ValidationError("The parent is a group of another tenant.")
        ancestor = parent
        while ancestor:
            if ancestor == self.instance:
                raise ValidationError("A group cannot be below itself.")
            ancestor = ancestor.parent_group
        if parent.depth == DEEPEST_GROUP:
            raise ValidationError("Groups are nested too deeply.")
        return parent


@admin.register(Group)
class GroupAdmin(KeyHubAdmin):
    form = GroupForm
    fields = ("tenant", "name", "description", "parent_group", "created_at", "updated_at")
    readonly_fields = ("created_at", "updated_at")
    settled_fields = ("tenant",)
    autocomplete_fields = ("tenant",)
    raw_id_fields = ("parent_group",)  # its list shows the tenant, too: many groups have the same name
    inlines = (GroupMembershipInline,)
    list_display = ("name", "tenant", "parent_group", "depth")
    list_select_related = ("tenant", "parent_group")
    search_fields = ("name", "tenant__name")
    search_help_text = "A part of the group's or the tenant's name."
    ordering = ("tenant_id", "name")


@admin.register(GroupMembership)
class GroupMembershipAdmin(KeyHubAdmin):
    fields = ("group", "user", "role", "created_at")
    readonly_fields = ("created_at",)
    settled_fields = ("group", "user")
    autocomplete_fields = ("user",)
    raw_id_fields = ("group",)
    list_display = ("user", "group", "role", "created_at")
    list_select_related = ("group", "user")
    list_filter = ("role",)
    search_fields = ("user__email",)
    search_help_text = "A part of the user's e-mail."
    ordering = ("group_id", "user_id")
