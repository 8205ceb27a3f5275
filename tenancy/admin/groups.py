"""Groups of a tenant's people."""

from collections import defaultdict

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from keyhub.admin import (
    KeyHubAdmin,
    Table,
    link_to,
    link_to_list,
    page_of_list,
)
from tenancy.admin.members import MemberInline
from tenancy.admin.tables import first_rows
from tenancy.models import (
    DEEPEST_GROUP,
    Group,
    GroupMembership,
    Tenant,
)

MOST_GROUPS_SHOWN = 200


class GroupMembershipInline(MemberInline):
    model = GroupMembership
    fk_name = "group"
    fields = ("user", "role")


class GroupForm(forms.ModelForm):
    def clean_parent_group(self):
        parent = self.cleaned_data["parent_group"]
        if parent is None:
            return None
        tenant_id = self.cleaned_data["tenant"].pk if "tenant" in self.cleaned_data else self.instance.tenant_id
        if tenant_id and parent.tenant_id != tenant_id:
            raise ValidationError(_("The parent is a group of another tenant."))
        ancestor = parent
        while ancestor:
            if ancestor == self.instance:
                raise ValidationError(_("A group cannot be below itself."))
            ancestor = ancestor.parent_group
        if parent.depth == DEEPEST_GROUP:
            raise ValidationError(_("Groups are nested too deeply."))
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
    search_help_text = _("A part of the group's or the tenant's name.")
    ordering = ("tenant_id", "id")


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
    search_help_text = _("The user's e-mail or a part of it.")
    ordering = ("group_id", "user_id")

    def exactly(self, term: str) -> Q:
        return Q(user__in=User.objects.with_email(term))

    def tenant_of(self, row: GroupMembership) -> Tenant:
        return row.group.tenant


def groups_of(tenant: Tenant) -> Table:
    found, note = first_rows(tenant.groups.order_by("depth", "name", "id"), MOST_GROUPS_SHOWN)
    children = defaultdict(list)
    for group in found:
        children[group.parent_group_id].append(group)
    in_order, above = [], list(reversed(children[None]))
    while above:
        in_order.append(group := above.pop())
        above += reversed(children[group.pk])
    return Table(
        [_("Group"), _("Description"), _("People")],
        [
            (link_to(each), each.description, link_to_list(_("people"), GroupMembership, group__id__exact=each.pk))
            for each in in_order
        ],
        more=page_of_list(Group, tenant__id__exact=tenant.pk),
        note=note,
        depths=[each.depth for each in in_order],
    )
