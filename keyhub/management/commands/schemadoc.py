from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections

from keyhub import schemadoc


class Command(BaseCommand):
    help = "Write docs/schema.md, the picture and the tables of the schema, from a migrated database."
    requires_system_checks = [Tags.compatibility, Tags.models]

    def add_arguments(self, parser):
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))
        parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is not current")

    def handle(self, *, database, check, **options):
        try:
            if not check:
                written = schemadoc.write(database)
                self.stdout.write("docs/schema.md: written" if written else "docs/schema.md: already current")
            elif schemadoc.is_current(database):
                self.stdout.write("docs/schema.md is current.")
            else:
                raise CommandError(
                    "docs/schema.md is not what the database says. Run `manage.py schemadoc` and commit the page."
                )
        except schemadoc.SchemaDocError as error:
            raise CommandError(str(error)) from error
