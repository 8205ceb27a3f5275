"""How long readers and writers wait while the schema changes under them: KeyHub's migrate, plain Django's, and psql.

    .venv/bin/python -m benchmarks.stall [rows]

Each contender gets the same database: version 2 (1 and its data) with `rows` (1,000,000) users and sessions, and as
many audit rows as soon as there is a table for them. Four clients read and write every table that exists, as fast as
they can.

1. from version 2 to the one that makes audit_logs, and from there, with its rows, to the newest
2. back by one version, which takes ACCESS EXCLUSIVE on tenants, while a forgotten transaction holds a read lock on it
   for some seconds and then ends

Told: the longest wait of any request, and how many failed. All in one run, on an embedded server of its own.
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks.server import own_server
from keyhub.embedded import EmbeddedServer

REPOSITORY = Path(__file__).parent.parent
CLIENTS = 4
FORGOTTEN_FOR_S = 10
LOAD = """
    INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, %(rows)s) AS n;
    INSERT INTO tenants (name, slug) SELECT 'Team ' || n, 'team-' || n FROM generate_series(1, 1000) AS n;
    INSERT INTO tenant_memberships (tenant_id, user_id)
        SELECT numbered_tenants.id, numbered_users.id
        FROM (SELECT id, row_number() OVER () AS n FROM tenants) AS numbered_tenants
        JOIN (SELECT id, row_number() OVER () AS n FROM users LIMIT 50000) AS numbered_users
            ON numbered_tenants.n = numbered_users.n %% 1000 + 1;
    INSERT INTO sessions (session_id, user_id, expires_at)
        SELECT encode(sha256(uuid_send(gen_random_uuid())), 'hex'), id, statement_timestamp() + interval '1 day'
        FROM users;
"""
LOAD_AUDIT_LOGS = """
    INSERT INTO audit_logs (organization_id, action, resource_type, resource_id)
    SELECT 'ORG-DEFAULT-001', 'user.login', 'session', n::text FROM generate_series(1, %(rows)s) AS n
