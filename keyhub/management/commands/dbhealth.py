from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from keyhub import dbhealth
from keyhub.dbhealth import allowances, catalogue_file, databases, examination, report
from keyhub.dbhealth.catalogue import CatalogueError
from keyhub.dbversion.version_list import VersionListError
from keyhub.lockledger.ledger import LedgerError
from keyhub.migrate.runner_lock import PoolerError

EXIT_FINDINGS = 1
EXIT_USAGE = 2
EXIT_NOT_CHECKED = 3
ALLOW_LIST = settings.BASE_DIR / allowances.FILE_NAME


class Command(BaseCommand):
    help = "Tell what in the live database is not as the code says, and how to mend it."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--database", choices=tuple(connections), help="one of them (default: all there are)")
        parser.add_argument("--format", default="text", choices=("text", *report.FORMATS))
        parser.add_argument(
            "--fail-on", default="warning", choices=("critical", "warning"),
            help="the least severity that makes the exit code 1 (default: %(default)s)",
        )  # fmt: skip
        parser.add_argument("--only", metavar="ID", action="append", default=[], help="this check alone; repeatable")
        parser.add_argument("--skip", metavar="ID", action="append", default=[], help="not this check; repeatable")
        parser.add_argument(
            "--allow-list", metavar="FILE", type=Path,
            help=f"findings that are let pass, in TOML (default: {ALLOW_LIST.name}, where there is one)",
        )  # fmt: skip
        parser.add_argument(
            "--phase", choices=tuple(dbhealth.Phase), help="the checks that matter right before or after migrate"
        )
        parser.add_argument("--data", action="store_true", help="also read the rows, for what no constraint says")
        parser.add_argument(
            "--write-catalogue", action="store_true",
            help="write keyhub/catalogue.txt from the migrations, run in a scratch database, instead of checking",
        )  # fmt: skip

    def handle(self, *, database, **options):
        try:
            if options["write_catalogue"]:
                self._write_catalogue(database or DEFAULT_DB_ALIAS)
                return
            selection = self._selection(options)
            allowed = self._allowances(options["allow_list"])
            results = databases.run_everywhere(selection) if database is None else [
                databases.run_alone(database, selection)
            ]  # fmt: skip
        except (CatalogueError, LedgerError, PoolerError, VersionListError) as error:
            raise CommandError(str(error), returncode=EXIT_NOT_CHECKED) from error
        reports = [result for result in results if isinstance(result, dbhealth.Report)]
        for each in reports:
            allowances.apply(each, allowed, datetime.now(UTC).date())
        if reports and options["format"] == "text":
            self.stdout.write("\n".join(report.text(each, self.style) for each in reports))
        elif reports:
            self.stdout.write(report.FORMATS[options["format"]](reports, examination.ids(selection)))
        if unasked := [str(result) for result in results if isinstance(result, databases.Unasked)]:
            raise CommandError("\n".join(unasked), returncode=EXIT_NOT_CHECKED)
        if any(each.fails(dbhealth.Severity(options["fail_on"])) for each in reports):
            raise SystemExit(EXIT_FINDINGS)

    def _write_catalogue(self, database: str) -> None:
        try:
            catalogue_file.write(database)
        except DatabaseError as error:
            raise CommandError(str(databases.Unasked.of(database, error)), returncode=EXIT_NOT_CHECKED) from error
        self.stdout.write(f"{catalogue_file.catalogue_path().name}: written")

    def _selection(self, options) -> examination.Selection:
        unknown = sorted({*options["only"], *options["skip"]} - examination.known_ids())
        if unknown:
            raise CommandError(
                f"there is no check {unknown[0]}. docs/operations/dbhealth.md lists them.", returncode=EXIT_USAGE
            )
        phase = dbhealth.Phase(options["phase"]) if options["phase"] else None
        return examination.Selection(frozenset(options["only"]), frozenset(options["skip"]), phase, options["data"])

    def _allowances(self, path: Path | None) -> list[allowances.Allowance]:
        if path is None and not ALLOW_LIST.exists():
            return []
        try:
            return allowances.read(path or ALLOW_LIST, examination.known_ids())
        except allowances.AllowListError as error:
            raise CommandError(str(error), returncode=EXIT_USAGE) from error
