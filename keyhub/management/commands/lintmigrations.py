from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from keyhub.lintmigrations import linter
from keyhub.lintmigrations.findings import LintError

EXIT_FINDINGS = 1
EXIT_NOT_READ = 2


class Command(BaseCommand):
    help = "Tell what in the project's migrations, or in SQL files, would hurt a database in use, and how to mend it."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument(
            "path", nargs="*", type=Path, help="SQL files to read instead, as one history in the order of their names"
        )
        parser.add_argument("--format", default="text", choices=("text", "json"))

    def handle(self, *, path, format, **options):  # noqa: A002 the option's name
        try:
            report = linter.lint_files(path) if path else linter.lint_project()
        except LintError as error:
            raise CommandError(str(error), returncode=EXIT_NOT_READ) from error
        if not report.squawk_was_asked:
            self.stderr.write(
                "squawk is not installed, so its rules were not asked. Install the packages of requirements.lock."
            )
        self.stdout.write(report.as_json() if format == "json" else report.as_text())
        if report.findings:
            raise SystemExit(EXIT_FINDINGS)
