"""The primary goes away while everybody writes: no acknowledged write is lost, and nobody needs a restart.

Here the test is the one who promotes the standby; with Patroni: patroni.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.db import InternalError, close_old_connections, connection

from audit.models import AuditLog
from keyhub.database_url import database_from_url
from keyhub.primary import to_the_primary
from tests.conftest import connected_by
from tests.factories import (
    AuditLogFactory,
    SessionFactory,
    TenantJoinCodeFactory,
    TenantJoinCodeRedemptionFactory,
    UserFactory,
)
from tests.failover.drill import drill
from tests.failover.pair import Pair
from tests.failover.writers import Acknowledged, lost_and_doubled
from tests.pooler import Pooler, needs_pgbouncer, pgbouncer
from tests.test_serve import image  # noqa: F401

pytestmark = pytest.mark.database


@pytest.mark.long
def test_the_primary_is_killed_under_load(servers, image, tmp_path):  # noqa: F811
    drill(servers, image, tmp_path)
    servers.wait_until_equal()


@pytest.fixture
def site(servers, django_db_blocker) -> Iterator[None]:
    """Django's connection as a thread of the site has it."""
    entry = {**to_the_primary(database_from_url(servers.url())), "CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    with django_db_blocker.unblock(), connected_by(entry):
        yield


@dataclass
class PooledPair:
    """A pair behind a pooler, which somebody leads to the new primary: a script of Patroni's, an address, a proxy."""

    servers: Pair
    pooler: Pooler

    def url(self) -> str:
        return self.pooler.url("keyhub")

    def kill_primary(self) -> None:
        self.servers.kill_primary()

    def take_over(self) -> None:
        self.servers.take_over()
        self.pooler.lead_to(self.servers.primary)
        self.pooler.reload()

    def bring_back(self) -> None:
        self.servers.bring_back()


@needs_pgbouncer
@pytest.mark.long
@pytest.mark.once
def test_the_primary_behind_a_pooler_is_killed_under_load(servers, image, tmp_path):  # noqa: F811
    settings = {"default_pool_size": 4, "query_wait_timeout": 5, "server_login_retry": 1}
    with pgbouncer(servers.primary, "transaction", **settings) as pooler:
        drill(PooledPair(servers, pooler), image, tmp_path, DIRECT_DATABASE_URL=servers.url())


def write() -> None:
    AuditLog.objects.record("failover", "test", organization_id="o")


def request() -> str:
    """Write, with what Django does around every request; the server that took it."""
    close_old_connections()
    write()
    close_old_connections()
    return connection.connection.info.host


def hosts(servers) -> tuple[str, str]:
    return str(servers.primary.socket_directory), str(servers.standby.socket_directory)


def test_a_server_that_takes_no_writes_any_more_is_left_without_an_error(servers, site):
    """An old primary that is shut off from writing keeps its sessions, and Django would go on using them."""
    old, new = hosts(servers)
    assert request() == old
    servers.fence()
    servers.take_over()
    assert request() == new


def test_only_a_request_that_is_under_way_fails(servers, site):
    old, new = hosts(servers)
    assert request() == old
    write()
    servers.fence()
    servers.take_over()
    with pytest.raises(InternalError, match=r"^cannot execute INSERT in a read-only transaction$"):
        write()
    assert request() == new


# What the drill finds


@pytest.fixture
def writes(migrated_database, connected_to) -> Iterator[list[Acknowledged]]:
    """What one writer has been acknowledged, and the database has."""
    with connected_to(migrated_database):
        redemption = TenantJoinCodeRedemptionFactory(
            join_code=TenantJoinCodeFactory(code="KH-1", max_uses=0, used_count=1)
        )
        session = SessionFactory(user=redemption.user)
        row = AuditLogFactory(action="session.start", resource_id=str(session.pk))
        yield [
            Acknowledged(1.0, "users", str(redemption.user_id)),
            Acknowledged(2.0, "tenant_memberships", str(redemption.user_id)),
            Acknowledged(3.0, "sessions", str(session.pk)),
            Acknowledged(3.0, "audit_logs", str(row.pk)),
        ]


def found(writes: list[Acknowledged]) -> list[str]:
    connection.ensure_connection()
    return lost_and_doubled(connection.connection, writes, "KH-1")


def test_nothing_is_lost(writes):
    assert found(writes) == []


def test_a_write_that_was_acknowledged_and_is_not_there(writes):
    nobody = "00000000-0000-4000-8000-000000000000"
    assert found([write._replace(id=nobody) for write in writes]) == [
        f"{table}: {nobody} is lost" for table in ("users", "tenant_memberships", "sessions", "audit_logs")
    ]


def test_what_was_done_twice(writes):
    SessionFactory(user=UserFactory())
    AuditLogFactory(action="session.start", resource_id=writes[2].id)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenant_join_codes SET used_count = 2")
    assert found(writes) == [
        "1 uses of the code more or less than redemptions",
        "2 sessions without one audit row of their own",
    ]
