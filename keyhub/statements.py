"""Writing by one statement, whose WHERE is the rule and whose rows are the answer."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import DatabaseError, connections, models, router, transaction

from keyhub import placement

MOVED = "KH001"  # refuse_write_of_copy() of orgs
MOVE_LIMIT_S = 5
ASK_AGAIN_S = 0.02


@contextmanager
def one_statement(using: str) -> Iterator[None]:
    """Around one statement that may fail: a savepoint keeps the caller's transaction usable, where there is one.

    Without one the statement is a transaction of its own, so that a row that many want is locked for no round trip.
    """
    if connections[using].in_atomic_block:
        with transaction.atomic(using=using):
            yield
    else:
        yield


def rows_of(row: models.Model) -> models.QuerySet:
    """The manager's rows of a row's model, on the database that the row is written to, or has moved to since.

    As after save(), refresh_from_db() reads there from then on, wherever the row is from.
    """
    row._state.db = router.db_for_write(type(row), instance=row)
    return type(row).objects.all() if placement.may_move(type(row)) else type(row).objects.using(row._state.db)


def is_moved(error: DatabaseError) -> bool:
    """Whether a statement was refused because the rows are written in another database."""
    return getattr(error.__cause__, "sqlstate", None) == MOVED


def follows_moves(write: Callable) -> Callable:
    """Let a method of a queryset or a model that writes be done again where its rows have just moved.

    Not where a database was named, and not in the caller's transaction, which the other database knows nothing of.
    """

    @functools.wraps(write)
    def written(self, *args, **kwargs):
        deadline = time.monotonic() + MOVE_LIMIT_S
        while True:
            try:
                return write(self, *args, **kwargs)
            except DatabaseError as error:
                is_bound = getattr(self, "_db", None) or kwargs.get("using")
                is_bound = is_bound or any(connections[alias].in_atomic_block for alias in placement.aliases())
                if is_bound or not is_moved(error) or time.monotonic() > deadline:
                    raise
                placement.forget()
                time.sleep(ASK_AGAIN_S)

    return written


class MovingModel(models.Model):
    """A model whose rows may move to another database while they are written."""

    class Meta:
        abstract = True

    @follows_moves
    def save(self, *args, **kwargs):
        super().save(*args, **kwargs)

    @follows_moves
    def delete(self, *args, **kwargs):
        return super().delete(*args, **kwargs)

    save.alters_data = delete.alters_data = True


class StatementQuerySet(models.QuerySet):
    @follows_moves
    def create(self, **kwargs):
        return super().create(**kwargs)

    @follows_moves
    def update(self, **kwargs):
        return super().update(**kwargs)

    @follows_moves
    def delete(self):
        return super().delete()

    create.alters_data = update.alters_data = delete.alters_data = True
    delete.queryset_only = True

    @property
    def writer(self) -> str:
        """The alias of the database that writes go to."""
        self._for_write = True  # which decides self.db
        return self.db

    def statement(self, sql: str, params: dict[str, object]) -> list[models.Model]:
        """Run a statement that writes and returns rows of the model's table; return them as rows of the model."""
        return list(self.using(self.writer).raw(sql, params))


class RowValue(models.Func):
    """Columns that are compared as a whole, as in (a, b) > (1, 2): an index of them finds the place.

    https://www.postgresql.org/docs/current/functions-comparisons.html#ROW-WISE-COMPARISON
    """

    function = "ROW"
    output_field = models.BooleanField()  # Django wants one
