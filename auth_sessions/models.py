"""Sessions of users, OAuth sign-ins under way, and sessions of organizations' consoles."""

from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import User
from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from tenancy.models import TenantMembership


class Session(models.Model):
    """A signed-in browser or device of a user, and the membership that it acts in."""

    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    session_id = models.TextField()
    user = DatabaseForeignKey(User, on_delete=OnDelete.CASCADE, related_name="sessions")
    active_membership = DatabaseForeignKey(
        TenantMembership, on_delete=OnDelete.SET_NULL, null=True, blank=True, related_name="sessions"
    )
    revoked = models.BooleanField(db_default=False)
    expires_at = models.DateTimeField()
    last_accessed_at = models.DateTimeField(null=True, blank=True)
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.TextField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "sessions"
        constraints = [models.UniqueConstraint(fields=["session_id"], name="idx_sessions_session_id")]
        indexes = [
            BTreeIndex(fields=["user"], name="idx_sessions_user_id"),
            BTreeIndex(fields=["expires_at"], name="idx_sessions_expires_at"),
            BTreeIndex(fields=["expires_at"], condition=Q(revoked=False), name="idx_sessions_revoked_expires"),
            BTreeIndex(fields=["active_membership"], name="idx_sessions_active_membership"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class OAuthState(models.Model):
    """An OAuth sign-in under way: RFC 6749 `state`, RFC 7636 `code_verifier`, OpenID Connect `nonce`."""

    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    state = models.TextField()
    code_verifier = models.TextField()
    nonce = models.TextField()
    redirect_uri = models.TextField(null=True, blank=True)
    consumed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "oauth_states"
        verbose_name = "OAuth state"
        constraints = [models.UniqueConstraint(fields=["state"], name="idx_oauth_states_state")]
        indexes = [
            BTreeIndex(fields=["created_at"], name="idx_oauth_states_created_at"),
            BTreeIndex(fields=["created_at"], condition=Q(consumed_at__isnull=True), name="idx_oauth_states_consumed"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class ConsoleSession(models.Model):
    """A session in an organization's own console."""

    id = models.UUIDField(primary_key=True, db_default=RandomUUID(), editable=False)
    session_id = models.TextField()
    # console_sessions_organization_id_fkey, ON DELETE CASCADE, refers to organizations; orgs, the app above, adds it.
    organization_id = models.TextField()
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "console_sessions"
        constraints = [models.UniqueConstraint(fields=["session_id"], name="idx_console_sessions_session_id")]
        indexes = [
            BTreeIndex(fields=["expires_at"], name="idx_console_sessions_expires_at"),
            BTreeIndex(fields=["organization_id", "expires_at"], name="idx_console_sessions_active"),
        ]

    def __str__(self) -> str:
        return str(self.id)
