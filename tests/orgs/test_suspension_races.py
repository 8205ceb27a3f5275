"""Thirty clients switch between two tenants while two others suspend and resume their organization: no deadlock."""

import pytest

from tests.clients import CLIENTS, Clients
from tests.conftest import database_url

pytestmark = [pytest.mark.database, pytest.mark.once]


def test_switches_during_suspensions(server, migrated_database):
    with server.connect(migrated_database, "keyhub") as client:
        client.execute("INSERT INTO organizations (id, name, slug) VALUES ('ORG-ACME', 'Acme', 'acme')")
        tenants = [
            str(row[0])
            for row in client.execute(
                "INSERT INTO tenants (organization_id, name, slug) "
                "SELECT 'ORG-ACME', n, n FROM unnest('{a,b}'::text[]) AS n RETURNING id"
            )
        ]
        sessions = []
        for number in range(CLIENTS):
            (user,) = client.execute(
                "INSERT INTO users (email) VALUES (%s) RETURNING id", [f"{number}@example.com"]
            ).fetchone()
            client.execute(
                "INSERT INTO tenant_memberships (tenant_id, user_id) SELECT id, %s FROM unnest(%s::uuid[]) AS id",
                [user, tenants],
            )
            (session,) = client.execute(
                "INSERT INTO sessions (session_id, user_id, expires_at) VALUES "
                "(encode(sha256(uuid_send(gen_random_uuid())), 'hex'), %s, statement_timestamp() + interval '1 day') "
                "RETURNING id",
                [user],
            ).fetchone()
            sessions.append(str(session))
        url = database_url(server, migrated_database)
        with Clients(url, "tests.orgs.races:switch_or_suspend", "READ COMMITTED") as together:
            outcomes = together.at_once(
                [[None if n in (5, 20) else session, tenants, "ORG-ACME"] for n, session in enumerate(sessions)]
            )
        assert set(outcomes) <= {"switched", "suspended", "ClosedOrganizationError", "SessionMembershipError"}
        client.execute("UPDATE organizations SET status = 'suspended' WHERE id = 'ORG-ACME'")
        assert client.execute("SELECT count(*) FROM sessions WHERE active_membership_id IS NOT NULL").fetchone() == (0,)
