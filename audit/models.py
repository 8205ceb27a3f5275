"""Who did what, when: rows outlive the tenants and users that they speak of."""

from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from audit.export import ExportingQuerySet
from audit.pages import PagedQuerySet
from audit.records import RecordingQuerySet
from keyhub.transaction_ids import CurrentTransactionId, TransactionIdField

SHA_256 = "^[0-9a-f]{64}$"


class AuditLogQuerySet(PagedQuerySet, ExportingQuerySet, RecordingQuerySet):
    """Recording (records.py), reading page by page (pages.py), and shipping to elsewhere (export.py)."""


class AuditLog(models.Model):
    """One event. The table is partitioned by UTC month of `created_at`: auditpartitions.py.

    Rows are added, never changed or deleted: sql/0005_audit_logs_append_only.up.sql refuses it, TRUNCATE included.

    There are no foreign keys: deleting a user must not erase what the user did. The labels keep the names of the day.
    """

    class Outcome(models.TextChoices):
        SUCCESS = "success", _("Success")
        FAILURE = "failure", _("Failure")
        DENIED = "denied", _("Denied")

    # The table's primary key is (id, created_at), since a partitioned table's must hold the partition key. Django takes
    # id alone: the admin registers no model with a composite primary key.
    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    organization_id = models.TextField(_("organization id"))
    tenant_id = models.UUIDField(_("tenant id"), null=True, blank=True)
    tenant_label = models.TextField(_("tenant label"), null=True, blank=True)
    user_id = models.UUIDField(_("user id"), null=True, blank=True)
    actor_label = models.TextField(_("actor label"), null=True, blank=True)
    action = models.TextField(_("action"))
    resource_type = models.TextField(_("resource type"))
    resource_id = models.TextField(_("resource id"), null=True, blank=True)
    details = models.JSONField(_("details"), null=True, blank=True)
    ip_address = models.GenericIPAddressField(_("ip address"), null=True, blank=True)
    user_agent = models.TextField(_("user agent"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    outcome = models.TextField(_("outcome"), choices=Outcome, null=True, blank=True)
    request_id = models.TextField(_("request id"), null=True, blank=True)
    # Of the transaction that wrote the row, for export(); NULL in rows from before the column. The database gives it.
    transaction_id = TransactionIdField(
        _("transaction id"), db_default=CurrentTransactionId(), editable=False, null=True
    )

    objects = AuditLogQuerySet.as_manager()

    class Meta:
        db_table = "audit_logs"
        verbose_name = _("audit log")
        verbose_name_plural = _("audit logs")
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
            BTreeIndex(F("created_at").desc(), F("id").desc(), name="idx_audit_logs_created_at"),
            BTreeIndex("resource_type", "resource_id", F("created_at").desc(), name="idx_audit_logs_resource_created"),
            BTreeIndex(fields=["transaction_id", "id"], name="idx_audit_logs_transaction"),
        ]
        permissions = [("export_auditlog", gettext_noop("Can export the audit log"))]

    def __str__(self) -> str:
        return gettext("%(action)s on %(resource)s") % {"action": self.action, "resource": self.resource_type}


class AuditSeal(models.Model):
    """What a month held when it was closed: seals.py. `previous` is the digest of the seal before, so that none can be
    changed or taken away alone. Names have a digest of their own, which is made anew when a person's name is erased.
    """

    number = models.IntegerField(_("number"), primary_key=True)
    month = models.DateField(_("month"))
    rows = models.BigIntegerField(_("rows"))
    digest = models.TextField(_("digest"), help_text=_("SHA-256 of the month's rows without the names."))
    previous = models.TextField(_("previous"), help_text=_("SHA-256 of the seal before; zeros in the first."))
    signature = models.TextField(_("signature"))
    names_digest = models.TextField(_("names digest"), help_text=_("SHA-256 of the month's names."))
    names_signature = models.TextField(_("names signature"))
    sealed_at = models.DateTimeField(_("sealed at"), db_default=Now(), editable=False)

    class Meta:
        db_table = "audit_seals"
        verbose_name = _("audit seal")
        verbose_name_plural = _("audit seals")
        constraints = [
            models.UniqueConstraint(fields=["month"], name="audit_seals_month_key"),
            models.CheckConstraint(condition=Q(number__gt=0), name="check_audit_seal_number"),
            models.CheckConstraint(condition=Q(month__day=1), name="check_audit_seal_month"),
            models.CheckConstraint(condition=Q(rows__gte=0), name="check_audit_seal_rows"),
            models.CheckConstraint(
                condition=Q(digest__regex=SHA_256, previous__regex=SHA_256, names_digest__regex=SHA_256),
                name="check_audit_seal_digests",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class AuditArchive(models.Model):
    """A sealed month in the store of archives (archives.py), and what became of its partition (retirement.py)."""

    month = models.DateField(_("month"), primary_key=True)
    folder = models.TextField(_("folder"), help_text=_("Below the URL of the store."))
    rows_bytes = models.BigIntegerField(_("rows bytes"))
    rows_sha256 = models.TextField(_("rows sha256"))
    names_file = models.TextField(_("names file"))
    names_bytes = models.BigIntegerField(_("names bytes"))
    names_sha256 = models.TextField(_("names sha256"))
    archived_at = models.DateTimeField(_("archived at"), db_default=Now(), editable=False)
    detached_at = models.DateTimeField(_("detached at"), null=True, blank=True)
    dropped_at = models.DateTimeField(_("dropped at"), null=True, blank=True)

    class Meta:
        db_table = "audit_archives"
        verbose_name = _("audit archive")
        verbose_name_plural = _("audit archives")
        constraints = [
            models.CheckConstraint(condition=Q(rows_bytes__gt=0, names_bytes__gt=0), name="check_audit_archive_bytes"),
            models.CheckConstraint(
                condition=Q(rows_sha256__regex=SHA_256, names_sha256__regex=SHA_256), name="check_audit_archive_digests"
            ),
            models.CheckConstraint(
                condition=Q(dropped_at__isnull=True) | Q(detached_at__isnull=False), name="check_audit_archive_dropped"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"
