"""Tenants, their people, codes and groups in the admin."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Func, OuterRef, Q, Value
from django.db.models.functions import Lower, Now
from django.db.models.lookups import Exact
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop, ngettext

from accounts.models import User
from keyhub.admin import (
    LATEST_AUDIT_ROWS,
    KeyHubAdmin,
    KeyHubInline,
    Number,
    Operation,
    OrganizationFilter,
    Section,
    Table,
    count_of,
    counted_in_a_list,
    link_to,
    link_to_list,
    offer,
    page_of_list,
    register,
    register_refusals,
    register_section,
    told,
    validate_organization_id,
)
from tenancy.join_codes import new_code
from tenancy.memberships import LastAdminError, MembershipError
from tenancy.models import (
    DEEPEST_GROUP,
    NORMALIZED_CODE,
    Group,
    GroupMembership,
    Tenant,
    TenantJoinCode,
    TenantJoinCodeRedemption,
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

EXPIRES_SOON = timedelta(days=7)
MOST_ROWS_SHOWN = 50
MOST_GROUPS_SHOWN = 200


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


def of_the_user(email: str) -> Q:
    return Q(user__in=User.objects.filter(Exact(Lower("email"), Lower(Value(email)))))


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
        return of_the_user(term)


# Join codes


class Revocation(forms.Form):
    cascade = forms.BooleanField(
        required=False,
        label=_("Revoke everything it gave"),
        help_text=_("Who became a member by it, and has not come back by another way since, is a member no more."),
    )


def revoke(code: TenantJoinCode, options: dict) -> dict | None:
    if code.revoked_at is not None and not options["cascade"]:
        return None
    return {"cascade": options["cascade"], "memberships": code.revoke(cascade=options["cascade"])}


def memberships_taken(done: list[dict]) -> str:
    taken = sum(details["memberships"] for details in done)
    if not any(details["cascade"] for details in done):
        return ""
    return ngettext("%(number)d membership was taken back.", "%(number)d memberships were taken back.", taken) % {
        "number": taken
    }


offer(
    TenantJoinCode,
    Operation(
        "revoke",
        _("Revoke"),
        _("Nobody is let in by these codes any more. This cannot be undone; new codes can be issued."),
        "tenancy.revoke_tenantjoincode",
        revoke,
        done=_("Revoked: %(done)d of %(selected)d."),
        icon="key_off",
        options=Revocation,
        refusals=(LastAdminError,),
        summary=memberships_taken,
    ),
)


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request, model_admin):
        return [*TenantJoinCode.State.choices, ("expiring", _("Active, expires within 7 days"))]

    def queryset(self, request, queryset):
        if self.value() == "expiring":
            return expiring(queryset)
        return queryset.in_state(self.value()) if self.value() else queryset


def expiring(codes: models.QuerySet) -> models.QuerySet:
    return codes.redeemable().filter(expires_at__lte=Now() + EXPIRES_SOON)


class JoinCodeForm(forms.ModelForm):
    """A new code is random unless somebody has chosen one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.instance._state.adding and "code" in self.fields:
            self.fields["code"].required = False
            self.fields["code"].help_text = _("Empty: a random one.")

    def clean_code(self):
        return self.cleaned_data["code"] or new_code()

    def _get_validation_exclusions(self):
        # max_uses is judged by used_count, which is no field of the form.
        return super()._get_validation_exclusions() - {"used_count"}


@admin.display(description=_("state"))
def state(code: TenantJoinCode) -> str:
    return "-" if code._state.adding else TenantJoinCode.State(code.state).label


@admin.display(description=_("uses"))
def uses(code: TenantJoinCode) -> str:
    if code._state.adding:
        return "-"
    if not code.max_uses:
        return _("%(used)d, no limit") % {"used": code.used_count}
    return _("%(used)d of %(most)d") % {"used": code.used_count, "most": code.max_uses}


@admin.display(description=_("copy"))
def copy(code: TenantJoinCode) -> str:
    return format_html(
        '<button type="button" class="keyhub-button keyhub-copy" data-copy="{code}" data-copied="{copied}" '
        'aria-label="{label}">{copy}</button>',
        code=code.code, copied=_("Copied"), copy=_("Copy"), label=_("Copy %(code)s") % {"code": code.code},
    )  # fmt: skip


