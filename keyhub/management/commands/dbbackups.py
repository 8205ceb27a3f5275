import argparse
import dataclasses

from django.db import connections

from keyhub.dbbackup import manifest, measure
from keyhub.dbbackup.command import BackupCommand, as_json, databases, size_words
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import Manifest
from keyhub.dbbackups import retention
from keyhub.dbbackups.prove import prove, refuse_unprovable
from keyhub.dbrestore.choice import LATEST, choose, is_of


def count(text: str) -> int:
    if not 0 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 10000")
    return int(text)


def one_or_more(text: str) -> int:
    if count(text) == 0:
        raise argparse.ArgumentTypeError("at least 1 proved backup must stay")
    return int(text)


class Command(BackupCommand):
    help = "List the backups of the databases, prove one by restoring it, or let the old ones go."

    def add_arguments(self, parser):
        actions = parser.add_subparsers(dest="action", required=True)
        rules = retention.Rules()
        for name, help_text in (
            ("list", "the backups of each database, newest first"),
            ("prove", "restore one into a scratch database, compare, and sign the result"),
            ("prune", "let those go that are older than the rules keep"),
        ):
            action = actions.add_parser(name, help=help_text, description=help_text)
            action.add_argument("--database", choices=tuple(connections), help="one of them (default: all there are)")
            action.add_argument(
                "--from", dest="url", metavar="URL", help="where backups are kept (default: BACKUP_URL)"
            )
            action.add_argument("--format", default="text", choices=("text", "json"))
            if name == "prove":
                action.add_argument("backup", help=f"its name, or {LATEST}")
            if name == "prune":
                action.add_argument(
                    "--days", type=count, default=rules.days, help="keep all of these (default: %(default)s)"
                )
                for period in retention.PERIODS:
                    action.add_argument(
                        f"--{period}", type=count, default=0, metavar="N", help=f"and the last of N {period} periods"
                    )
                action.add_argument(
                    "--min-proved", type=one_or_more, default=rules.min_proved, metavar="N",
                    help="and, whatever else, the N newest proved ones (default: %(default)s)",
                )  # fmt: skip
                action.add_argument("--plan", action="store_true", help="say what would go, and why the others stay")

    def handle(self, *, action, database, url, **options):
        store, aliases = self.store(url), databases(database)
        if action == "prove" and options["backup"] != LATEST:
            aliases = self._holders(store, aliases, options["backup"])
        act = getattr(self, f"_{action}")
        self.for_each(aliases, lambda alias: act(store, alias, self._identity(alias), options))

    def _identity(self, alias) -> tuple[str, str]:
        """A database's name and its server's number, by which its backups are known."""
        connection = connections[alias]
        connection.ensure_connection()
        return connection.settings_dict["NAME"], measure.system_identifier(connection.connection)

    def _holders(self, store, aliases, name) -> list[str]:
        """The database that has a backup of this name, where one of several has."""
        if len(aliases) == 1:
            return aliases
        for alias in aliases:
            for item in manifest.survey(store, connections[alias].settings_dict["NAME"]):
                if item.backup == name and is_of(alias, item):
                    return [alias]
        raise BackupError(f"{store.url} has no backup {name}. manage.py dbbackups list shows what it has.")

    def _list(self, store, alias, identity, options):
        database, own = identity
        found = [item for item in manifest.survey(store, database) if is_of(alias, item)]
        if options["format"] == "json":
            backups = [as_json(item, store) for item in found if isinstance(item, Manifest)]
            damaged = [item.path for item in found if getattr(item, "damage", None)]
            self.write_json(alias, {"backups": backups, "damaged": damaged})
            return
        for item in found:
            elsewhere = "" if item.system_identifier == own else f"  (of the server {item.system_identifier})"
            self.tell(alias, f"{item.backup}  {self._words(item)}{elsewhere}")
        if not found:
            self.tell(alias, f"{store.url} has no backup of the database {database}. Make one: manage.py dbbackup")

    def _words(self, item) -> str:
        if not isinstance(item, Manifest):
            return "DAMAGED" if item.damage else "unfinished, or being made"
        proved = f"proved {item.proof.proved_at:%Y-%m-%d}" if item.is_proved else "not proved"
        version = item.schema_version or "empty"
        locked = ", encrypted" if item.recipients else ""
        return f"{version}  {item.rows} rows  {size_words(item.size_bytes)}{locked}  {proved}"

    def _prove(self, store, alias, identity, options):
        database, own = identity
        chosen = choose(store, alias, database, options["backup"], own)
        refuse_unprovable(chosen.recipients)
        with self.progress() as bar:
            proved = prove(store, chosen, alias, bar)
        if options["format"] == "json":
            self.write_json(alias, as_json(proved, store))
            return
        self.tell(
            alias, f"{proved.backup}: proved: restored in {proved.proof.restore_s:.1f} s, and every row is the same"
        )

    def _prune(self, store, alias, identity, options):
        rules = retention.Rules(**{rule.name: options[rule.name] for rule in dataclasses.fields(retention.Rules)})
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT now()")
            (now,) = cursor.fetchone()
        plan = retention.plan(store, *identity, rules, now)
        for folder in plan.damaged:
            self.warn(alias, f"{folder.path} is damaged, and left for you to look at.")
        gone = [item.backup for item in [*plan.going, *plan.leftovers]]
        if not options["plan"]:
            retention.carry_out(store, plan)
        if options["format"] == "json":
            kept = [{"backup": backup.backup, "reason": reason} for backup, reason in plan.kept]
            self.write_json(alias, {"plan": options["plan"], "gone": gone, "kept": kept})
            return
        if options["plan"]:
            for backup, reason in plan.kept:
                self.tell(alias, f"{backup.backup}  stays: {reason}")
        for name in gone:
            self.tell(alias, f"{name}  {'would go' if options['plan'] else 'gone'}")
        if not gone:
            self.tell(alias, "Nothing to do: no backup is older than the rules keep.")
