"""The number of the transaction that wrote a row, as PostgreSQL counts transactions: 64 bits, never used twice.

https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT. Migrations use this module, so what
it writes for given arguments must never change.
"""

from django.db import models


class TransactionIdField(models.Field):
    """A column of the type xid8; an int in Python."""

    description = "The number of a transaction"

    def db_type(self, connection) -> str:
        return "xid8"

    def from_db_value(self, value: str | None, expression, connection) -> int | None:
        return None if value is None else int(value)

    def get_prep_value(self, value: int | None) -> str | None:
        value = super().get_prep_value(value)
        # As text: xid8 takes no number of another type.
        return None if value is None else str(int(value))


class CurrentTransactionId(models.Func):
    """The number of the transaction that runs, of which savepoints are a part."""

    function = "pg_current_xact_id"
    output_field = TransactionIdField()
