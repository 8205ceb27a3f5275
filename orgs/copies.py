"""Organizations of an Admin database of its own, and their copies in the tenant database, to which tenants refer."""

import time

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models.signals import pre_delete

from keyhub import placement
from orgs.models import Organization

POLL_S = 0.02


class NotCopiedError(Exception):
    """The tenant database has not heard of an organization in time; the text is one sentence for people."""


def await_copy(organization: Organization, timeout_s: float = 5.0) -> None:
    """Wait until tenants can refer to an organization that was just made: at once, where there is one database.

    Raises NotCopiedError.
    """
    deadline = time.monotonic() + timeout_s
    while not Organization.objects.using(DEFAULT_DB_ALIAS).filter(pk=organization.pk).exists():
        if time.monotonic() > deadline:
            raise NotCopiedError(
                f"The tenant database has not heard of the organization {organization.pk} in {timeout_s:g} seconds. "
                "Look at manage.py dbhealth, and try again."
            )
        time.sleep(POLL_S)


def delete_copy_first(sender, instance: Organization, using: str, **kwargs) -> None:
    """Let the keys of the tenant database refuse the deletion of an organization that has tenants.

    Raises IntegrityError as PostgreSQL does in one database. A crash between the two deletions leaves an organization
    to which no tenant can refer: dbhealth --data tells it.
    """
    if using != placement.ADMIN:
        return
    with transaction.atomic(using=DEFAULT_DB_ALIAS), connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT set_config('keyhub.writes_copies', 'on', true)")
        cursor.execute("DELETE FROM organizations WHERE id = %s", [instance.pk])
        cursor.execute("SELECT set_config('keyhub.writes_copies', '', true)")
    with connections[using].cursor() as cursor:  # in the transaction of the deletion
        cursor.execute("SELECT set_config('keyhub.writes_copies', 'on', true)")


def connect() -> None:
    pre_delete.connect(delete_copy_first, sender=Organization, dispatch_uid="orgs.copies")