@admin.register(TenantJoinCode)
class TenantJoinCodeAdmin(KeyHubAdmin):
    form = JoinCodeForm
    fields = (
        "tenant", "code", copy, "role", "max_uses", "expires_at", "created_by", uses, state, "revoked_at", "created_at",
    )  # fmt: skip
    readonly_fields = (copy, uses, state, "revoked_at", "created_at")
    settled_fields = ("tenant",)
    autocomplete_fields = ("tenant", "created_by")
    list_display = ("code", copy, "tenant_link", "role", state, uses, "expires_at", "created_by")
    list_select_related = ("tenant", "created_by")
    list_filter = (StateFilter, "role")
    search_fields = ("code", "tenant__name")
    search_help_text = _("A code, in any case and spacing, or a part of it or of the tenant's name.")
    ordering = ("-created_at", "-id")

    def get_queryset(self, request):
        return super().get_queryset(request).with_state()

    def get_changeform_initial_data(self, request):
        """As TenantJoinCode.objects.issue(): once, within a week."""
        return {"max_uses": 1, "expires_at": timezone.now() + EXPIRES_SOON} | super().get_changeform_initial_data(
            request
        )

    def exactly(self, term: str) -> Q:
        asked = Func(Value(term), function="normalize_join_code", output_field=models.TextField())
        return Q(Exact(NORMALIZED_CODE, asked))

    @admin.display(description=_("tenant"))
    def tenant_link(self, code: TenantJoinCode) -> str:
        return link_to(code.tenant)


def redemptions_of(code: TenantJoinCode) -> Table:
    rows = code.redemptions.select_related("user", "membership").order_by("-redeemed_at")[: MOST_ROWS_SHOWN + 1]
    return Table(
        [_("User"), _("Redeemed"), _("Membership")],
        [(link_to(each.user), moment(each.redeemed_at), state_of(each)) for each in rows[:MOST_ROWS_SHOWN]],
        note=first_of(rows),
    )


def state_of(redemption: TenantJoinCodeRedemption) -> str:
    membership = redemption.membership
    if membership.left_at is None:
        return _("active") if redemption.ended_at is None else _("active, by another way")
    return membership.get_left_reason_display() or _("left")


def first_of(rows: Sequence) -> str:
    return _("The first %(number)d are shown.") % {"number": MOST_ROWS_SHOWN} if len(rows) > MOST_ROWS_SHOWN else ""


def moment(time: datetime | None) -> str:
    return "–" if time is None else f"{time:%Y-%m-%d %H:%M}"


register_section(TenantJoinCode, Section(_("Who used it"), "tenancy.view_tenantmembership", redemptions_of))
register_section(TenantJoinCode, LATEST_AUDIT_ROWS)


# The page of a tenant


def members_of(tenant: Tenant) -> Table | None:
    """Where they are too many for the form above."""
    rows = list(tenant.memberships.active().select_related("user").order_by("user_id")[: MOST_ROWS_SHOWN + 1])
    if len(rows) <= MOST_ROWS_SHOWN:
        return None
    return Table(
        [_("User"), _("Role"), _("Since")],
        [(link_to(each.user), each.get_role_display(), moment(each.created_at)) for each in rows[:MOST_ROWS_SHOWN]],
        more=page_of_list(TenantMembership, tenant__id__exact=tenant.pk, left_at__isempty=1),
        note=first_of(rows),
    )


def codes_of(tenant: Tenant) -> Table:
    rows = list(tenant.join_codes.with_state().order_by("-created_at", "-id")[: MOST_ROWS_SHOWN + 1])
    users = latest_users_of(rows[:MOST_ROWS_SHOWN])
    return Table(
        [_("Code"), _("Copy"), _("Role"), _("State"), _("Uses"), _("Expires"), _("Used last by")],
        [
            (link_to(each), copy(each), each.get_role_display(), state(each), uses(each), moment(each.expires_at),
             users.get(each.pk, "–"))
            for each in rows[:MOST_ROWS_SHOWN]
        ],
        more=page_of_list(TenantJoinCode, tenant__id__exact=tenant.pk),
        add=f"{reverse('admin:tenancy_tenantjoincode_add')}?tenant={tenant.pk}",
        add_label=_("Issue a join code"),
        add_permission="tenancy.add_tenantjoincode",
        note=first_of(rows),
    )  # fmt: skip


