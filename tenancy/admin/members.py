"""Who belongs to a tenant."""

from django import forms
from django.contrib import admin
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from accounts.models import User
from keyhub.admin import (
    KeyHubAdmin,
    KeyHubInline,
    Operation,
    Section,
    Table,
    link_to,
    offer,
    page_of_list,
    register_refusals,
    register_section,
)
from tenancy.admin.tables import first_rows, moment
from tenancy.memberships import MembershipError
from tenancy.models import (
    Tenant,
    TenantMembership,
)

# Of the triggers of tenancy/sql, and of memberships.py.
register_refusals(
    gettext_noop("tenant {} would be left without an admin. Make somebody else an admin first, or delete the tenant."),
    gettext_noop("The user {} is anonymized, and becomes nobody's member."),
    gettext_noop("{} {} stays in its tenant. Make another one there."),
    gettext_noop("user {} is no member of the group's tenant {}. Make the user a member of the tenant first."),
    gettext_noop("Membership {} has ended: only an active one can be changed."),
)


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
    search_help_text = _("The user's e-mail or a part of it.")
    ordering = ("tenant_id", "user_id")

    def exactly(self, term: str) -> Q:
        return Q(user__in=User.objects.with_email(term))


offer(
    TenantMembership,
    Operation(
        "remove",
        _("Remove"),
        _("They are members no more, and no join code lets them in again. An operator can make them members again."),
        "tenancy.change_tenantmembership",
        lambda membership, options: membership.remove() or {},
        done=_("Removed: %(done)d of %(selected)d."),
        icon="person_remove",
        applies=lambda membership: membership.left_reason != TenantMembership.LeftReason.REMOVED,
        refusals=(MembershipError,),
    ),
)


def members_of(tenant: Tenant) -> Table | None:
    """Where they are too many for the form above."""
    rows, note = first_rows(tenant.memberships.active().select_related("user").order_by("user_id"))
    if not note:
        return None
    return Table(
        [_("User"), _("Role"), _("Since")],
        [(link_to(each.user), each.get_role_display(), moment(each.created_at)) for each in rows],
        more=page_of_list(TenantMembership, tenant__id__exact=tenant.pk, left_at__isempty=1),
        note=note,
    )


def memberships_of(user: User) -> Table:
    rows, note = first_rows(user.memberships.select_related("tenant").order_by("tenant_id"))
    return Table(
        [_("Tenant"), _("Role"), _("Since"), _("Left")],
        [
            (link_to(each.tenant), each.get_role_display(), moment(each.created_at), moment(each.left_at))
            for each in rows
        ],
        more=page_of_list(TenantMembership, user__id__exact=user.pk),
        note=note,
    )


register_section(User, Section(_("Memberships"), "tenancy.view_tenantmembership", memberships_of))
