"""Times that PostgreSQL holds and Python does not: infinity, and the years before 1 and after 9999.

One such row, by whomever written, would make every list that holds it fail. It is read as the nearest time of Python's.
"""

from datetime import UTC, datetime

from django.db.backends.postgresql.psycopg_any import BaseTzLoader
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from psycopg import DataError


class NearestTimeLoader(BaseTzLoader):
    timezone = UTC

    def load(self, data):
        try:
            return super().load(data)
        except DataError:
            text = bytes(data)
            nearest = datetime.min if text.startswith(b"-") or text.endswith(b"BC") else datetime.max
            return nearest.replace(tzinfo=UTC)


@receiver(connection_created)
def read_every_time(connection, **kwargs) -> None:
    connection.connection.adapters.register_loader("timestamptz", NearestTimeLoader)
