"""Operations on tenants."""

from asgiref.sync import sync_to_async
from django.db import IntegrityError, models

from keyhub.statements import StatementQuerySet, one_statement

UNIQUE_VIOLATION = "23505"
TRIES = 5

# Both are locked in one order. The old default goes in a CTE that the update waits for, since the unique index is asked
# row by row.
SET_DEFAULT = """
    WITH locked AS MATERIALIZED (
        SELECT id FROM tenants
        WHERE organization_id = (SELECT organization_id FROM tenants WHERE id = %(id)s) AND (is_default OR id = %(id)s)
        ORDER BY id
        FOR NO KEY UPDATE
    ), old AS (
        UPDATE tenants SET is_default = false
        WHERE id IN (SELECT id FROM locked) AND is_default AND id <> %(id)s
        RETURNING id
    )
    UPDATE tenants SET is_default = true
    WHERE id = %(id)s AND NOT is_default AND (SELECT count(*) FROM old) >= 0
    RETURNING *
"""


class TenantQuerySet(StatementQuerySet):
    def for_organization(self, organization: object) -> "TenantQuerySet":
        """The tenants of an organization, which is given as a row or by its id."""
        return self.filter(organization_id=getattr(organization, "pk", organization))

    def set_default(self, tenant: models.Model) -> None:
        """Make a tenant the default one of its organization, in place of the one that was.

        Of two at once the later one stays. Raises IntegrityError where transactions of others come first five times,
        or once in REPEATABLE READ.
        """
        for attempt in range(1, TRIES + 1):
            try:
                # What another session has set meanwhile is in no snapshot yet: the next try sees it.
                with one_statement(self.writer):
                    self.statement(SET_DEFAULT, {"id": tenant.pk})
                break
            except IntegrityError as error:
                if error.__cause__.sqlstate != UNIQUE_VIOLATION or attempt == TRIES:
                    raise
        tenant.refresh_from_db(using=self.writer)

    async def aset_default(self, tenant: models.Model) -> None:
        await sync_to_async(self.set_default)(tenant)
