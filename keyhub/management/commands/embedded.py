import shlex

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from keyhub.embedded import EmbeddedServer

EXIT_STOPPED = 3


class Command(BaseCommand):
    help = "Start, stop or show the PostgreSQL that DATABASE_URL=embedded:///folder names."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("action", choices=("start", "stop", "status"))

    def handle(self, *, action, **options):
        servers = [connection.server for connection in connections.all() if "EMBEDDED" in connection.settings_dict]
        if not servers:
            raise CommandError(
                "DATABASE_URL names a server of your own, not an embedded one: start and stop it by its own means, "
                "or set DATABASE_URL to embedded:///folder."
            )
        for server in servers:
            state = getattr(self, f"_{action}")(server)
            self.stdout.write(f"The embedded PostgreSQL in {server.folder} {state}")
        if action == "status" and not all(server.takes_connections() for server in servers):
            raise SystemExit(EXIT_STOPPED)

    def _start(self, server: EmbeddedServer) -> str:
        return "has started." if server.start() else self._status(server)

    def _stop(self, server: EmbeddedServer) -> str:
        return "has stopped." if server.stop() else "is stopped."

    def _status(self, server: EmbeddedServer) -> str:
        if not server.takes_connections():
            return "is stopped."
        return f"runs: psql -h {shlex.quote(str(server.socket_directory))} -U keyhub keyhub"
