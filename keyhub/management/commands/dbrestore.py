import argparse

from django.db import DEFAULT_DB_ALIAS, connections

from keyhub.dbbackup import measure
from keyhub.dbbackup.command import BackupCommand
from keyhub.dbbackup.errors import BackupError
from keyhub.dbrestore.choice import LATEST, choose
from keyhub.dbrestore.database import exists, swap
from keyhub.dbrestore.restore import admin_session, restore


def jobs(text: str) -> int:
    if not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text} is not a number of sessions from 1 to 64")
    return int(text)


class Command(BackupCommand):
    help = "Restore a backup into a new database, compare it with what it was made of, and swap it in."

    def add_arguments(self, parser):
        parser.add_argument("backup", help=f"its name, as dbbackups list shows it, or {LATEST}")
        parser.add_argument("--database", required=True, metavar="NAME", help="the new database, which must not exist")
        parser.add_argument("--from", dest="url", metavar="URL", help="where backups are kept (default: BACKUP_URL)")
        parser.add_argument(
            "--swap", action="store_true",
            help="then put it in the place of the database of DATABASE_URL, which is kept under another name",
        )  # fmt: skip
        parser.add_argument("--create-roles", action="store_true", help="create the roles that the server lacks")
        parser.add_argument("--jobs", type=jobs, help="sessions at once (default: the machine's cores, up to 8)")
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, backup, database, url, **options):
        store, connection = self.store(url), connections[DEFAULT_DB_ALIAS]
        live = connection.settings_dict["NAME"]
        with admin_session(connection) as admin, admin_session(connection) as second:
            chosen = choose(store, DEFAULT_DB_ALIAS, live, backup, measure.system_identifier(admin))
            if options["swap"] and not exists(admin, live):
                raise BackupError(f"there is no database {live} to swap with: restore into that name, without --swap.")
            with self.progress() as bar:
                restored = restore(
                    store, chosen, connection, database,
                    jobs=options["jobs"], create_roles=options["create_roles"], progress=bar,
                )  # fmt: skip
            connection.close()
            kept = swap(admin, second, database, live) if options["swap"] else None
        for finding in restored.unhealthy:
            self.stderr.write(f"As it was backed up, the database is not healthy: {finding}")
        if options["format"] == "json":
            self.write_json(
                DEFAULT_DB_ALIAS,
                {
                    "backup": chosen.backup,
                    "database": live if kept else database,
                    "replaced": kept,
                    "restore_s": restored.restore_s,
                    "rows": chosen.rows,
                    "created_roles": restored.created_roles,
                    "unhealthy": restored.unhealthy,
                },
            )
            return
        for role in restored.created_roles:
            self.stdout.write(f"role {role}: created, without a password")
        self.stdout.write(
            f"{chosen.backup}: restored into {database} in {restored.restore_s:.1f} s, and every row is the same"
        )
        if kept:
            self.stdout.write(f"swapped: it is {live} now; the old one is kept as {kept}")
