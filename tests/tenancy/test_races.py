"""The rules of tenancy with 32 clients at once, in processes and threads, in both isolation levels, ten rounds each."""

import uuid
from collections import Counter

import pytest

from tests.clients import CLIENTS, ISOLATION_LEVELS, Clients
from tests.conftest import database_url

ROUNDS = 10

pytestmark = [pytest.mark.database, pytest.mark.once, pytest.mark.parametrize("isolation", ISOLATION_LEVELS)]


@pytest.fixture
def client(server, migrated_database):
    with server.connect(migrated_database, "keyhub") as client:
        yield client


@pytest.fixture
def clients(server, migrated_database, isolation):
    opened = []

    def start(function: str) -> Clients:
        opened.append(Clients(database_url(server, migrated_database), f"tests.tenancy.races:{function}", isolation))
        return opened[0]

    yield start
    opened[0].__exit__()


def new_tenant(client) -> uuid.UUID:
    return client.execute(
        "INSERT INTO tenants (name, slug) VALUES ('Lab', 'lab-' || gen_random_uuid()) RETURNING id"
    ).fetchone()[0]


def new_users(client, count: int = CLIENTS) -> list[str]:
    rows = client.execute(
        "INSERT INTO users (email) SELECT gen_random_uuid() || '@example.com' FROM generate_series(1, %s) RETURNING id",
        [count],
    )
    return [str(user_id) for (user_id,) in rows]


def new_members(client, tenant, role: str, count: int = CLIENTS) -> list[str]:
    rows = client.execute(
        "INSERT INTO tenant_memberships (tenant_id, user_id, role) SELECT %s, id, %s FROM unnest(%s::uuid[]) AS id "
        "RETURNING id",
        [tenant, role, new_users(client, count)],
    )
    return [str(membership_id) for (membership_id,) in rows]


def new_code(client, tenant, max_uses: int) -> str:
    code = f"KH-{uuid.uuid4()}"
    client.execute(
        "INSERT INTO tenant_join_codes (tenant_id, code, max_uses) VALUES (%s, %s, %s)", [tenant, code, max_uses]
    )
    return code


def uses_and_members(client, code: str) -> tuple[int, int, int]:
    return client.execute(
        "SELECT used_count, (SELECT count(*) FROM tenant_join_code_redemptions WHERE join_code_id = codes.id), "
        "(SELECT count(*) FROM tenant_memberships AS m WHERE m.tenant_id = codes.tenant_id AND left_at IS NULL) "
        "FROM tenant_join_codes AS codes WHERE code = %s",
        [code],
    ).fetchone()


def test_no_code_is_oversold(client, clients):
    together = clients("redeem")
    for _ in range(ROUNDS):
        code = new_code(client, new_tenant(client), max_uses=10)
        outcomes = together.at_once([[code, user] for user in new_users(client)])
        assert Counter(outcomes) == {"admitted": 10, "ExhaustedCodeError": CLIENTS - 10}
        assert uses_and_members(client, code) == (10, 10, 10)


def test_no_member_is_counted_twice(client, clients):
    together = clients("redeem")
    for _ in range(ROUNDS):
        code, (user,) = new_code(client, new_tenant(client), max_uses=0), new_users(client, 1)
        outcomes = together.at_once([[code, user]] * CLIENTS)
        assert Counter(outcomes) == {"admitted": 1, "AlreadyAMemberError": CLIENTS - 1}
        assert uses_and_members(client, code) == (1, 1, 1)


