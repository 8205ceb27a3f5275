import json
import re

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.forms.fields import InvalidJSONInput
from django.utils import timezone

from keyhub.admin import KeyHubAdmin, KeyHubInline, link_to_list
from orgs.domains import DomainRefusedError, a_labels
from orgs.models import Organization, OrganizationDomain
from tenancy.models import Tenant


class DomainForm(forms.ModelForm):
    """Ticking “is verified” sets the time, so that the two always agree (check_is_verified)."""

    def clean_domain(self):
        try:
            return a_labels(self.cleaned_data["domain"])
        except DomainRefusedError as error:
            raise ValidationError(str(error)) from error

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
        return ValidationError("A number or a character here cannot be stored.")


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
    search_help_text = "A part of the id, the name or the slug."
    ordering = ("name",)

    def get_queryset(self, request):
        tenants = Tenant.objects.filter(organization_id=OuterRef("pk")).order_by().values("organization_id")
        counted = Subquery(tenants.annotate(count=Count("*")).values("count"))
        return super().get_queryset(request).annotate(tenants_counted=Coalesce(counted, 0))

    @admin.display
    def tenants(self, organization: Organization) -> str:
        return link_to_list(organization.tenants_counted, Tenant, organization_id=organization.pk)


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
    search_help_text = "A part of the domain or of the organization's name."
    ordering = ("domain",)
