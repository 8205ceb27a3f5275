from django.db import connections

from keyhub.dbbackup import backup
from keyhub.dbbackup.command import BackupCommand, as_json, databases, size_words
from keyhub.dbbackup.encryption import encryption
from keyhub.dbbackups.prove import prove, refuse_unprovable


class Command(BackupCommand):
    help = "Back up the databases into a store: compressed, encrypted to public keys, counted, and with a digest."
    url_option = "--to URL"

    def add_arguments(self, parser):
        parser.add_argument("--database", choices=tuple(connections), help="one of them (default: all there are)")
        parser.add_argument("--to", metavar="URL", help="where backups are kept (default: BACKUP_URL)")
        parser.add_argument("--prove", action="store_true", help="then restore it, compare, and sign the result")
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, database, to, **options):
        store, encrypting = self.store(to), encryption()
        if options["prove"]:
            refuse_unprovable(encrypting.names if encrypting else [])
        self.for_each(databases(database), lambda alias: self._back_up(alias, store, encrypting, **options))

    def _back_up(self, alias, store, encrypting, **options):
        with self.progress() as bar:
            bar.begin("dump", 0)
            made = backup.make(alias, store, encrypting, bar.advance)
            if options["prove"]:
                made = prove(store, made, alias, bar)
        for finding in made.unhealthy:
            self.warn(alias, f"As it is backed up, the database is not healthy: {finding}")
        if options["format"] == "json":
            self.write_json(alias, as_json(made, store))
            return
        took_s = (made.finished_at - made.started_at).total_seconds()
        self.tell(
            alias,
            f"{made.backup}: {made.rows} rows of {len(made.tables)} tables, {size_words(made.size_bytes)}"
            f"{', encrypted' if made.recipients else ''}, in {took_s:.1f} s",
        )
        if made.is_proved:
            self.tell(alias, f"proved: restored in {made.proof.restore_s:.1f} s, and every row is the same")
        else:
            self.tell(alias, "not proved yet: manage.py dbbackups prove latest")
