"""End users with their OAuth identities, and the operators of the admin site, who are no users."""

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Length, Lower, Now
from django.db.models.lookups import LessThanOrEqual
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from accounts.identities import UserIdentityQuerySet
from accounts.users import UserQuerySet
from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.statements import rows_of

# Modest: what delivers mail, only mail tells. RFC 5321, sections 2.3.11, 4.1.2 and 4.5.3.1.3.
EMAIL_FORM = r"^[^@\s\u0001-\u001f\u007f]+@[^@.\s\u0001-\u001f\u007f]+(\.[^@.\s\u0001-\u001f\u007f]+)*$"
LONGEST_EMAIL = 254


class User(models.Model):
    """A person who signs in by an outside identity provider. Never an operator of the admin."""

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    email = models.TextField(_("email"))
    email_verified_at = models.DateTimeField(
        _("email verified at"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Emptied by the database when the e-mail changes."),
    )
    name = models.TextField(_("name"), null=True, blank=True)
    icon = models.TextField(_("icon"), null=True, blank=True, help_text=_("Address of a picture."))
    disabled_at = models.DateTimeField(_("disabled at"), null=True, blank=True)
    anonymized_at = models.DateTimeField(_("anonymized at"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated at"), db_default=Now(), editable=False)

    objects = UserQuerySet.as_manager()

    class Meta:
        db_table = "users"
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="idx_users_email",
                violation_error_message=_("There is already a user with this e-mail."),
            ),
            models.CheckConstraint(
                condition=Q(LessThanOrEqual(Length("email"), LONGEST_EMAIL), email__regex=EMAIL_FORM),
                name="check_user_email",
                violation_error_message=_("The e-mail is no address, or longer than 254 characters."),
            ),
            # Else somebody could take the address that an anonymized user is to get.
            models.CheckConstraint(
                condition=Q(anonymized_at__isnull=False) | ~Q(email__iregex=r"@anonymized\.invalid$"),
                name="check_user_email_reserved",
                violation_error_message=_("Addresses at anonymized.invalid are those of anonymized users."),
            ),
            models.CheckConstraint(
                condition=Q(name__regex=r"\S"),
                name="check_user_name",
                violation_error_message=_("A name is not blank. Leave it empty where there is none."),
            ),
            models.CheckConstraint(
                condition=Q(anonymized_at__isnull=True) | Q(disabled_at__isnull=False),
                name="check_user_anonymized",
                violation_error_message=_("An anonymized user stays disabled."),
            ),
        ]
        indexes = [BTreeIndex(models.F("created_at").desc(), name="idx_users_created_at")]
        permissions = [
            ("disable_user", gettext_noop("Can disable and enable users")),
            ("anonymize_user", gettext_noop("Can anonymize users")),
        ]

    def __str__(self) -> str:
        return self.email

    def disable(self) -> bool:
        """As UserQuerySet.disable(); return whether the user was not disabled yet."""
        return self._changed(rows_of(self).filter(pk=self.pk).disable())

    def enable(self) -> bool:
        """As UserQuerySet.enable(); return whether the user was disabled, and not anonymized."""
        return self._changed(rows_of(self).filter(pk=self.pk).enable())

    def anonymize(self) -> bool:
        """As UserQuerySet.anonymize(); return whether the user was not anonymized yet."""
        return self._changed(rows_of(self).filter(pk=self.pk).anonymize())

    def _changed(self, rows: int) -> bool:
        self.refresh_from_db()
        return rows == 1


class UserIdentity(models.Model):
    """An account at an OAuth provider. One outside identity belongs to one user: RFC 7519 `iss` and `sub`."""

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    user = DatabaseForeignKey(User, verbose_name=_("user"), on_delete=OnDelete.CASCADE, related_name="identities")
    provider = models.TextField(_("provider"))
    provider_sub = models.TextField(_("provider sub"), help_text=_("The provider's own, unchanging id of the person."))
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated at"), db_default=Now(), editable=False)

    objects = UserIdentityQuerySet.as_manager()

    class Meta:
        db_table = "user_identities"
        verbose_name = _("user identity")
        verbose_name_plural = _("user identities")
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "provider_sub"],
                name="idx_user_identities_provider_sub",
                violation_error_message=_("This outside identity already belongs to a user."),
            ),
            models.CheckConstraint(
                condition=Q(~Q(provider=""), LessThanOrEqual(Length("provider"), 255)),
                name="check_user_identity_provider",
                violation_error_message=_("A provider is named by 1 to 255 characters."),
            ),
            # OpenID Connect Core 1.0, section 2, `sub`.
            models.CheckConstraint(
                condition=Q(~Q(provider_sub=""), LessThanOrEqual(Length("provider_sub"), 255)),
                name="check_user_identity_provider_sub",
                violation_error_message=_("A provider's id of a person has 1 to 255 characters."),
            ),
        ]
        indexes = [BTreeIndex(fields=["user"], name="idx_user_identities_user_id")]

    def __str__(self) -> str:
        return f"{self.provider}:{self.provider_sub}"

    def unlink(self) -> bool:
        """As UserIdentityQuerySet.unlink()."""
        return rows_of(self).unlink(self.user, self.provider, self.provider_sub)


class OperatorManager(BaseUserManager["Operator"]):
    def get_by_natural_key(self, email: str) -> "Operator":
        return self.get(email=email.strip().lower())

    def create_user(self, email: str, password: str | None = None, **fields) -> "Operator":
        """Create an operator; without a password, one that cannot log in."""
        operator = self.model(email=email, **fields)
        operator.clean()
        operator.set_password(password)
        operator.save(using=self._db)
        return operator

    def create_superuser(self, email: str, password: str | None = None, **fields) -> "Operator":
        return self.create_user(email, password, **{"is_superuser": True, **fields})


class Operator(AbstractBaseUser, PermissionsMixin):
    """Somebody who may enter the admin, by e-mail and password."""

    class Role(models.TextChoices):
        VIEWER = "viewer", _("Viewer")
        SUPPORT = "support", _("Support")
        ADMIN = "admin", _("Admin")

    email = models.EmailField(_("email"))
    name = models.TextField(_("name"), blank=True)
    is_active = models.BooleanField(
        _("is active"), default=True, help_text=_("Switch it off instead of deleting: the operator's log entries stay.")
    )
    role = models.TextField(
        _("role"),
        choices=Role,
        null=True,
        blank=True,
        help_text=_("What the operator may do, besides what groups and single permissions give."),
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)

    objects = OperatorManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    class Meta:
        db_table = "operators"
        verbose_name = _("operator")
        verbose_name_plural = _("operators")
        constraints = [
            models.UniqueConstraint(
                fields=["email"],
                name="operators_email_key",
                violation_error_message=_("There is already an operator with this e-mail."),
            ),
            models.CheckConstraint(condition=Q(email=Lower("email")), name="check_operator_email"),
            models.CheckConstraint(condition=Q(role__in=["viewer", "support", "admin"]), name="check_operator_role"),
        ]

    def __str__(self) -> str:
        return self.email

    def clean(self) -> None:
        super().clean()
        self.email = self.email.strip().lower()

    @property
    def is_staff(self) -> bool:
        """Every active operator may enter the admin; what they see there, permissions decide."""
        return self.is_active
