"""Operations on memberships. That a tenant keeps an admin is a trigger's rule, for writers in SQL too."""

from collections.abc import Iterator
from contextlib import contextmanager

from asgiref.sync import sync_to_async
from django.db import IntegrityError, models

from keyhub.statements import StatementQuerySet, one_statement

# The trigger locks the admins who stay. Locked here beforehand, in one order, two who leave at once never deadlock.
ADMINS = """
    WITH admins AS MATERIALIZED (
        SELECT id FROM tenant_memberships
        WHERE tenant_id = %(tenant)s AND role = 'admin' AND left_at IS NULL
            AND (SELECT role FROM tenant_memberships WHERE id = %(id)s) = 'admin'
        ORDER BY id
        FOR NO KEY UPDATE
    )
"""
OF_AN_ACTIVE_MEMBER = "WHERE id = %(id)s AND left_at IS NULL AND (SELECT count(*) FROM admins) >= 0 RETURNING *"
END = f"""
    {ADMINS} UPDATE tenant_memberships SET left_at = statement_timestamp(), left_reason = %(reason)s
    {OF_AN_ACTIVE_MEMBER}
"""  # noqa: S608 constants
# Who has left by their own wish can still be barred.
REMOVE = f"""
    {ADMINS} UPDATE tenant_memberships
    SET left_at = coalesce(left_at, statement_timestamp()), left_reason = %(reason)s
    WHERE id = %(id)s AND left_reason IS DISTINCT FROM %(reason)s AND (SELECT count(*) FROM admins) >= 0
    RETURNING *
"""  # noqa: S608 constants
CHANGE_ROLE = f"{ADMINS} UPDATE tenant_memberships SET role = %(role)s {OF_AN_ACTIVE_MEMBER}"  # noqa: S608 constants


class MembershipError(Exception):
    """A membership stays as it is."""


class LastAdminError(MembershipError):
    """A tenant would be left without an admin."""


class NotAMemberError(MembershipError):
    """The membership has ended, or is not there any more."""


class TenantMembershipQuerySet(StatementQuerySet):
    def active(self) -> "TenantMembershipQuerySet":
        """Those that have not been left."""
        return self.filter(left_at=None)

    def leave(self, membership: models.Model) -> models.Model:
        """End a membership by the member's own wish; return its row.

        Raises MembershipError: LastAdminError, NotAMemberError.
        """
        return self._changed(END, membership, reason=self.model.LeftReason.LEFT)

    def remove(self, membership: models.Model) -> models.Model:
        """Expel a member, or bar one who has left: no join code lets them in again; return the row.

        Raises MembershipError: LastAdminError, NotAMemberError where that was done before.
        """
        return self._changed(REMOVE, membership, reason=self.model.LeftReason.REMOVED)

    def change_role(self, membership: models.Model, role: str) -> models.Model:
        """Give an active member another role; return the row.

        Raises ValueError where there is no such role, and MembershipError: LastAdminError, NotAMemberError.
        """
        return self._changed(CHANGE_ROLE, membership, role=self.model.Role(role))

    def _changed(self, sql: str, membership: models.Model, **values: str) -> models.Model:
        params = {"id": membership.pk, "tenant": membership.tenant_id, **values}
        with last_admin_refused(self.writer):
            rows = self.statement(sql, params)
        if not rows:
            raise NotAMemberError(f"Membership {membership.pk} has ended: only an active one can be changed.")
        return rows[0]

    async def aleave(self, membership: models.Model) -> models.Model:
        return await sync_to_async(self.leave)(membership)

    async def aremove(self, membership: models.Model) -> models.Model:
        return await sync_to_async(self.remove)(membership)

    async def achange_role(self, membership: models.Model, role: str) -> models.Model:
        return await sync_to_async(self.change_role)(membership, role)


@contextmanager
def last_admin_refused(using: str) -> Iterator[None]:
    """Turn the refusal of tenants_keep_an_admin into LastAdminError; the caller's transaction stays usable."""
    try:
        with one_statement(using):
            yield
    except IntegrityError as error:
        diagnostics = error.__cause__.diag
        if diagnostics.constraint_name != "tenants_keep_an_admin":
            raise
        raise LastAdminError(f"{diagnostics.message_primary}. {diagnostics.message_hint}") from error
