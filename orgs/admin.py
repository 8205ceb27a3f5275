import json
import re

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import OuterRef, Q, QuerySet
from django.forms.fields import InvalidJSONInput
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from keyhub import placement
from keyhub.admin import (
    LATEST_AUDIT_ROWS,
    KeyHubAdmin,
    KeyHubInline,
    Operation,
    Place,
    counted_in_a_list,
    in_words,
    link_to_list,
    offer,
    register_refusals,
    register_section,
    told,
)
from orgs.domains import DomainRefusedError, a_labels
from orgs.models import Organization, OrganizationDomain
from tenancy.models import Tenant

register_refusals(gettext_noop("This is no domain: give a host name such as example.com."))


class DomainForm(forms.ModelForm):
    """Ticking “is verified” sets the time, so that the two always agree (check_is_verified)."""

    def clean_domain(self):
        try:
            return a_labels(self.cleaned_data["domain"])
        except DomainRefusedError as error:
            raise ValidationError(in_words(error)) from error

    def clean(self):
        super().clean()
        if not self.cleaned_data.get("is_verified"):
            self.instance.verified_at = None
        elif self.instance.verified_at is None:
            self.instance.verified_at = timezone.now()


class OrganizationDomainInline(KeyHubInline):
    model = OrganizationDomain
    form = DomainForm
    fk_name = "organization"
    fields = ("domain", "is_verified", "verified_at")
    readonly_fields = ("verified_at",)


class StorableJSONField(forms.JSONField):
    """Refuses what Python takes for JSON and PostgreSQL does not: NaN, a NUL, one half of a surrogate pair."""

    NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

    def to_python(self, value):
        try:
            value = super().to_python(value)
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
            text.encode()
        except (ValueError, RecursionError) as error:
            raise self._cannot_be_stored() from error
        if self.NUL.search(text):
            raise self._cannot_be_stored()
        return value

    def bound_data(self, data, initial):
        try:
            self.to_python(data)
        except ValidationError:
            return InvalidJSONInput(data)  # shown as it was typed
        return super().bound_data(data, initial)

    def _cannot_be_stored(self) -> ValidationError:
        return ValidationError(_("A number or a character here cannot be stored."))


class OrganizationForm(forms.ModelForm):
    class Meta:
        field_classes = {"settings": StorableJSONField}

    def _get_validation_exclusions(self):
        # Django shows an empty `settings` to check_organization_settings as the JSON null, not as the NULL that it is.
        is_empty = self.cleaned_data.get("settings") is None
        return super()._get_validation_exclusions() | ({"settings"} if is_empty else set())


@admin.register(Organization)
class OrganizationAdmin(KeyHubAdmin):
    form = OrganizationForm
    fields = ("id", "name", "slug", "settings", "status", "created_at", "updated_at")
    readonly_fields = ("created_at", "updated_at")
    settled_fields = ("id",)
    inlines = (OrganizationDomainInline,)
    list_display = ("name", "id", "slug", "status", "tenants", "created_at")
    list_filter = ("status",)
    search_fields = ("id", "name", "slug")
    search_help_text = _("The id, or a part of it, of the name or of the slug.")
    ordering = ("name", "id")

    def exactly(self, term: str) -> Q:
        return Q(pk=term) | Q(slug=term)

    def place_of(self, row: Organization) -> Place:
        return Place(row.pk)

    def get_queryset(self, request):
        rows = super().get_queryset(request)
        return rows if rows.db == placement.ADMIN else with_tenants_counted(rows)

    def get_page(self, queryset, after, before):
        page = super().get_page(queryset, after, before)
        if queryset.db == placement.ADMIN:
            # The tenants are in another database, beside a copy of the organizations.
            copies = Organization.objects.using(router.db_for_read(Tenant)).filter(pk__in=[row.pk for row in page.rows])
            counted = dict(with_tenants_counted(copies).values_list("pk", "tenants_counted"))
            for row in page.rows:
                row.tenants_counted = counted.get(row.pk, 0)
        return page

    @admin.display(description=_("tenants"))
    def tenants(self, organization: Organization) -> str:
        return link_to_list(told(organization.tenants_counted), Tenant, organization_id=organization.pk)


def with_tenants_counted(organizations: QuerySet) -> QuerySet:
    tenants = Tenant.objects.filter(organization_id=OuterRef("pk"))
    return organizations.annotate(tenants_counted=counted_in_a_list(tenants))


def is_a_change(organization: Organization, changed: bool) -> dict | None:
    return {"status": organization.status} if changed else None


offer(
    Organization,
    Operation(
        "suspend",
        _("Suspend"),
        _("No session can act in their tenants, and their consoles close. They can be resumed."),
        "orgs.change_organization",
        lambda organization, options: is_a_change(organization, organization.suspend()),
        done=_("Suspended: %(done)d of %(selected)d."),
        icon="pause_circle",
        applies=lambda organization: organization.status == Organization.Status.ACTIVE,
        is_for_many=False,
    ),
)
offer(
    Organization,
    Operation(
        "resume",
        _("Resume"),
        _("Sessions can act in their tenants again. Sessions that ended stay ended."),
        "orgs.change_organization",
        lambda organization, options: is_a_change(organization, organization.resume()),
        done=_("Resumed: %(done)d of %(selected)d."),
        icon="play_circle",
        applies=lambda organization: organization.status == Organization.Status.SUSPENDED,
        is_for_many=False,
        is_dangerous=False,
    ),
)
register_section(Organization, LATEST_AUDIT_ROWS)


@admin.register(OrganizationDomain)
class OrganizationDomainAdmin(KeyHubAdmin):
    form = DomainForm
    fields = ("organization", "domain", "is_verified", "verified_at", "created_at")
    readonly_fields = ("verified_at", "created_at")
    settled_fields = ("organization",)
    autocomplete_fields = ("organization",)
    list_display = ("domain", "organization", "is_verified", "verified_at")
    list_select_related = ("organization",)
    list_filter = ("is_verified",)
    search_fields = ("domain", "organization__name")
    search_help_text = _("The domain, or a part of it or of the organization's name.")
    ordering = ("organization_id", "domain")

    def exactly(self, term: str) -> Q:
        return Q(domain=term.lower())
