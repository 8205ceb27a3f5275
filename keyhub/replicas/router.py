"""Where a query goes: to a replica inside of reading_from(), and never else."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, models, router

_replica: ContextVar[str | None] = ContextVar("replica", default=None)


@contextmanager
def reading_from(alias: str) -> Iterator[None]:
    """Queries inside that read go to this replica."""
    token = _replica.set(alias)
    try:
        yield
    finally:
        _replica.reset(token)


class ReplicaRouter:
    """Comes first: what it leaves open, the next router or Django decides."""

    def db_for_read(self, model: type[models.Model], **hints) -> str | None:
        alias = _replica.get()
        if alias is not None and router.db_for_write(model) == DEFAULT_DB_ALIAS:
            return alias
        # Django would go on reading where a row is from, and nobody looks after the replica there.
        return self.db_for_write(model, **hints)

    def db_for_write(self, model: type[models.Model], **hints) -> str | None:
        return router.db_for_write(model) if _is_from_a_replica(hints.get("instance")) else None

    def allow_relation(self, one: models.Model, other: models.Model, **hints) -> bool | None:
        """Rows of a replica are those of the default database."""
        homes = {DEFAULT_DB_ALIAS if _is_from_a_replica(row) else row._state.db for row in (one, other)}
        return True if homes == {DEFAULT_DB_ALIAS} else None

    def allow_migrate(self, db: str, app_label: str, **hints) -> bool | None:
        return False if db in settings.REPLICAS else None


def _is_from_a_replica(row: models.Model | None) -> bool:
    return row is not None and row._state.db in settings.REPLICAS
