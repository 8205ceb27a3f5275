from django.db import DEFAULT_DB_ALIAS, connections

from keyhub.dbbackup import backup
from keyhub.dbbackup.command import BackupCommand, as_json, size_words
from keyhub.dbbackup.encryption import encryption
from keyhub.dbbackups.prove import prove, refuse_unprovable


class Command(BackupCommand):
    help = "Back up the database into a store: compressed, encrypted to public keys, counted, and with a digest."
    url_option = "--to URL"

    def add_arguments(self, parser):
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))
        parser.add_argument("--to", metavar="URL", help="where backups are kept (default: BACKUP_URL)")
        parser.add_argument("--prove", action="store_true", help="then restore it, compare, and sign the result")
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, database, to, **options):
        store, encrypting = self.store(to), encryption()
        if options["prove"]:
            refuse_unprovable(encrypting.names if encrypting else [])
        with self.progress() as bar:
            bar.begin("dump", 0)
            made = backup.make(database, store, encrypting, bar.advance)
            if options["prove"]:
                made = prove(store, made, database, bar)
        for finding in made.unhealthy:
            self.stderr.write(f"As it is backed up, the database is not healthy: {finding}")
        if options["format"] == "json":
            self.write_json(as_json(made, store))
            return
        took_s = (made.finished_at - made.started_at).total_seconds()
        self.stdout.write(
            f"{made.backup}: {made.rows} rows of {len(made.tables)} tables, {size_words(made.size_bytes)}"
            f"{', encrypted' if made.recipients else ''}, in {took_s:.1f} s"
        )
        if made.is_proved:
            self.stdout.write(f"proved: restored in {made.proof.restore_s:.1f} s, and every row is the same")
        else:
            self.stdout.write("not proved yet: manage.py dbbackups prove latest")
