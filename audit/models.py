"""Who did what, when: rows outlive the tenants and users that they speak of."""

from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from audit.pages import PagedQuerySet
from audit.records import RecordingQuerySet


class AuditLogQuerySet(PagedQuerySet, RecordingQuerySet):
    """Recording (records.py), and reading page by page (pages.py)."""


class AuditLog(models.Model):
    """One event. The table is partitioned by UTC month of `created_at`: auditpartitions.py.

    Rows are added, never changed or deleted: sql/0005_audit_logs_append_only.up.sql refuses it, TRUNCATE included.

    There are no foreign keys: deleting a user must not erase what the user did. The labels keep the names of the day.
    """

    class Outcome(models.TextChoices):
        SUCCESS = "success"
        FAILURE = "failure"
        DENIED = "denied"

    # The table's primary key is (id, created_at), since a partitioned table's must hold the partition key. Django takes
    # id alone: the admin registers no model with a composite primary key.
    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    organization_id = models.TextField()
    tenant_id = models.UUIDField(null=True, blank=True)
    tenant_label = models.TextField(null=True, blank=True)
    user_id = models.UUIDField(null=True, blank=True)
    actor_label = models.TextField(null=True, blank=True)
    action = models.TextField()
    resource_type = models.TextField()
    resource_id = models.TextField(null=True, blank=True)
    details = models.JSONField(null=True, blank=True)
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.TextField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    outcome = models.TextField(choices=Outcome, null=True, blank=True)
    request_id = models.TextField(null=True, blank=True)

    objects = AuditLogQuerySet.as_manager()

    class Meta:
        db_table = "audit_logs"
        constraints = [
            models.CheckConstraint(
                condition=Q(outcome__in=["success", "failure", "denied"]), name="check_audit_outcome"
            )
        ]
        indexes = [
            BTreeIndex("organization_id", F("created_at").desc(), name="idx_audit_logs_organization"),
            BTreeIndex("tenant_id", F("created_at").desc(), name="idx_audit_logs_tenant"),
            BTreeIndex("user_id", F("created_at").desc(), name="idx_audit_logs_user"),
            BTreeIndex("action", F("created_at").desc(), name="idx_audit_logs_action"),
            BTreeIndex("resource_type", "resource_id", name="idx_audit_logs_resource"),
            BTreeIndex(F("created_at").desc(), F("id").desc(), name="idx_audit_logs_created_at"),
        ]

    def __str__(self) -> str:
        return f"{self.action} on {self.resource_type}"
