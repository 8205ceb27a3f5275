from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections

from keyhub.dbversion.version_list import VersionListError
from keyhub.lockledger import ledger
from keyhub.lockledger.run import measure
from keyhub.migrate.runner_lock import PoolerError


class Command(BaseCommand):
    help = "Write keyhub/locks.txt: what each migration locks and rewrites, measured in a scratch database."
    # The scratch database is made from the migrations; what the checks say of the configured one does not matter.
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))
        parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the ledger is stale")

    def handle(self, *, database, check, **options):
        path = ledger.default_path()
        try:
            committed = ledger.text_of(path) if path.exists() or check else ""
            measured = ledger.render(measure(database))
        except (ledger.LedgerError, PoolerError, VersionListError) as error:
            raise CommandError(str(error)) from error
        difference = ledger.first_difference(committed, measured)
        if difference is None:
            self.stdout.write(f"{path.name} is current.")
        elif check:
            raise CommandError(
                f"{path.name} is stale. {difference}. Run manage.py lockledger, and commit the file with the migration."
            )
        else:
            ledger.write(measured, path)
            self.stdout.write(f"{path.name}: written")
