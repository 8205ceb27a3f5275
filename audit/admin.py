"""The audit log in the admin: read page by page, and downloaded. Nobody writes to it here."""

from datetime import UTC, date, datetime, time, timedelta

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, StreamingHttpResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import RangeDateFilter, TextFilter

from audit.downloads import FORMATS
from audit.models import AuditLog
from audit.pages import CursorError
from keyhub import replicas
from keyhub.admin import (
    AFTER,
    BEFORE,
    CHART_DAYS,
    Chart,
    KeysetPage,
    OrganizationFilter,
    Place,
    ReadOnlyAdmin,
    as_uuid,
    count_by_day,
    page_of_list,
    record,
    register,
)

SIGN_IN = "user.login"  # docs/guide.md


class ExactFilter(TextFilter):
    """By a whole value, which an index finds."""

    def queryset(self, request, queryset):
        return queryset.filter(**{self.parameter_name: self.value().strip()}) if self.value() else queryset


class ActionFilter(ExactFilter):
    title, parameter_name = _("action"), "action"


class ResourceTypeFilter(ExactFilter):
    title, parameter_name = _("type of resource"), "resource_type"


class ResourceIdFilter(ExactFilter):
    title, parameter_name = _("id of the resource"), "resource_id"


class UUIDFilter(ExactFilter):
    def queryset(self, request, queryset):
        if not self.value():
            return queryset
        some_id = as_uuid(self.value())
        return queryset.filter(**{self.parameter_name: some_id}) if some_id else queryset.none()


class TenantFilter(UUIDFilter):
    title, parameter_name = _("id of the tenant"), "tenant_id"


class UserFilter(UUIDFilter):
    title, parameter_name = _("id of the user"), "user_id"


class DayFilter(RangeDateFilter):
    """Whole UTC days, both included."""

    def queryset(self, request, queryset):
        begins, ends = (self._day(f"{self.parameter_name}_{end}") for end in ("from", "to"))
        if begins:
            queryset = queryset.filter(created_at__gte=begins)
        return queryset.filter(created_at__lt=ends + timedelta(days=1)) if ends else queryset

    def _day(self, name: str) -> datetime | None:
        try:
            text = self.used_parameters.get(name)
            return datetime.combine(date.fromisoformat(text), time(), UTC) if text else None
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error


@admin.register(AuditLog)
class AuditLogAdmin(ReadOnlyAdmin):
    """Every query is by an index of the partitions: the table may have hundreds of millions of rows."""

    change_list_template = "audit/change_list.html"
    fields = (
        "id",
        "created_at",
        "organization_id",
        "tenant_id",
        "tenant_label",
        "user_id",
        "actor_label",
        "action",
        "resource_type",
        "resource_id",
        "outcome",
        "details",
        "ip_address",
        "user_agent",
        "request_id",
    )
    list_display = (
        "to_the_second",
        "organization_id",
        "tenant_label",
        "actor_label",
        "action",
        "resource_type",
        "resource_id",
        "outcome",
    )
    list_filter = (
        OrganizationFilter,
        "outcome",
        ("created_at", DayFilter),
        ActionFilter,
        ResourceTypeFilter,
        ResourceIdFilter,
        TenantFilter,
        UserFilter,
    )
    list_filter_submit = True
    search_fields = ("action",)  # shows the search box; get_search_results does the search
    search_help_text = _(
        "Exactly an action, a resource type or “type id”, or the id of an organization, a tenant, a user or an entry."
    )
    ordering = ("-created_at", "-id")

    @admin.display(description=_("created at"))
    def to_the_second(self, row: AuditLog) -> str:
        return f"{row.created_at:%Y-%m-%d %H:%M:%S}"

    def get_page(self, queryset, after, before) -> KeysetPage:
        """Older pages alone: the log's own pages know no way back."""
        try:
            page = queryset.page(after, rows=self.list_per_page)
        except CursorError as error:
            raise IncorrectLookupParameters(error) from error
        return KeysetPage(page.rows, None, page.next)

    def get_search_results(self, request, queryset, search_term):
        term = search_term.strip()
        resource_type, _space, resource_id = term.partition(" ")
        if not term:
            wanted = Q()
        elif some_id := as_uuid(term):
            wanted = Q(id=some_id) | Q(tenant_id=some_id) | Q(user_id=some_id)
        elif resource_id:
            wanted = Q(resource_type=resource_type, resource_id=resource_id)
        else:
            wanted = Q(organization_id=term) | Q(action=term) | Q(resource_type=term)
        return queryset.filter(wanted), False

    # Downloads

    def get_urls(self):
        view = self.admin_site.admin_view(self.download_view)
        return [path("download/<slug:format>/", view, name="audit_auditlog_download"), *super().get_urls()]

    def changelist_view(self, request, extra_context=None):
        downloads = {}
        if request.user.has_perm("audit.export_auditlog"):
            query = request.GET.urlencode()
            downloads = {name: f"{reverse('admin:audit_auditlog_download', args=[name])}?{query}" for name in FORMATS}
        return super().changelist_view(request, (extra_context or {}) | {"downloads": downloads})

    def download_view(self, request, format: str):  # noqa: A002 the word of the address
        """The rows that the list shows by the same filters, all of them as they are at this moment.

        A replica is read as soon as it has come to this moment; what comes before that is read from the primary.
        """
        if not request.user.has_perm("audit.export_auditlog") or not self.has_view_permission(request):
            raise PermissionDenied
        if format not in FORMATS:
            raise Http404
        request.GET = filters = request.GET.copy()
        for cursor in (AFTER, BEFORE):  # wherever the list is, all of it is downloaded
            filters.pop(cursor, None)
        rows = self.get_changelist_instance(request).queryset
        moment = timezone.now()
        record(request, "export", AuditLog(), Place(), {"format": format, "filters": filters.dict()})
        write, content_type = FORMATS[format]
        response = StreamingHttpResponse(content_type=content_type)
        since = replicas.remember_writes(response)
        response.streaming_content = write(rows.filter(created_at__lt=moment), since)
        response["Content-Disposition"] = f'attachment; filename="audit-{moment:%Y%m%dT%H%M%SZ}.{format}"'
        response["X-Accel-Buffering"] = "no"
        return response


def _list_of_a_day(day: date, **lookups: str) -> str:
    return page_of_list(AuditLog, created_at_from=day.isoformat(), created_at_to=day.isoformat(), **lookups)


register(
    Chart(
        "sign_ins",
        _("Sign-ins per day"),
        "audit.view_auditlog",
        lambda: count_by_day(AuditLog.objects.filter(action=SIGN_IN), "created_at", CHART_DAYS),
        lambda day: _list_of_a_day(day, action=SIGN_IN),
    ),
    Chart(
        "audit_activity",
        _("Audit rows per day"),
        "audit.view_auditlog",
        lambda: count_by_day(AuditLog.objects.all(), "created_at", CHART_DAYS),
        _list_of_a_day,
    ),
)
