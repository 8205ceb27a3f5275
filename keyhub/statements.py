"""Writing by one statement, whose WHERE is the rule and whose rows are the answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, models, router, transaction


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
    """The manager's rows of a row's model, on the database that the row is written to.

    As after save(), refresh_from_db() reads there from then on, wherever the row is from.
    """
    row._state.db = router.db_for_write(type(row), instance=row)
    return type(row).objects.using(row._state.db)


class StatementQuerySet(models.QuerySet):
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
