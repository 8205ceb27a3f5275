"""Organizations, to which tenants belong, and the domains that they own."""

from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Lower, Now
from django.db.models.lookups import Exact

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete


class Organization(models.Model):
    """A customer. Its id is text and is given by whoever creates it (`ORG-DEFAULT-001`)."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"
        ARCHIVED = "archived"

    id = models.TextField(primary_key=True)
    name = models.TextField()
    slug = models.TextField()
    settings = models.JSONField(null=True, blank=True)
    status = models.TextField(choices=Status, db_default=Status.ACTIVE)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "organizations"
        constraints = [
            models.UniqueConstraint(fields=["slug"], name="organizations_slug_key"),
            models.CheckConstraint(condition=~Q(id=""), name="check_organization_id"),
            models.CheckConstraint(
                condition=Q(status__in=["active", "suspended", "archived"]), name="check_organization_status"
            ),
            models.CheckConstraint(
                condition=Exact(
                    Func(F("settings"), function="jsonb_typeof", output_field=models.TextField()),
                    Value("object"),
                ),
                name="check_organization_settings",
                violation_error_message="Settings are a JSON object.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class OrganizationDomain(models.Model):
    """An e-mail domain that an organization claims; verified, it belongs to no other one."""

    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    organization = DatabaseForeignKey(Organization, on_delete=OnDelete.CASCADE, related_name="domains")
    domain = models.TextField()
    is_verified = models.BooleanField(db_default=False)
    verified_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "organization_domains"
        constraints = [
            models.UniqueConstraint(
                Lower("domain"),
                condition=Q(is_verified=True),
                name="organization_domains_domain_key",
                violation_error_message="The domain is verified for another organization.",
            ),
            models.CheckConstraint(condition=Q(is_verified=Q(verified_at__isnull=False)), name="check_is_verified"),
        ]
        indexes = [BTreeIndex(fields=["organization"], name="idx_organization_domains_org_id")]

    def __str__(self) -> str:
        return self.domain
