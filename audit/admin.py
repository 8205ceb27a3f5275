from django.contrib import admin
from django.db.models import Q

from audit.models import AuditLog
from keyhub.admin import OrganizationFilter, ReadOnlyAdmin, as_uuid


@admin.register(AuditLog)
class AuditLogAdmin(ReadOnlyAdmin):
    """Every query is by an index of the partitions: the table may have hundreds of millions of rows."""

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
        "created_at",
        "organization_id",
        "tenant_label",
        "actor_label",
        "action",
        "resource_type",
        "resource_id",
        "outcome",
    )
    list_filter = (OrganizationFilter, "created_at")
    search_fields = ("action",)  # shows the search box; get_search_results does the search
    search_help_text = (
        "Exactly an action, a resource type or “type id”, or the id of an organization, a tenant, a user or an entry."
    )
    ordering = ("-created_at", "-id")

    def get_search_results(self, request, queryset, search_term):
        term = search_term.strip()
        resource_type, _, resource_id = term.partition(" ")
        if not term:
            wanted = Q()
        elif some_id := as_uuid(term):
            wanted = Q(id=some_id) | Q(tenant_id=some_id) | Q(user_id=some_id)
        elif resource_id:
            wanted = Q(resource_type=resource_type, resource_id=resource_id)
        else:
            wanted = Q(organization_id=term) | Q(action=term) | Q(resource_type=term)
        return queryset.filter(wanted), False
