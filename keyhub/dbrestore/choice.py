"""Which backup is meant: one by its name, or the latest."""

from keyhub.dbbackup import manifest
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Folder, Manifest
from keyhub.store import Store

LATEST = "latest"


def choose(store: Store, alias: str, database: str, name: str, system_identifier: str | None = None) -> Manifest:
    """The backup of a database that has this name, or the latest: of this very server where it has any, else of the
    only other one that has. Of two databases of the same name that of the alias. Raises BackupError.
    """
    found = list(manifest.survey(store, database))
    if name != LATEST:
        for item in found:
            if item.backup == name:
                return _of(alias, _whole(item))
        raise BackupError(
            f"{store.url} has no backup {name} of the database {database}. manage.py dbbackups list shows what it has."
        )
    whole = [item for item in found if is_of(alias, item) and (isinstance(item, Manifest) or item.has_manifest)]
    own = [item for item in whole if item.system_identifier == system_identifier]
    servers = {item.system_identifier for item in whole}
    if not own and len(servers) > 1:
        raise BackupError(
            f"{store.url} has backups of the database {database} of {len(servers)} servers, and none of this one. "
            "Name the backup; manage.py dbbackups list shows them."
        )
    if not whole:
        raise BackupError(f"{store.url} has no backup of the database {database}. Make one: manage.py dbbackup")
    return _whole((own or whole)[0])


def is_of(alias: str, item: Manifest | Folder) -> bool:
    """Whether a backup is one of this database; of one that cannot be read nobody knows."""
    return not isinstance(item, Manifest) or item.alias == alias


def _of(alias: str, backup: Manifest) -> Manifest:
    if backup.alias != alias:
        raise BackupError(
            f"{backup.backup} is a backup of the database {backup.alias!r}, and that of {alias!r} is meant. Say which "
            "database is meant, or name another backup; manage.py dbbackups list shows them."
        )
    return backup


def _whole(item: Manifest | Folder) -> Manifest:
    if isinstance(item, Manifest):
        return item
    if item.damage:
        raise BackupError(f"{item.damage.rstrip('.')}. Name another one; manage.py dbbackups list shows them.")
    raise BackupError(f"{item.path} is no backup: it was left unfinished, or is still being made. Name another one.")
