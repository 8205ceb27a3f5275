"""Organizations, to which tables of other apps refer by a text column."""

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

MOST_ORGANIZATIONS_LISTED = 100


def validate_organization_id(organization_id: str) -> None:
    """Raises ValidationError where there is no such organization."""
    if not apps.get_model("orgs", "Organization").objects.filter(pk=organization_id).exists():
        raise ValidationError(_("There is no organization with this id."))


class OrganizationFilter(admin.SimpleListFilter):
    """Lists organizations from their own table: the values of a large one are never collected."""

    title = gettext_lazy("organization")
    parameter_name = "organization_id"

    def lookups(self, request, model_admin) -> list[tuple[str, str]]:
        organizations = apps.get_model("orgs", "Organization").objects.order_by("name").values_list("id", "name")
        first = list(organizations[: MOST_ORGANIZATIONS_LISTED + 1])
        if len(first) > MOST_ORGANIZATIONS_LISTED:
            self.title = _("organization (the first %(number)d by name)") % {"number": MOST_ORGANIZATIONS_LISTED}
        return first[:MOST_ORGANIZATIONS_LISTED]

    def queryset(self, request, queryset):
        return queryset.filter(organization_id=self.value()) if self.value() else queryset
