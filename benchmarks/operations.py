"""Operations of services, beside the ORM's natural code, and the bare statement by the driver and by pgbench.

    .venv/bin/python -m benchmarks.operations [seconds] [rounds]

Eight clients, each a process with a connection of its own; the contenders take turns, all in one run, on an embedded
server of its own, with 1,800,000 users, states and sessions. Told: operations per second (medians), and their ratios.

1. redeem: one hot join code without a limit, a new user each time
2. consume: OAuth states, each once
3. authenticate: another session each time
4. the deletion of a tenant with 200,000 memberships, a tenth of them acted in by a session: once for each contender
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.server import own_server
from keyhub.embedded import EmbeddedServer

REPOSITORY = Path(__file__).parent.parent
CLIENTS = 8
MEMBERSHIPS = 200_000
ROWS_OF_RUN = 25_000  # more than one client needs in one run
CODE = "KH-BENCH-MARK0-00000"
PROVIDER = "https://accounts.example.com"
CONTENDERS = ["KeyHub", "ORM", "driver", "pgbench"]

# Ids and secrets follow from numbers, so that each client finds its own without asking.
LOAD = f"""
    CREATE FUNCTION bench_digest(text) RETURNS text LANGUAGE sql IMMUTABLE
        RETURN encode(sha256(convert_to($1, 'UTF8')), 'hex');
    CREATE FUNCTION bench_id(bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
        RETURN lpad(to_hex($1), 32, '0')::uuid;
    INSERT INTO users (id, email) SELECT bench_id(n), n || '@example.com' FROM generate_series(0, %(rows)s) AS n;
    INSERT INTO oauth_states (state, browser_digest, provider, code_verifier, nonce, created_at)
        SELECT bench_digest('state-' || n), bench_digest('browser-' || n), '{PROVIDER}', 'v', 'n',
            statement_timestamp() + interval '1 hour'
        FROM generate_series(0, %(rows)s) AS n;
    INSERT INTO sessions (session_id, user_id, expires_at, last_accessed_at)
        SELECT bench_digest('session-' || n), bench_id(n),
            statement_timestamp() + interval '1 day', statement_timestamp() + interval '1 hour'
        FROM generate_series(0, %(rows)s) AS n;
    INSERT INTO tenants (id, name, slug) VALUES (bench_id(1), 'Hot', 'hot');
    INSERT INTO tenant_join_codes (tenant_id, code) VALUES (bench_id(1), '{CODE}');
"""
BIG_TENANT = f"""
    INSERT INTO tenants (id, name, slug) VALUES (bench_id(2), 'Big', 'big');
    INSERT INTO tenant_memberships (tenant_id, user_id)
        SELECT bench_id(2), bench_id(n) FROM generate_series(1, {MEMBERSHIPS}) AS n;
    UPDATE sessions SET active_membership_id = own.id FROM tenant_memberships AS own
        WHERE own.tenant_id = bench_id(2) AND own.user_id = sessions.user_id
            AND sessions.user_id <= bench_id({MEMBERSHIPS // 10});
"""

# In a process of its own, which tells that it is ready, waits for a word, and goes on for some seconds.
CLIENT = """
import sys, time
import django
django.setup()
import importlib
from benchmarks.operations import by_the_driver
from django.db import connection
function = getattr(importlib.import_module(sys.argv[5]), sys.argv[1], by_the_driver(sys.argv[2]))
seconds, number = float(sys.argv[3]), int(sys.argv[4])
connection.ensure_connection()
print("ready", flush=True)
sys.stdin.readline()
first, end = number, time.perf_counter() + seconds
while time.perf_counter() < end:
    function(number)
    number += 1
print(number - first)
"""


def user_of(number: int):
    import uuid

    from accounts.models import User

    return User(id=uuid.UUID(int=number))


def by_the_driver(statement: str) -> Callable[[int], object]:
    from django.db import connection

    statement = statement.replace("%", "%%").replace(":n", "%(n)s")

    def execute(number: int) -> object:
        with connection.cursor() as cursor:
            cursor.execute(statement, {"n": number})
            return cursor.fetchone()

    return execute


def redeem_keyhub(number: int) -> None:
    from tenancy.models import TenantJoinCode

    TenantJoinCode.objects.redeem(CODE, user_of(number))


def redeem_orm(number: int) -> None:
    """What one writes who knows select_for_update()."""
    from django.db import transaction
    from django.db.models import F
    from django.utils import timezone

    from tenancy.models import TenantJoinCode, TenantJoinCodeRedemption, TenantMembership

    user = user_of(number)
    with transaction.atomic():
        code = TenantJoinCode.objects.select_for_update().get(code=CODE)
        assert code.revoked_at is None
        assert code.expires_at is None or code.expires_at > timezone.now()
        assert code.max_uses == 0 or code.used_count < code.max_uses
        membership, _ = TenantMembership.objects.get_or_create(
            tenant_id=code.tenant_id, user=user, defaults={"role": code.role}
        )
        TenantJoinCodeRedemption.objects.create(join_code=code, membership=membership, user=user)
        code.used_count = F("used_count") + 1
        code.save(update_fields=["used_count"])


def consume_keyhub(number: int) -> None:
    from auth_sessions.models import OAuthState

    OAuthState.objects.consume(f"state-{number}", f"browser-{number}", PROVIDER)


def consume_orm(number: int) -> None:
    from datetime import timedelta

    from django.db import transaction
    from django.utils import timezone

    from auth_sessions.models import OAuthState
    from auth_sessions.tokens import digest

    with transaction.atomic():
        state = OAuthState.objects.select_for_update().get(state=digest(f"state-{number}"))
        assert state.browser_digest == digest(f"browser-{number}")
        assert state.provider == PROVIDER
        assert state.consumed_at is None
        assert state.created_at > timezone.now() - timedelta(minutes=10)
        state.consumed_at = timezone.now()
        state.save(update_fields=["consumed_at"])


def authenticate_keyhub(number: int) -> None:
    from auth_sessions.models import Session

    Session.objects.authenticate(f"session-{number}")


def authenticate_orm(number: int) -> None:
    from django.utils import timezone

    from auth_sessions.models import Session
    from auth_sessions.tokens import digest

    session = Session.objects.select_related("user", "active_membership__tenant").get(
        session_id=digest(f"session-{number}")
    )
    assert not session.revoked
    assert session.expires_at > timezone.now()
    assert session.user.disabled_at is None


def bare_statements() -> dict[str, str]:
    """For pgbench; `:n` is the number of the row."""
    from auth_sessions.oauth_states import CONSUME
    from tenancy.join_codes import REDEEM

    consume = CONSUME.replace("%s", "{}").format(
        "bench_digest('state-' || :n)", "bench_digest('browser-' || :n)", f"'{PROVIDER}'"
    )
    return {
        "redeem": REDEEM.replace("%(code)s", f"'{CODE}'").replace("%(user)s", "bench_id(:n)"),
        "consume": consume,
        "authenticate": "SELECT * FROM sessions WHERE session_id = bench_digest('session-' || :n)",
    }


def main(seconds: float, rounds: int) -> None:
    with own_server() as (server, folder):
        os.environ.update(
            DEBUG="off", SECRET_KEY="s" * 60, ALLOWED_HOSTS="localhost", DJANGO_SETTINGS_MODULE="keyhub.settings",
            DATABASE_URL=f"postgres:///keyhub?host={server.socket_directory}&user=keyhub",
        )  # fmt: skip
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=REPOSITORY, check=True)
        rows = max(CLIENTS * len(CONTENDERS) * rounds * ROWS_OF_RUN, MEMBERSHIPS)
        print(f"{rows:,} users, states and sessions", file=sys.stderr)
        with server.connect("keyhub", user="keyhub") as owner:
            owner.execute(LOAD.replace("%(rows)s", str(rows)))
        with server.connect("keyhub") as admin:
            admin.execute("VACUUM (ANALYZE)")
            admin.execute("CHECKPOINT")
        import django

        django.setup()
        for operation, statement in bare_statements().items():
            compare(server, folder / "statement.sql", operation, statement, seconds, rounds)
        delete_tenants(server)


def compare(server: EmbeddedServer, script: Path, operation: str, statement: str, seconds: float, rounds: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for run in range(rounds * len(CONTENDERS)):
        name = CONTENDERS[run % len(CONTENDERS)]
        # No row is used twice: each client of each run has numbers of its own.
        first = run * CLIENTS * ROWS_OF_RUN
        if name == "pgbench":
            done = run_pgbench(server, script, statement, seconds, first)
        else:
            done = run_clients(f"{operation}_{name.lower()}", statement, seconds, first)
        rates[name].append(done / seconds)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{operation}, {CLIENTS} clients:")
    for name, rate in medians.items():
        print(f"  {name:7} {rate:7.0f} per second")
    print("  KeyHub is", ", ".join(f"{medians['KeyHub'] / medians[name]:.2f} of {name}" for name in CONTENDERS[1:]))


def run_clients(
    function: str, statement: str, seconds: float, first: int, module: str = "benchmarks.operations"
) -> int:
    """How many operations eight clients did."""
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [
                sys.executable, "-c", CLIENT, function, statement, str(seconds), str(first + number * ROWS_OF_RUN),
                module,
            ],
            cwd=REPOSITORY, text=True, stdin=pipe, stdout=pipe,
        )
        for number in range(CLIENTS)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(int(process.communicate()[0]) for process in processes)


def run_pgbench(server: EmbeddedServer, script: Path, statement: str, seconds: float, first: int) -> int:
    """As run_clients(). A variable of pgbench lives as long as its client."""
    lines = [line.partition("--")[0].strip() for line in statement.splitlines()]
    number = f"\\set n {first} + :client_id * {ROWS_OF_RUN} + :done\n\\set done :done + 1\n"
    script.write_text(f"{number}{' '.join(lines)};\n")
    result = subprocess.run(
        [
            server.program("pgbench"), "--no-vacuum", f"--client={CLIENTS}", "--jobs=2", f"--time={seconds:.0f}",
            "--define=done=0", f"--file={script}", f"--host={server.socket_directory}", "--username=keyhub", "keyhub",
        ],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return int(re.search(r"transactions actually processed: (\d+)", result.stdout)[1])


def delete_tenants(server: EmbeddedServer) -> None:
    """Each contender deletes the same tenant, made anew."""
    from django.db import connection

    from tenancy.models import Tenant

    natural = natural_tenant()
    contenders: dict[str, Callable[[], object]] = {
        "KeyHub": lambda: Tenant.objects.get(slug="big").delete(),
        "ORM": lambda: natural.objects.get(slug="big").delete(),
        "bare": lambda: connection.cursor().execute("DELETE FROM tenants WHERE slug = 'big'"),
    }
    seconds = {}
    for name, delete in contenders.items():
        with server.connect("keyhub", user="keyhub") as owner:
            owner.execute(BIG_TENANT)
        with server.connect("keyhub") as admin:
            admin.execute("VACUUM (ANALYZE) tenant_memberships, sessions")
        started = time.perf_counter()
        delete()
        seconds[name] = time.perf_counter() - started
    print(f"a tenant with {MEMBERSHIPS:,} memberships deleted:")
    for name, taken in seconds.items():
        print(f"  {name:7} {taken:7.2f} s")


def natural_tenant() -> type:
    """The same tables as Django's own foreign keys would have them: with delete rules in Python."""
    from django.db import models

    class NaturalTenant(models.Model):
        id = models.UUIDField(primary_key=True)
        slug = models.TextField()

        class Meta:
            app_label, db_table, managed = "tenancy", "tenants", False

    class NaturalMembership(models.Model):
        id = models.UUIDField(primary_key=True)
        tenant = models.ForeignKey(NaturalTenant, on_delete=models.CASCADE)

        class Meta:
            app_label, db_table, managed = "tenancy", "tenant_memberships", False

    class NaturalSession(models.Model):
        id = models.UUIDField(primary_key=True)
        active_membership = models.ForeignKey(NaturalMembership, on_delete=models.SET_NULL, null=True)

        class Meta:
            app_label, db_table, managed = "tenancy", "sessions", False

    return NaturalTenant


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(float(arguments[0]) if arguments else 5.0, int(arguments[1]) if len(arguments) > 1 else 3)
