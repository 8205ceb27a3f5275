"""Join codes: issued, copied, revoked, and who used them."""

from datetime import timedelta
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Func, OuterRef, Q, Value
from django.db.models.functions import Now
from django.db.models.lookups import Exact
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from keyhub.admin import (
    LATEST_AUDIT_ROWS,
    KeyHubAdmin,
    Operation,
    Section,
    Table,
    link_to,
    offer,
    page_of_list,
    register_section,
)
from tenancy.admin.tables import first_rows, moment
from tenancy.join_codes import new_code
from tenancy.memberships import LastAdminError
from tenancy.models import (
    NORMALIZED_CODE,
    Tenant,
    TenantJoinCode,
    TenantJoinCodeRedemption,
)

EXPIRES_SOON = timedelta(days=7)


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
    rows, note = first_rows(code.redemptions.select_related("user", "membership").order_by("-redeemed_at"))
    return Table(
        [_("User"), _("Redeemed"), _("Membership")],
        [(link_to(each.user), moment(each.redeemed_at), state_of(each)) for each in rows],
        note=note,
    )


def state_of(redemption: TenantJoinCodeRedemption) -> str:
    membership = redemption.membership
    if membership.left_at is None:
        return _("active") if redemption.ended_at is None else _("active, by another way")
    return membership.get_left_reason_display() or _("left")


register_section(TenantJoinCode, Section(_("Who used it"), "tenancy.view_tenantmembership", redemptions_of))
register_section(TenantJoinCode, LATEST_AUDIT_ROWS)


def codes_of(tenant: Tenant) -> Table:
    rows, note = first_rows(tenant.join_codes.with_state().order_by("-created_at", "-id"))
    users = latest_users_of(rows)
    return Table(
        [_("Code"), _("Copy"), _("Role"), _("State"), _("Uses"), _("Expires"), _("Used last by")],
        [
            (link_to(each), copy(each), each.get_role_display(), state(each), uses(each), moment(each.expires_at),
             users.get(each.pk, "–"))
            for each in rows
        ],
        more=page_of_list(TenantJoinCode, tenant__id__exact=tenant.pk),
        add=f"{reverse('admin:tenancy_tenantjoincode_add')}?tenant={tenant.pk}",
        add_label=_("Issue a join code"),
        add_permission="tenancy.add_tenantjoincode",
        note=note,
    )  # fmt: skip


def latest_users_of(codes: list[TenantJoinCode]) -> dict[UUID, str]:
    """Who redeemed each of these codes last, by the code's id."""
    latest = TenantJoinCodeRedemption.objects.filter(join_code=OuterRef("pk")).order_by("-redeemed_at")
    used = TenantJoinCode.objects.filter(pk__in=[code.pk for code in codes], used_count__gt=0)
    rows = used.annotate(redemption=models.Subquery(latest.values("pk")[:1])).values_list("pk", "redemption")
    redemptions = TenantJoinCodeRedemption.objects.select_related("user").in_bulk([each for _code, each in rows])
    return {code: link_to(redemptions[each].user) for code, each in rows if each in redemptions}
