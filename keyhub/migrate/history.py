"""The table keyhub_migrations, beside Django's django_migrations: what text of a migration was applied, and when.

Like django_migrations it belongs to the runner, not to a migration. Each migration that a run has seen has a row, run
or not: one that comes later, behind others that are applied, is told apart by having none.
"""

from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

TABLE = """
    CREATE TABLE IF NOT EXISTS keyhub_migrations (
        app text NOT NULL,
        name text NOT NULL,
        digest text,
        seen_at timestamptz NOT NULL DEFAULT statement_timestamp(),
        started_at timestamptz,
        applied_at timestamptz,
        unapplied_at timestamptz,
        PRIMARY KEY (app, name)
    )
"""
# dbhealth needs both, and its role is as a rule a member of pg_monitor and no more.
MONITORS_MAY_READ = """
    SELECT has_table_privilege('pg_monitor', 'django_migrations', 'SELECT')
       AND has_table_privilege('pg_monitor', 'keyhub_migrations', 'SELECT')
"""
LET_MONITORS_READ = "GRANT SELECT ON django_migrations, keyhub_migrations TO pg_monitor"


class History:
    def __init__(self, connection: BaseDatabaseWrapper):
        self.connection = connection

    def ensure_table(self) -> None:
        """Make this table and Django's where they are missing, and let monitors read both."""
        MigrationRecorder(self.connection).ensure_schema()
        if not self.exists():
            self._execute(TABLE)
        with self.connection.cursor() as cursor:
            cursor.execute(MONITORS_MAY_READ)
            if not cursor.fetchone()[0]:
                cursor.execute(LET_MONITORS_READ)

    def exists(self) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('keyhub_migrations') IS NOT NULL")
            return cursor.fetchone()[0]

    def record_seen(self, migrations: Iterable[tuple[str, str]]) -> None:
        apps, names = zip(*migrations, strict=True)
        self._execute(
            "INSERT INTO keyhub_migrations (app, name) SELECT * FROM unnest(%s::text[], %s::text[]) "
            "ON CONFLICT DO NOTHING",
            list(apps),
            list(names),
        )

    def record_started(self, app: str, name: str, digest: str | None) -> None:
        """Note that a migration begins outside a transaction, so that an interrupted one is known as such."""
        self._execute(
            "UPDATE keyhub_migrations SET digest = %s, started_at = statement_timestamp(), applied_at = NULL, "
            "unapplied_at = NULL WHERE app = %s AND name = %s",
            digest,
            app,
            name,
        )

    def record_started_back(self, app: str, name: str, digest: str | None) -> None:
        """Note that the way back begins outside a transaction; until it ends, the migration counts as applied."""
        self._execute(
            "UPDATE keyhub_migrations SET digest = %s, started_at = statement_timestamp() WHERE app = %s AND name = %s",
            digest,
            app,
            name,
        )

    def record_applied(self, app: str, name: str, digest: str | None) -> None:
        self._execute(
            "UPDATE keyhub_migrations SET digest = %s, started_at = NULL, applied_at = statement_timestamp(), "
            "unapplied_at = NULL WHERE app = %s AND name = %s",
            digest,
            app,
            name,
        )

    def record_unapplied(self, app: str, name: str) -> None:
        self._execute(
            "UPDATE keyhub_migrations SET started_at = NULL, applied_at = NULL, unapplied_at = statement_timestamp() "
            "WHERE app = %s AND name = %s",
            app,
            name,
        )

    def interrupted(self, app: str, name: str, digest: str | None) -> bool:
        """Say whether a run of this migration, up or back, outside a transaction and of this very text, did not end."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT FROM keyhub_migrations WHERE app = %s AND name = %s AND started_at IS NOT NULL "
                "AND digest IS NOT DISTINCT FROM %s",
                [app, name, digest],
            )
            return bool(cursor.rowcount)

    def seen(self) -> set[tuple[str, str]]:
        """The migrations that a run has seen, whether it ran them or not; empty before the first run."""
        return set(self.digests())

    def digests(self) -> dict[tuple[str, str], str | None]:
        """The digest of each migration seen here, None for one never applied; empty where the table is missing."""
        if not self.exists():
            return {}
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT app, name, digest FROM keyhub_migrations")
            return {(app, name): digest for app, name, digest in cursor.fetchall()}

    def _execute(self, statement: str, *parameters: str | list[str] | None) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