def test_a_code_revoked_meanwhile_has_given_nothing(client, clients):
    together = clients("redeem_or_revoke")
    for _ in range(ROUNDS):
        code = new_code(client, new_tenant(client), max_uses=0)
        users = [None if number == CLIENTS // 2 else user for number, user in enumerate(new_users(client))]
        outcomes = Counter(together.at_once([[code, user] for user in users]))
        assert set(outcomes) <= {"admitted", "revoked", "RevokedCodeError"}
        used, redemptions, members = uses_and_members(client, code)
        assert (used, redemptions, members) == (outcomes["admitted"], outcomes["admitted"], 0)


@pytest.mark.parametrize(
    ("function", "refusal"), [("leave", "LastAdminError"), ("end_by_bare_sql", "tenants_keep_an_admin")]
)
def test_one_admin_stays(client, clients, function, refusal):
    together = clients(function)
    # Without the locks that leave() takes beforehand two may wait for each other: a deadlock, for which one pays.
    rounds, admins = (ROUNDS, CLIENTS) if function == "leave" else (2, 4)
    for _ in range(rounds):
        tenant = new_tenant(client)
        memberships = new_members(client, tenant, "admin", admins)
        outcomes = together.at_once([[memberships[number % admins]] for number in range(CLIENTS)])
        assert refusal in outcomes
        query = "SELECT count(*) FROM tenant_memberships WHERE tenant_id = %s AND role = 'admin' AND left_at IS NULL"
        assert client.execute(query, [tenant]).fetchone() == (1,)


def test_one_default_tenant(client, clients):
    together = clients("set_default")
    tenants = [str(new_tenant(client)) for _ in range(4)]
    for _ in range(ROUNDS):
        together.at_once([[tenants[number % 4]] for number in range(CLIENTS)])
        assert client.execute("SELECT count(*) FROM tenants WHERE is_default").fetchone() == (1,)


def test_groups_stay_trees(client, clients):
    together = clients("move")
    for _ in range(ROUNDS):
        tenant = new_tenant(client)
        rows = client.execute(
            "INSERT INTO groups (tenant_id, name) SELECT %s, n FROM generate_series(1, 4) AS n RETURNING id", [tenant]
        )
        groups = [str(group_id) for (group_id,) in rows]
        together.at_once([[groups[n % 4], groups[(n + 1 + n // 4 % 3) % 4]] for n in range(CLIENTS)])
        rooted = client.execute(
            "WITH RECURSIVE tree AS (SELECT id FROM groups WHERE tenant_id = %s AND parent_group_id IS NULL "
            "UNION ALL SELECT g.id FROM groups AS g JOIN tree ON g.parent_group_id = tree.id) "
            "SELECT count(*) FROM tree",
            [tenant],
        )
        assert rooted.fetchone() == (4,)


def test_nobody_stays_in_a_group_of_a_tenant_that_they_left(client, clients):
    together = clients("join_group_or_leave")
    for _ in range(ROUNDS):
        tenant = new_tenant(client)
        (group,) = client.execute(
            "INSERT INTO groups (tenant_id, name) VALUES (%s, 'Readers') RETURNING id", [tenant]
        ).fetchone()
        memberships = new_members(client, tenant, "member", CLIENTS // 2)
        outcomes = together.at_once([[str(group), memberships[n // 2], bool(n % 2)] for n in range(CLIENTS)])
        assert set(outcomes) <= {"joined", "left", "group_members_are_members"}
        assert client.execute("SELECT count(*) FROM group_memberships WHERE group_id = %s", [group]).fetchone() == (0,)


def test_one_admin_stays_also_where_some_are_erased(client, clients):
    together = clients("leave_or_anonymize")
    for _ in range(ROUNDS):
        tenant = new_tenant(client)
        memberships = new_members(client, tenant, "admin", CLIENTS)
        users = [
            str(client.execute("SELECT user_id FROM tenant_memberships WHERE id = %s", [membership]).fetchone()[0])
            for membership in memberships
        ]
        together.at_once([[memberships[n], users[n], bool(n % 2)] for n in range(CLIENTS)])
        query = "SELECT count(*) FROM tenant_memberships WHERE tenant_id = %s AND role = 'admin' AND left_at IS NULL"
        assert client.execute(query, [tenant]).fetchone() == (1,)


def test_nobody_who_is_erased_is_a_member(client, clients):
    together = clients("redeem_or_anonymize")
    for _ in range(ROUNDS):
        code, users = new_code(client, new_tenant(client), max_uses=0), new_users(client, CLIENTS // 2)
        together.at_once([[code, users[n // 2], bool(n % 2)] for n in range(CLIENTS)])
        erased_members = client.execute(
            "SELECT count(*) FROM tenant_memberships JOIN users ON users.id = user_id "
            "WHERE left_at IS NULL AND anonymized_at IS NOT NULL"
        )
        assert erased_members.fetchone() == (0,)
