"""How old the newest proved backup is; what `migrate --require-backup` and dbhealth ask."""

from dataclasses import dataclass
from datetime import timedelta

from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.dbbackup import manifest, measure
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Manifest
from keyhub.store import Store


@dataclass(frozen=True)
class Newest:
    """The newest proved backup and its age, by the database server's clock, from the snapshot that it holds."""

    backup: Manifest
    age: timedelta


def newest_proved(store: Store, connection: BaseDatabaseWrapper) -> Newest | None:
    """That of the database that a connection leads to; None where there is none. Raises BackupError."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), clock_timestamp()")
        database, now = cursor.fetchone()
    for item in manifest.survey(store, database, measure.system_identifier(connection.connection)):
        if isinstance(item, Manifest) and item.is_proved:
            return Newest(item, now - item.started_at)
    return None


def require(store: Store, connection: BaseDatabaseWrapper, oldest: timedelta) -> Newest:
    """The newest proved backup. Raises BackupError where there is none, or it is older than `oldest`."""
    newest = newest_proved(store, connection)
    if newest is None:
        raise BackupError(f"{store.url} has no proved backup of this database. Make one: manage.py dbbackup --prove")
    if newest.age > oldest:
        raise BackupError(
            f"the newest proved backup, {newest.backup.backup}, is {words(newest.age)} old: it may be {words(oldest)}. "
            "Make another one: manage.py dbbackup --prove"
        )
    return newest


def words(age: timedelta) -> str:
    """A duration in its two biggest units, such as "1 day 3 hours"."""
    minutes = max(0, int(age.total_seconds() // 60))
    amounts = [(minutes // 1440, "day"), (minutes // 60 % 24, "hour"), (minutes % 60, "minute")]
    told = [f"{amount} {unit}{'' if amount == 1 else 's'}" for amount, unit in amounts if amount]
    return " ".join(told[:2]) or "less than a minute"