"""
# Requests of services. A table that is not there yet, or no more, is no failure.
REQUESTS = [
    "SELECT * FROM users WHERE email = '%(n)s@example.com'",
    "UPDATE users SET name = 'Name %(n)s' WHERE email = '%(n)s@example.com'",
    "INSERT INTO users (email) VALUES ('new-' || gen_random_uuid() || '@example.com')",
    "SELECT * FROM sessions WHERE user_id = (SELECT id FROM users WHERE email = '%(n)s@example.com')",
    "UPDATE sessions SET last_accessed_at = statement_timestamp() "
    "WHERE user_id = (SELECT id FROM users WHERE email = '%(n)s@example.com')",
    "SELECT * FROM tenants WHERE slug = 'team-%(m)s'",
    "UPDATE tenants SET description = 'd%(n)s' WHERE slug = 'team-%(m)s'",
    "INSERT INTO tenant_join_codes (tenant_id, code) "
    "SELECT id, gen_random_uuid()::text FROM tenants WHERE slug = 'team-%(m)s'",
    "SELECT count(*) FROM tenant_memberships JOIN tenants ON tenants.id = tenant_id WHERE slug = 'team-%(m)s'",
    "INSERT INTO oauth_states (state, code_verifier, nonce) "
    "VALUES (encode(sha256(uuid_send(gen_random_uuid())), 'hex'), 'v', 'n')",
    "INSERT INTO console_sessions (session_id, organization_id, expires_at) "
    "VALUES (encode(sha256(uuid_send(gen_random_uuid())), 'hex'), 'ORG-DEFAULT-001', 'tomorrow')",
    "INSERT INTO groups (tenant_id, name) SELECT id, 'g' FROM tenants WHERE slug = 'team-%(m)s'",
    "INSERT INTO user_identities (user_id, provider, provider_sub) "
    "SELECT id, 'google', gen_random_uuid()::text FROM users WHERE email = '%(n)s@example.com'",
    "INSERT INTO group_memberships (group_id, user_id, role) SELECT groups.id, users.id, 'member' FROM groups, users "
    "WHERE email = '%(n)s@example.com' LIMIT 1 ON CONFLICT DO NOTHING",
    "SELECT * FROM organization_domains WHERE organization_id = 'ORG-DEFAULT-001'",
    "INSERT INTO organization_domains (organization_id, domain) "
    "SELECT id, gen_random_uuid() || '.example' FROM organizations WHERE slug = 'default'",
    "INSERT INTO audit_logs (organization_id, action, resource_type) VALUES ('ORG-DEFAULT-001', 'a', 'r')",
    "SELECT * FROM audit_logs WHERE organization_id = 'ORG-DEFAULT-001' ORDER BY created_at DESC LIMIT 50",
    "SELECT * FROM organizations WHERE slug = 'default'",
]
PLAIN_DJANGO = (
    "import django; django.setup(); "
    "from django.core.management import call_command; "
    "from django.core.management.commands.migrate import Command; "
    "call_command(Command(), *{arguments}, verbosity=0)"
)


@dataclass
class Waits:
    longest_s: float = 0.0
    requests: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"longest wait {self.longest_s * 1000:6.0f} ms, {self.requests:6} requests, {len(self.failures)} failed"
        return text + (f" (the first: {self.failures[0]})" if self.failures else "")


class Contender:
    """Something that migrates the database `work` of the server."""

    def __init__(self, server: EmbeddedServer):
        self.server = server
        address = f"postgres:///work?host={server.socket_directory}&user=keyhub"
        self.environment = {
            **os.environ,
            "DEBUG": "on",
            "DATABASE_URL": address,
            "DJANGO_SETTINGS_MODULE": "keyhub.settings",
        }

    def run(self, *command: object) -> None:
        subprocess.run(command, cwd=REPOSITORY, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def manage(self, *arguments: str) -> None:
        self.run(sys.executable, "manage.py", *arguments)


class KeyHub(Contender):
    name = "KeyHub's migrate"

    def up_to_audit_logs(self) -> None:
        self.manage("migrate", "-v0", "--to=add_audit_logs", "--retries=100")

    def up(self) -> None:
        self.manage("migrate", "-v0", "--retries=100")

    def down(self) -> None:
        self.manage("migrate", "-v0", "--to=add_audit_logs", "--yes", "--retries=100")


class PlainDjango(Contender):
    name = "plain Django"

    def up_to_audit_logs(self) -> None:
        self.run(sys.executable, "-c", PLAIN_DJANGO.format(arguments=["tenancy"]))
        self.run(sys.executable, "-c", PLAIN_DJANGO.format(arguments=["audit"]))

    def up(self) -> None:
        self.run(sys.executable, "-c", PLAIN_DJANGO.format(arguments=[]))

    def down(self) -> None:
        self.run(sys.executable, "-c", PLAIN_DJANGO.format(arguments=["orgs", "zero"]))


class Psql(Contender):
    name = "psql"
    to_audit_logs = (("tenancy", "0003"), ("audit", "0001"))
    organizations = (("orgs", "0001"), ("orgs", "0002"), ("orgs", "0003"), ("orgs", "0004"), ("orgs", "0005"))

    def __init__(self, server: EmbeddedServer):
        super().__init__(server)
        self.script: dict[str, str] = {}

    def prepare(self) -> None:
        """Write the same DDL, as sqlmigrate tells it: one transaction for each migration."""

        def sql(app: str, number: str, *options: str) -> str:
            command = [sys.executable, "manage.py", "sqlmigrate", app, number, *options]
            return subprocess.run(
                command, cwd=REPOSITORY, env=self.environment, check=True, capture_output=True, text=True
            ).stdout

        self.script = {
            "up to audit_logs": "\n".join(sql(*migration) for migration in self.to_audit_logs),
            "up": "\n".join(sql(*migration) for migration in self.organizations),
            "down": "\n".join(sql(*migration, "--backwards") for migration in reversed(self.organizations)),
        }

    def psql(self, script: str) -> None:
        command = [self.server.program("psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
        command += [f"--host={self.server.socket_directory}", "--username=keyhub", "work"]
        subprocess.run(command, input=self.script[script], text=True, check=True)

    def up_to_audit_logs(self) -> None:
        self.psql("up to audit_logs")

    def up(self) -> None:
        self.psql("up")

    def down(self) -> None:
        self.psql("down")


@contextmanager
def clients(server: EmbeddedServer) -> Iterator[Waits]:
    """Let the clients work while the block runs."""
    waits, stop, lock = Waits(), threading.Event(), threading.Lock()

    def work(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 a load, no secret
        with server.connect("work", "keyhub") as connection:
            connection.prepare_threshold = None
            while not stop.is_set():
                request = chance.choice(REQUESTS) % {"n": chance.randint(1, 1000), "m": chance.randint(1, 1000)}
                started = time.perf_counter()
                failure = None
                try:
                    connection.execute(request)
                except psycopg.errors.UndefinedTable:
                    pass
                except psycopg.Error as error:
                    failure = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                waited_s = time.perf_counter() - started
                with lock:
                    waits.requests += 1
                    waits.longest_s = max(waits.longest_s, waited_s)
                    if failure:
                        waits.failures.append(failure)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield waits
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def forgotten_transaction(server: EmbeddedServer) -> Iterator[None]:
    """A client that has read tenants and idles in its transaction for some seconds."""
    connection = server.connect("work", "keyhub")
    connection.autocommit = False
    connection.execute("SELECT count(*) FROM tenants")
    timer = threading.Timer(FORGOTTEN_FOR_S, connection.rollback)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        connection.close()


def measure(server: EmbeddedServer, contender: Contender, rows: int) -> None:
    with server.connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS work WITH (FORCE)")
        admin.execute("CREATE DATABASE work OWNER keyhub")
    contender.manage("migrate", "-v0", "--to=seed_data")
    with server.connect("work", "keyhub") as connection:
        connection.execute(LOAD % {"rows": rows})
    if isinstance(contender, Psql):
        contender.prepare()
    with clients(server) as waits:
        time.sleep(1)
        contender.up_to_audit_logs()
        time.sleep(1)
    print(f"{contender.name:17} up to audit_logs: {waits}", flush=True)
    with server.connect("work", "keyhub") as connection:
        connection.execute(LOAD_AUDIT_LOGS % {"rows": rows})
        connection.execute("ANALYZE")
    with clients(server) as waits:
        time.sleep(1)
        contender.up()
        time.sleep(1)
    print(f"{contender.name:17} up to the newest: {waits}", flush=True)
    with clients(server) as waits, forgotten_transaction(server):
        time.sleep(1)
        contender.down()
        time.sleep(1)
    print(f"{contender.name:17} down:             {waits}", flush=True)


def main(rows: int) -> None:
    with own_server() as (server, _):
        for contender in (KeyHub, PlainDjango, Psql):
            measure(server, contender(server), rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
