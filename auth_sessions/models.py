"""Sessions of users, OAuth sign-ins under way, and sessions of organizations' consoles."""

from asgiref.sync import sync_to_async
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from accounts.models import User
from auth_sessions.console_sessions import ConsoleSessionQuerySet
from auth_sessions.oauth_states import OAuthStateQuerySet
from auth_sessions.sessions import SessionQuerySet
from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.statements import MovingModel, rows_of
from tenancy.models import TenantMembership

DIGEST = "^[0-9a-f]{64}$"
LOCAL_PATH = r"^/([^/\\\u0001-\u001f\u007f-\u009f][^\\\u0001-\u001f\u007f-\u009f]*)?$"


class Session(models.Model):
    """A signed-in browser or device of a user, and the membership that it acts in."""

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    session_id = models.TextField(_("session id"))  # the SHA-256 of the token, in lower-case hex
    user = DatabaseForeignKey(User, verbose_name=_("user"), on_delete=OnDelete.CASCADE, related_name="sessions")
    # (active_membership_id, user_id) REFERENCES tenant_memberships (id, user_id)
    # ON DELETE SET NULL (active_membership_id): sql/0006_sessions_rules_not_valid.up.sql. Leaving takes it off, too.
    active_membership = models.ForeignKey(
        TenantMembership,
        verbose_name=_("active membership"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="sessions",
    )
    revoked = models.BooleanField(_("revoked"), db_default=False)
    expires_at = models.DateTimeField(_("expires at"))
    last_accessed_at = models.DateTimeField(_("last accessed at"), null=True, blank=True)
    ip_address = models.GenericIPAddressField(_("ip address"), null=True, blank=True)
    user_agent = models.TextField(_("user agent"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)
    revoked_reason = models.TextField(_("revoked reason"), null=True, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        db_table = "sessions"
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        constraints = [
            models.UniqueConstraint(fields=["session_id"], name="idx_sessions_session_id"),
            models.CheckConstraint(condition=Q(session_id__regex=DIGEST), name="check_session_id_hashed"),
            models.CheckConstraint(
                condition=Q(
                    Func(F("expires_at"), function="isfinite", output_field=models.BooleanField()),
                    expires_at__gt=F("created_at"),
                ),
                name="check_session_expires_at",
                violation_error_message=_("A session ends after it began, and at a finite time."),
            ),
            models.CheckConstraint(
                condition=Q(revoked=True) | Q(revoked_at__isnull=True, revoked_reason__isnull=True),
                name="check_session_revoked",
                violation_error_message=_("Only a revoked session has a time and a reason of its revocation."),
            ),
        ]
        indexes = [
            BTreeIndex(fields=["user"], name="idx_sessions_user_id"),
            BTreeIndex(fields=["expires_at"], name="idx_sessions_expires_at"),
            BTreeIndex(fields=["expires_at"], condition=Q(revoked=False), name="idx_sessions_revoked_expires"),
            BTreeIndex(fields=["active_membership", "user"], name="idx_sessions_active_membership"),
        ]
        permissions = [("revoke_session", gettext_noop("Can revoke sessions"))]

    def __str__(self) -> str:
        return str(self.id)

    def revoke(self, reason: str) -> bool:
        """Revoke this session; False where it was revoked already."""
        revoked = rows_of(self).filter(pk=self.pk).revoke(reason)
        self.refresh_from_db(fields=["revoked", "revoked_at", "revoked_reason"])
        return bool(revoked)

    async def arevoke(self, *args, **kwargs):
        return await sync_to_async(self.revoke)(*args, **kwargs)


class OAuthState(models.Model):
    """An OAuth sign-in under way: RFC 6749 `state`, RFC 7636 `code_verifier`, OpenID Connect `nonce`."""

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    state = models.TextField(_("state"))  # the SHA-256 of the state, in lower-case hex
    code_verifier = models.TextField(_("code verifier"))
    nonce = models.TextField(_("nonce"))
    redirect_uri = models.TextField(_("redirect uri"), null=True, blank=True)
    consumed_at = models.DateTimeField(_("consumed at"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    # Empty in rows from before there were these two, which cannot be consumed.
    provider = models.TextField(_("provider"), null=True, blank=True)
    browser_digest = models.TextField(_("browser digest"), null=True, blank=True, editable=False)

    objects = OAuthStateQuerySet.as_manager()

    class Meta:
        db_table = "oauth_states"
        verbose_name = _("OAuth state")
        verbose_name_plural = _("OAuth states")
        constraints = [
            models.UniqueConstraint(fields=["state"], name="idx_oauth_states_state"),
            models.CheckConstraint(condition=Q(state__regex=DIGEST), name="check_oauth_state_hashed"),
            models.CheckConstraint(
                condition=Q(redirect_uri__regex=LOCAL_PATH),
                name="check_oauth_redirect_uri",
                violation_error_message=_("The way back after sign-in is a path of this site, such as /home."),
            ),
            models.CheckConstraint(condition=Q(browser_digest__regex=DIGEST), name="check_oauth_browser_digest"),
        ]
        indexes = [
            BTreeIndex(fields=["created_at"], name="idx_oauth_states_created_at"),
            BTreeIndex(fields=["created_at"], condition=Q(consumed_at__isnull=True), name="idx_oauth_states_consumed"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class ConsoleSession(MovingModel):
    """A session in an organization's own console."""

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    session_id = models.TextField(_("session id"))  # the SHA-256 of the token, in lower-case hex
    # console_sessions_organization_id_fkey, ON DELETE CASCADE, refers to organizations; orgs, the app above, adds it.
    organization_id = models.TextField(_("organization id"))
    expires_at = models.DateTimeField(_("expires at"))
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)

    objects = ConsoleSessionQuerySet.as_manager()

    class Meta:
        db_table = "console_sessions"
        verbose_name = _("console session")
        verbose_name_plural = _("console sessions")
        constraints = [
            models.UniqueConstraint(fields=["session_id"], name="idx_console_sessions_session_id"),
            models.CheckConstraint(condition=Q(session_id__regex=DIGEST), name="check_console_session_id_hashed"),
        ]
        indexes = [
            BTreeIndex(fields=["expires_at"], name="idx_console_sessions_expires_at"),
            BTreeIndex(fields=["organization_id", "expires_at"], name="idx_console_sessions_active"),
        ]
        permissions = [("revoke_consolesession", gettext_noop("Can revoke console sessions"))]

    def __str__(self) -> str:
        return str(self.id)
