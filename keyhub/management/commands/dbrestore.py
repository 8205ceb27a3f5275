import argparse

from django.db import DEFAULT_DB_ALIAS, connections

from keyhub import placement
from keyhub.dbbackup import measure
from keyhub.dbbackup.command import BackupCommand
from keyhub.dbbackup.errors import BackupError
from keyhub.dbrestore.choice import LATEST, choose
from keyhub.dbrestore.database import exists, swap
from keyhub.dbrestore.restore import admin_session, restore
from keyhub.splitadmin import replacement


def jobs(text: str) -> int:
    if not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text} is not a number of sessions from 1 to 64")
    return int(text)


class Command(BackupCommand):
    help = "Restore a backup into a new database, compare it with what it was made of, and swap it in."

    def add_arguments(self, parser):
        parser.add_argument("backup", help=f"its name, as dbbackups list shows it, or {LATEST}")
        parser.add_argument("--database", required=True, metavar="NAME", help="the new database, which must not exist")
        parser.add_argument(
            "--of", default=DEFAULT_DB_ALIAS, choices=tuple(connections),
            help="which database the backup is of, and is restored beside (default: %(default)s)",
        )  # fmt: skip
        parser.add_argument("--from", dest="url", metavar="URL", help="where backups are kept (default: BACKUP_URL)")
        parser.add_argument(
            "--swap", action="store_true",
            help="then put it in the place of the database in use, which is kept under another name",
        )  # fmt: skip
        parser.add_argument("--create-roles", action="store_true", help="create the roles that the server lacks")
        parser.add_argument("--jobs", type=jobs, help="sessions at once (default: the machine's cores, up to 8)")
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, backup, database, url, of, **options):
        store, connection = self.store(url), connections[of]
        live = connection.settings_dict["NAME"]
        with admin_session(connection) as admin, admin_session(connection) as second:
            chosen = choose(store, of, live, backup, measure.system_identifier(admin))
            if options["swap"]:
                if not exists(admin, live):
                    raise BackupError(
                        f"there is no database {live} to swap with: restore into that name, without --swap."
                    )
                replacement.refuse_beside_a_move()
            with self.progress() as bar:
                restored = restore(
                    store, chosen, connection, database,
                    jobs=options["jobs"], create_roles=options["create_roles"], progress=bar,
                )  # fmt: skip
            connection.close()
            kept = replacement.replace(of, lambda: swap(admin, second, database, live)) if options["swap"] else None
            connection.close()
        for finding in restored.unhealthy:
            self.stderr.write(f"As it was backed up, the database is not healthy: {finding}")
        if placement.has_admin():
            self.stderr.write(f"When it is in its place: manage.py splitadmin --restored {of}")
        if options["format"] == "json":
            self.write_json(
                of,
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
