"""Django's PostgreSQL backend for who writes."""

import psycopg
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self) -> bool:
        """Whether the connection works, and its server takes writes: one that was demoted takes none, and may keep its
        sessions, as a pooler does those of its clients.

        Django asks before the first statement of a request (CONN_HEALTH_CHECKS) and after one that failed, and connects
        anew where the answer is no: to the primary, where several hosts or an address that moves lead to it.
        """
        if self.connection is None:
            return False
        try:
            with self.connection.cursor() as cursor:
                return cursor.execute("SHOW transaction_read_only").fetchone() == ("off",)
        except psycopg.Error:
            return False
