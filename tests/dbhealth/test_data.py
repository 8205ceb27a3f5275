"""What no constraint says of the rows: each rule fires, and is silent on good rows."""

import re

import pytest

from keyhub.dbhealth import data

pytestmark = pytest.mark.database

TENANT = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
HASHED = f"'{1:064x}'"


@pytest.fixture
def people(client) -> dict[str, str]:
    """Alice the admin and Bob the member of a tenant, Charlie the outsider; with good rows all around them."""
    people = {}
    for name in ("alice", "bob", "charlie"):
        people[name] = client.execute(
            "INSERT INTO users (email) VALUES (%s) RETURNING id", [f"{name}@example.com"]
        ).fetchone()[0]
    for name, role in (("alice", "admin"), ("bob", "member")):
        people[f"{name}'s membership"] = client.execute(
            "INSERT INTO tenant_memberships (tenant_id, user_id, role) VALUES (%s, %s, %s) RETURNING id",
            [TENANT, people[name], role],
        ).fetchone()[0]
    client.execute(
        f"INSERT INTO sessions (session_id, user_id, active_membership_id, expires_at) "
        f"VALUES ({HASHED}, %s, %s, statement_timestamp() + interval '1 day')",
        [people["bob"], people["bob's membership"]],
    )
    return people


@pytest.fixture
def broken(people, found):
    """The findings of a run with --data, as "id object: problem"."""

    def broken() -> list[str]:
        return [f"{what}: {problem}" for _, what, problem in found(data=True)]

    return broken


def test_good_rows_are_healthy(broken):
    assert broken() == []


# What constraints keep today, and did not keep while they were off.
UNKEPT = {
    "accounts.H001 users: 2 rows: their e-mail addresses are equal but for case: one person has several accounts, "
    "or two share one": ("DROP INDEX idx_users_email", "INSERT INTO users (email) VALUES ('ALICE@example.com')"),
    "accounts.H002 users: 1 row: their e-mail address is no address: no mail reaches them": (
        "ALTER TABLE users DROP CONSTRAINT check_user_email",
        "INSERT INTO users (email) VALUES ('nobody')",
    ),
    "tenancy.H001 tenants: 1 row: they have members, and no admin among them: nobody can manage them": (
        "ALTER TABLE tenant_memberships DISABLE TRIGGER keep_an_admin_on_update",
        "UPDATE tenant_memberships SET left_at = statement_timestamp() WHERE role = 'admin'",
    ),
    "tenancy.H006 tenants: 1 row: their name is empty, or their slug cannot stand in a URL": (
        "ALTER TABLE tenants DROP CONSTRAINT check_tenant_slug",
        "UPDATE tenants SET slug = 'No URL'",
    ),
    "tenancy.H005 group_memberships: 1 row: the member of the group is no member of its tenant": (
        "ALTER TABLE group_memberships DISABLE TRIGGER ALL",
        f"WITH made AS (INSERT INTO groups (tenant_id, name) VALUES ('{TENANT}', 'g') RETURNING id) "
        "INSERT INTO group_memberships (group_id, user_id, tenant_id) "
        f"SELECT made.id, users.id, '{TENANT}' FROM made, users WHERE email LIKE 'charlie%'",
    ),
    "tenancy.H002 tenant_join_codes: 1 row: more people have used the code than it admits": (
        "ALTER TABLE tenant_join_codes DROP CONSTRAINT check_used_count_within_max_uses",
        f"INSERT INTO tenant_join_codes (tenant_id, code, max_uses, used_count) VALUES ('{TENANT}', 'OVER', 1, 2)",
    ),
    "tenancy.H003 groups: 1 row: their parent belongs to another tenant, or is not there": (
        "ALTER TABLE groups DISABLE TRIGGER ALL",
        f"INSERT INTO groups (tenant_id, name, parent_group_id, parent_depth) "
        f"VALUES ('{TENANT}', 'g', gen_random_uuid(), 0)",
    ),
    "tenancy.H004 groups: 2 rows: they are their own ancestors": (
        "ALTER TABLE groups DISABLE TRIGGER ALL",
        "INSERT INTO groups (id, tenant_id, name, parent_group_id, parent_depth) VALUES "
        f"('{TENANT[:-1]}1', '{TENANT}', 'a', '{TENANT[:-1]}2', 0), "
        f"('{TENANT[:-1]}2', '{TENANT}', 'b', '{TENANT[:-1]}1', 0)",
    ),
    "auth_sessions.H001 sessions: 1 row: they are alive, and act in a membership that was left": (
        "ALTER TABLE tenant_memberships DISABLE TRIGGER take_left_membership_off_sessions",
        "UPDATE tenant_memberships SET left_at = statement_timestamp() WHERE role = 'member'",
    ),
    "auth_sessions.H002 sessions: 1 row: they act in a membership of another user": (
        "ALTER TABLE sessions DROP CONSTRAINT sessions_active_membership_id_user_id_fkey",
        "UPDATE sessions SET user_id = (SELECT id FROM users WHERE email LIKE 'charlie%')",
    ),
    "auth_sessions.H003 sessions: 1 row: the session id is no SHA-256: whoever reads the table or a backup can act as "
    "the user": (
        "ALTER TABLE sessions DROP CONSTRAINT check_session_id_hashed",
        "UPDATE sessions SET session_id = 'in clear'",
    ),
    "auth_sessions.H004 console_sessions: 1 row: the session id is no SHA-256: whoever reads the table or a backup can "
    "enter the console": (
        "ALTER TABLE console_sessions DROP CONSTRAINT check_console_session_id_hashed",
        "INSERT INTO console_sessions (session_id, organization_id, expires_at) "
        "SELECT 'in clear', id, statement_timestamp() + interval '1 day' FROM organizations",
    ),
    "auth_sessions.H005 oauth_states: 1 row: the state is no SHA-256, and not used up: whoever reads the table can "
    "finish the sign-in": (
        "ALTER TABLE oauth_states DROP CONSTRAINT check_oauth_state_hashed",
        "INSERT INTO oauth_states (state, code_verifier, nonce) VALUES ('in clear', 'v', 'n')",
    ),
    "auth_sessions.H006 sessions: 1 row: they never end, or ended before they began": (
        "ALTER TABLE sessions DROP CONSTRAINT check_session_expires_at",
        "UPDATE sessions SET expires_at = 'infinity'",
    ),
    "auth_sessions.H007 sessions: 1 row: they are alive, and their user is disabled": (
        "ALTER TABLE users DISABLE TRIGGER revoke_sessions_of_disabled_user",
        "UPDATE users SET disabled_at = statement_timestamp() WHERE email LIKE 'bob%'",
    ),
    "keyhub.H040 user_identities.user_identities_user_id_fkey: 1 row: they refer to a row of users that does not "
    "exist": (
        "ALTER TABLE user_identities DISABLE TRIGGER ALL",
        "INSERT INTO user_identities (user_id, provider, provider_sub) VALUES (gen_random_uuid(), 'google', '1')",
    ),
}