def latest_users_of(codes: list[TenantJoinCode]) -> dict[UUID, str]:
    """Who redeemed each of these codes last, by the code's id."""
    latest = TenantJoinCodeRedemption.objects.filter(join_code=OuterRef("pk")).order_by("-redeemed_at")
    used = TenantJoinCode.objects.filter(pk__in=[code.pk for code in codes], used_count__gt=0)
    rows = used.annotate(redemption=models.Subquery(latest.values("pk")[:1])).values_list("pk", "redemption")
    redemptions = TenantJoinCodeRedemption.objects.select_related("user").in_bulk([each for _code, each in rows])
    return {code: link_to(redemptions[each].user) for code, each in rows if each in redemptions}


def groups_of(tenant: Tenant) -> Table:
    found = list(tenant.groups.order_by("depth", "name", "id")[: MOST_GROUPS_SHOWN + 1])
    children = defaultdict(list)
    for group in found[:MOST_GROUPS_SHOWN]:
        children[group.parent_group_id].append(group)
    in_order, above = [], list(reversed(children[None]))
    while above:
        in_order.append(group := above.pop())
        above += reversed(children[group.pk])
    note = _("The first %(number)d are shown.") % {"number": MOST_GROUPS_SHOWN}
    return Table(
        [_("Group"), _("Description"), _("People")],
        [
            (link_to(each), each.description, link_to_list(_("people"), GroupMembership, group__id__exact=each.pk))
            for each in in_order
        ],
        more=page_of_list(Group, tenant__id__exact=tenant.pk),
        note=note if len(found) > MOST_GROUPS_SHOWN else "",
        depths=[each.depth for each in in_order],
    )


register_section(Tenant, Section(_("Members"), "tenancy.view_tenantmembership", members_of))
register_section(Tenant, Section(_("Join codes"), "tenancy.view_tenantjoincode", codes_of))
register_section(Tenant, Section(_("Groups"), "tenancy.view_group", groups_of))
register_section(Tenant, LATEST_AUDIT_ROWS)


# Of a user


def memberships_of(user: User) -> Table:
    rows = user.memberships.select_related("tenant").order_by("tenant_id")[: MOST_ROWS_SHOWN + 1]
    return Table(
        [_("Tenant"), _("Role"), _("Since"), _("Left")],
        [
            (link_to(each.tenant), each.get_role_display(), moment(each.created_at), moment(each.left_at))
            for each in rows[:MOST_ROWS_SHOWN]
        ],
        more=page_of_list(TenantMembership, user__id__exact=user.pk),
        note=first_of(rows),
    )


register_section(User, Section(_("Memberships"), "tenancy.view_tenantmembership", memberships_of))

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
        return of_the_user(term)

    def tenant_of(self, row: GroupMembership) -> Tenant:
        return row.group.tenant


register(
    Number("tenants", _("Tenants"), "tenancy.view_tenant", lambda: count_of(Tenant.objects.all()),
           lambda: page_of_list(Tenant)),
    Number("members", _("Active members"), "tenancy.view_tenantmembership",
           lambda: count_of(TenantMembership.objects.active()),
           lambda: page_of_list(TenantMembership, left_at__isempty=1)),
    Number("expiring", _("Codes that expire soon"), "tenancy.view_tenantjoincode",
           lambda: count_of(expiring(TenantJoinCode.objects.all())),
           lambda: page_of_list(TenantJoinCode, state="expiring"), hint=_("active, within 7 days")),
    Number("exhausted", _("Codes used up"), "tenancy.view_tenantjoincode",
           lambda: count_of(TenantJoinCode.objects.in_state(TenantJoinCode.State.EXHAUSTED)),
           lambda: page_of_list(TenantJoinCode, state="exhausted")),
)  # fmt: skip
