"""Organizations, to which tenants belong, and the domains that they own."""

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Length, Lower, Now
from django.db.models.lookups import Exact, LessThanOrEqual
from django.utils.translation import gettext_lazy as _

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.statements import MovingModel, rows_of
from orgs.domains import OrganizationDomainQuerySet
from orgs.organizations import OrganizationQuerySet

SLUG_FORM = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
# RFC 1123, section 2.1, in lower case; at least two labels.
HOST_NAME = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class Organization(MovingModel):
    """A customer. Its id is text and is given by whoever creates it (`ORG-DEFAULT-001`)."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        SUSPENDED = "suspended", _("Suspended")
        ARCHIVED = "archived", _("Archived")

    id = models.TextField(_("id"), primary_key=True)
    name = models.TextField(_("name"))
    slug = models.TextField(_("slug"))
    settings = models.JSONField(_("settings"), null=True, blank=True)
    status = models.TextField(_("status"), choices=Status, db_default=Status.ACTIVE)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated at"), db_default=Now(), editable=False)

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        db_table = "organizations"
        verbose_name = _("organization")
        verbose_name_plural = _("organizations")
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
                violation_error_message=_("Settings are a JSON object."),
            ),
            models.CheckConstraint(
                condition=Q(slug__regex=SLUG_FORM),
                name="check_organization_slug",
                violation_error_message=_("A slug is 1 to 63 of a-z, 0-9 and -, with no hyphen at either end."),
            ),
            models.CheckConstraint(
                condition=Q(name__regex=r"\S"),
                name="check_organization_name",
                violation_error_message=_("A name is not blank."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def suspend(self) -> bool:
        """As OrganizationQuerySet.suspend(); return whether the organization was active."""
        return self._changed(rows_of(self).filter(pk=self.pk).suspend())

    def resume(self) -> bool:
        """As OrganizationQuerySet.resume(); return whether the organization was suspended."""
        return self._changed(rows_of(self).filter(pk=self.pk).resume())

    def _changed(self, rows: int) -> bool:
        self.refresh_from_db()
        return rows == 1


class OrganizationDomain(MovingModel):
    """An e-mail domain that an organization claims; verified, it belongs to no other one."""

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    organization = DatabaseForeignKey(
        Organization, verbose_name=_("organization"), on_delete=OnDelete.CASCADE, related_name="domains"
    )
    domain = models.TextField(_("domain"))
    is_verified = models.BooleanField(_("is verified"), db_default=False)
    verified_at = models.DateTimeField(_("verified at"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    verification_token = models.TextField(_("verification token"), null=True, blank=True, editable=False)
    last_checked_at = models.DateTimeField(_("last checked at"), null=True, blank=True, editable=False)
    failed_checks = models.IntegerField(_("failed checks"), db_default=0, editable=False)

    objects = OrganizationDomainQuerySet.as_manager()

    class Meta:
        db_table = "organization_domains"
        verbose_name = _("organization domain")
        verbose_name_plural = _("organization domains")
        constraints = [
            models.UniqueConstraint(
                F("organization"),
                F("domain"),
                name="organization_domains_organization_id_domain_key",
                violation_error_message=_("The organization already claims the domain."),
            ),
            models.UniqueConstraint(
                Lower("domain"),
                condition=Q(is_verified=True),
                name="organization_domains_domain_key",
                violation_error_message=_("The domain is verified for another organization."),
            ),
            models.CheckConstraint(condition=Q(is_verified=Q(verified_at__isnull=False)), name="check_is_verified"),
            models.CheckConstraint(
                condition=Q(LessThanOrEqual(Length("domain"), 253), domain__regex=HOST_NAME),
                name="check_organization_domain",
                violation_error_message=_("A domain is a host name in lower case, such as example.com."),
            ),
            models.CheckConstraint(condition=Q(failed_checks__gte=0), name="check_failed_checks"),
        ]

    def __str__(self) -> str:
        return self.domain

    @property
    def txt_name(self) -> str:
        """Where the TXT record stands that proves the domain."""
        return f"_keyhub-challenge.{self.domain}"

    @property
    def txt_value(self) -> str:
        """What the TXT record says; of a domain that was claimed."""
        return f"keyhub-verification={self.verification_token}"
