"""End users with their OAuth identities, and the operators of the admin site, who are no users."""

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import models
from django.db.models.functions import Lower, Now

from keyhub.foreign_keys import DatabaseForeignKey, OnDelete


class User(models.Model):
    """A person who signs in by an outside identity provider. Never an operator of the admin."""

    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    email = models.TextField()
    name = models.TextField(null=True, blank=True)
    icon = models.TextField(null=True, blank=True, help_text="Address of a picture.")
    disabled_at = models.DateTimeField(null=True, blank=True)
    anonymized_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "users"
        constraints = [models.UniqueConstraint(fields=["email"], name="idx_users_email")]
        indexes = [BTreeIndex(models.F("created_at").desc(), name="idx_users_created_at")]

    def __str__(self) -> str:
        return self.email


class UserIdentity(models.Model):
    """An account at an OAuth provider. One outside identity belongs to one user: RFC 7519 `iss` and `sub`."""

    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    user = DatabaseForeignKey(User, on_delete=OnDelete.CASCADE, related_name="identities")
    provider = models.TextField()
    provider_sub = models.TextField(help_text="The provider's own, unchanging id of the person.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "user_identities"
        verbose_name_plural = "user identities"
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "provider_sub"],
                name="idx_user_identities_provider_sub",
                violation_error_message="This outside identity already belongs to a user.",
            )
        ]
        indexes = [BTreeIndex(fields=["user"], name="idx_user_identities_user_id")]

    def __str__(self) -> str:
        return f"{self.provider}:{self.provider_sub}"


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

    email = models.EmailField()
    name = models.TextField(blank=True)
    is_active = models.BooleanField(
        default=True, help_text="Switch it off instead of deleting: the operator's log entries stay."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = OperatorManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    class Meta:
        db_table = "operators"
        constraints = [
            models.UniqueConstraint(
                fields=["email"],
                name="operators_email_key",
                violation_error_message="There is already an operator with this e-mail.",
            ),
            models.CheckConstraint(condition=models.Q(email=Lower("email")), name="check_operator_email"),
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
