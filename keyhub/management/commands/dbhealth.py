import dataclasses
import json

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from keyhub import dbhealth
from keyhub.dbversion.version_list import VersionListError

EXIT_FINDINGS = 1
EXIT_NOT_CHECKED = 3


class Command(BaseCommand):
    help = "Tell what in the live database is not as the code says, and how to mend it."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, database, format, **options):  # noqa: A002 the option's name
        try:
            findings = dbhealth.run(database)
        except (DatabaseError, VersionListError) as error:
            reason = " ".join(str(error).split())
            raise CommandError(
                f"the database {database!r} could not be checked: {reason}", returncode=EXIT_NOT_CHECKED
            ) from error
        if format == "json":
            self.stdout.write(
                json.dumps({"database": database, "findings": [dataclasses.asdict(finding) for finding in findings]})
            )
        else:
            self._write_text(database, findings)
        if findings:
            raise SystemExit(EXIT_FINDINGS)

    def _write_text(self, database: str, findings: list[dbhealth.Finding]) -> None:
        for finding in findings:
            style = self.style.ERROR if finding.severity is dbhealth.Severity.CRITICAL else self.style.WARNING
            self.stdout.write(f"{style(finding.severity.upper())} {finding.id} {finding.object}: {finding.problem}")
            self.stdout.write(f"    {finding.mend}")
        if findings:
            self.stdout.write(self.style.ERROR(f"{database}: {len(findings)} finding{'s' * (len(findings) > 1)}"))
        else:
            self.stdout.write(self.style.SUCCESS(f"{database}: healthy"))