@pytest.mark.parametrize("expected", UNKEPT)
def test_rows_that_slipped_past_a_constraint(superuser, broken, expected):
    for statement in UNKEPT[expected]:
        superuser.execute(statement)
    assert expected in broken()


def test_the_demo_code_where_no_demo_is_meant(manage, client, migrated_database):
    client.execute("UPDATE tenant_join_codes SET used_count = 0")
    result = manage("dbhealth", "--only", "tenancy.H007", database=migrated_database, DEMO_DATA="off")
    assert (result.returncode, result.stdout.splitlines()[0]) == (
        1,
        "CRITICAL tenancy.H007 tenant_join_codes: 1 row: whoever has read the source knows this code, "
        "and can enter its tenant with it",
    )
    assert manage("dbhealth", "--data", database=migrated_database, DEMO_DATA="on").returncode == 0


def test_the_query_lists_the_rows(client, broken, examine):
    client.execute("ALTER TABLE tenants DROP CONSTRAINT check_tenant_slug")
    client.execute("UPDATE tenants SET slug = 'No URL'")
    (finding,) = examine(only={"tenancy.H006"}).findings
    assert len(client.execute(finding.mend).fetchall()) == 1


def test_a_big_table_is_sampled_and_says_so(client, people, examine, monkeypatch):
    monkeypatch.setattr(data, "SAMPLED_ABOVE_ROWS", 2_000)
    monkeypatch.setattr(data, "SAMPLE_ROWS", 1_500)
    client.execute("ALTER TABLE users DROP CONSTRAINT check_user_email")
    client.execute("INSERT INTO users (email) SELECT n::text FROM generate_series(1, 3000) AS n")
    client.execute("ANALYZE users")
    (finding,) = examine(only={"accounts.H002"}).findings
    assert re.fullmatch(
        r"(\d+|1000 or more) rows, in a sample of about 1500 of 3003 rows: their e-mail address is no address: "
        "no mail reaches them",
        finding.problem,
    )
    assert "TABLESAMPLE" not in finding.mend


def test_a_rule_that_takes_too_long_is_skipped(client, people, examine, monkeypatch):
    monkeypatch.setattr(data, "TIMEOUT_MS", 1)
    client.execute("INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, 20000) AS n")
    report = examine(only={"accounts.H001"})
    assert report.findings == []
    assert [(skipped.id, skipped.object, skipped.reason) for skipped in report.skipped] == [
        ("accounts.H001", "users", "its query takes longer than 0.001 s")
    ]
