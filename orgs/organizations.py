"""What is done to organizations: suspended, and resumed."""

from asgiref.sync import sync_to_async
from django.db import InternalError, transaction

from keyhub import placement
from keyhub.statements import StatementQuerySet, follows_moves
from tenancy.models import Tenant

INVALID_TRANSACTION_STATE = "25000"


class OrganizationError(Exception):
    """The base of what can go wrong with operations on organizations."""


class WrongIsolationError(OrganizationError):
    """The transaction is not READ COMMITTED; the text is the database's own."""


class OrganizationQuerySet(StatementQuerySet):
    def suspend(self) -> int:
        """Close active organizations for as long as they are suspended; return how many were active.

        By triggers, their console sessions are deleted, live sessions leave their tenants, and none begins or comes
        back there; with an Admin database of its own, as soon as the tenant database hears of it. Only in READ
        COMMITTED: raises WrongIsolationError. Archived ones stay archived.
        """
        return self._change(self.model.Status.ACTIVE, self.model.Status.SUSPENDED)

    def resume(self) -> int:
        """Open suspended organizations again; return how many were suspended. Sessions that ended stay ended."""
        return self._change(self.model.Status.SUSPENDED, self.model.Status.ACTIVE)

    async def asuspend(self) -> int:
        return await sync_to_async(self.suspend)()

    async def aresume(self) -> int:
        return await sync_to_async(self.resume)()

    @follows_moves
    def _change(self, before: str, after: str) -> int:
        using = self.writer
        try:
            with transaction.atomic(using=using):
                concerned = self.using(using).filter(status=before)
                if using != placement.ADMIN:
                    # The tenants before the organizations, as by whoever switches to one: so neither waits for the
                    # other.
                    tenants = Tenant.objects.using(using).filter(organization_id__in=concerned.values("pk"))
                    list(tenants.order_by("pk").select_for_update(no_key=True).values_list("pk"))
                return concerned.update(status=after)
        except InternalError as error:
            if error.__cause__.sqlstate != INVALID_TRANSACTION_STATE:
                raise
            raise WrongIsolationError(error.__cause__.diag.message_primary) from error
