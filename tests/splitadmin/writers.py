"""Writers of what moves: services in Python through the managers, and one by SQL. Ended by SIGTERM.

    python -m tests.splitadmin.writers

Each write that was acknowledged is told on standard output in a line of JSON: what, of which row, and the milliseconds
that it took. An error ends the program, with its traceback.
"""

import json
import os
import signal
import sys
import threading
import time
import uuid

import django
import psycopg

PYTHON_THREADS = 3
LIFETIME_DAYS = 1
MOVED = "KH001"

stopping = threading.Event()
_print_lock = threading.Lock()


def tell(what: str, row: str, value: str, started_at: float) -> None:
    took_ms = (time.monotonic() - started_at) * 1000
    with _print_lock:
        print(json.dumps([what, row, value, round(took_ms, 1)]), flush=True)  # noqa: T201


def python_service(number: int) -> None:
    """Makes organizations with tenants, changes them, begins and ends console sessions."""
    from auth_sessions.models import ConsoleSession
    from orgs.copies import await_copy
    from orgs.models import Organization, OrganizationDomain
    from tenancy.models import Tenant

    name = f"writer-{number}-{uuid.uuid4().hex[:8]}"
    started_at = time.monotonic()
    own = Organization.objects.create(id=name, name="0", slug=name)
    tell("organization", name, "0", started_at)
    turn = 0
    while not stopping.is_set():
        turn += 1
        started_at = time.monotonic()
        own.name = str(turn)
        own.save()
        tell("organization", name, str(turn), started_at)
        started_at = time.monotonic()
        session, _token = ConsoleSession.objects.start(name)
        tell("session", str(session.pk), "begun", started_at)
        if turn % 2:
            started_at = time.monotonic()
            assert ConsoleSession.objects.filter(pk=session.pk).revoke() == 1
            tell("session", str(session.pk), "ended", started_at)
        if turn % 10 == 0:
            started_at = time.monotonic()
            Organization.objects.create(id=f"{name}-{turn}", name="0", slug=f"{name}-{turn}")
            tell("organization", f"{name}-{turn}", "0", started_at)
            await_copy(Organization(pk=f"{name}-{turn}"))
            tenant = Tenant.objects.create(organization_id=f"{name}-{turn}", name="T", slug=f"{name}-{turn}")
            tell("tenant", str(tenant.pk), f"{name}-{turn}", started_at)
            started_at = time.monotonic()
            OrganizationDomain.objects.create(organization=own, domain=f"{name}-{turn}.example")
            tell("domain", f"{name}-{turn}.example", name, started_at)


def sql_service() -> None:
    """Knows both databases, and writes in the other one where it is told so."""
    urls = [os.environ["DATABASE_URL"], os.environ["ADMIN_DATABASE_URL"]]
    home = 0
    with psycopg.connect(urls[0], autocommit=True) as tenant, psycopg.connect(urls[1], autocommit=True) as admin:
        while not stopping.is_set():
            started_at, row = time.monotonic(), str(uuid.uuid4())
            while True:
                try:
                    (tenant, admin)[home].execute(
                        "INSERT INTO console_sessions (id, session_id, organization_id, expires_at) VALUES "
                        "(%s, %s, 'ORG-DEFAULT-001', statement_timestamp() + make_interval(days => %s))",
                        [row, uuid.UUID(row).hex * 2, LIFETIME_DAYS],
                    )
                    break
                except psycopg.DatabaseError as error:
                    if error.sqlstate != MOVED:
                        raise
                    home = 1 - home
                    time.sleep(0.005)  # the other one opens in the same moment
            tell("session", row, "begun", started_at)
            time.sleep(0.001)


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    django.setup()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    failures = []

    def guarded(service, *arguments):
        try:
            service(*arguments)
        except BaseException as error:  # noqa: BLE001 told by the main thread, which ends the program
            failures.append(error)
            stopping.set()

    threads = [threading.Thread(target=guarded, args=(python_service, n)) for n in range(PYTHON_THREADS)]
    threads.append(threading.Thread(target=guarded, args=(sql_service,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.1)
    for failure in failures:
        raise failure
    return 0


if __name__ == "__main__":
    sys.exit(main())
