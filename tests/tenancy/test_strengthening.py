"""The versions that strengthen tenancy, on a database that holds rows from before them."""

import pytest

FOUNDATION = "20261124000001"
NEWEST = "20261124000023"


@pytest.fixture
def database(database_at):
    """From before the strengthening."""
    return database_at("--to", FOUNDATION, up=True)


@pytest.fixture
def old(server, database):
    """The database with a tenant, its people, a code and a group."""
    with server.connect(database, "keyhub") as client:
        client.execute(
            "INSERT INTO tenants (id, name, slug) VALUES ('11111111-1111-4111-8111-111111111111', 'Lab', 'lab'); "
            "INSERT INTO users (id, email) VALUES ('22222222-2222-4222-8222-222222222222', 'alice@example.com'), "
            "('33333333-3333-4333-8333-333333333333', 'bob@example.com'); "
            "INSERT INTO tenant_memberships (tenant_id, user_id, role, left_at) "
            "SELECT '11111111-1111-4111-8111-111111111111', id, "
            "CASE WHEN email ~ 'alice' THEN 'admin' ELSE 'member' END, "
            "CASE WHEN email ~ 'bob' THEN statement_timestamp() END FROM users; "
            "INSERT INTO tenant_join_codes (tenant_id, code) "
            "VALUES ('11111111-1111-4111-8111-111111111111', 'KH-LAB-001'); "
            "INSERT INTO groups (id, tenant_id, name) VALUES "
            "('44444444-4444-4444-8444-444444444444', '11111111-1111-4111-8111-111111111111', 'Readers'); "
            "INSERT INTO group_memberships (group_id, user_id) VALUES "
            "('44444444-4444-4444-8444-444444444444', '22222222-2222-4222-8222-222222222222')"
        )
        yield client


def test_sound_rows_pass_and_go_back(old, manage, database, schema_dump):
    before = schema_dump(database)
    result = manage("migrate", "--to", NEWEST, "-v0", database=database)
    assert (result.returncode, result.stderr) == (0, "")
    assert old.execute("SELECT tenant_id::text FROM group_memberships").fetchone() == (
        "11111111-1111-4111-8111-111111111111",
    )
    assert old.execute("SELECT count(*) FROM pg_constraint WHERE NOT convalidated").fetchone() == (0,)
    assert old.execute("SELECT left_reason FROM tenant_memberships").fetchall() == [(None,), (None,)]
    newest = schema_dump(database)
    down = manage("migrate", "--to", FOUNDATION, "--yes", "-v0", database=database)
    assert down.returncode == 0
    assert schema_dump(database) == before
    assert manage("migrate", "--to", NEWEST, "-v0", database=database).returncode == 0
    assert schema_dump(database) == newest


@pytest.mark.parametrize(
    ("breaks", "sentence", "mends"),
    [
        (
            "UPDATE tenants SET slug = 'Big Lab' WHERE slug = 'lab'",
            'tenants: 1 row breaks check_tenant_slug: {"id":"11111111-1111-4111-8111-111111111111","slug":"Big Lab"}. '
            "List with: SELECT id, slug FROM tenants WHERE slug !~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';",
            "UPDATE tenants SET slug = 'big-lab' WHERE slug = 'Big Lab'",
        ),
        (
            "UPDATE groups SET name = ' '",
            'groups: 1 row breaks check_group_name: {"id":"44444444-4444-4444-8444-444444444444",'
            '"tenant_id":"11111111-1111-4111-8111-111111111111"}. '
            "List with: SELECT id, tenant_id FROM groups WHERE name !~ '\\S';",
            "UPDATE groups SET name = 'Readers'",
        ),
        (
            "UPDATE tenant_join_codes SET id = '55555555-5555-4555-8555-555555555555' WHERE code = 'KH-LAB-001'; "
            "INSERT INTO tenant_join_codes (id, tenant_id, code) VALUES ('66666666-6666-4666-8666-666666666666', "
            "'11111111-1111-4111-8111-111111111111', 'kh lab OO1')",
            "tenant_join_codes: 2 rows break idx_tenant_join_codes_code: "
            '{"id":"55555555-5555-4555-8555-555555555555","code":"KH-LAB-001"}, '
            '{"id":"66666666-6666-4666-8666-666666666666","code":"kh lab OO1"}. '
            "List with: SELECT id, code FROM tenant_join_codes WHERE normalize_join_code(code) IN (SELECT "
            "normalize_join_code(code) FROM tenant_join_codes GROUP BY 1 HAVING count(*) > 1) ORDER BY "
            "normalize_join_code(code);",
            "DELETE FROM tenant_join_codes WHERE code = 'kh lab OO1'",
        ),
        (
            "INSERT INTO group_memberships (id, group_id, user_id) VALUES ('77777777-7777-4777-8777-777777777777', "
            "'44444444-4444-4444-8444-444444444444', '33333333-3333-4333-8333-333333333333')",
            "group_memberships: 1 row breaks group_memberships_tenant_id_user_id_fkey: "
            '{"id":"77777777-7777-4777-8777-777777777777","group_id":"44444444-4444-4444-8444-444444444444",'
            '"user_id":"33333333-3333-4333-8333-333333333333"}. List with: SELECT id, group_id, user_id FROM '
            "group_memberships WHERE NOT EXISTS (SELECT FROM groups JOIN tenant_memberships USING (tenant_id) WHERE "
            "groups.id = group_id AND tenant_memberships.user_id = group_memberships.user_id AND left_at IS NULL);",
            "DELETE FROM group_memberships WHERE user_id = '33333333-3333-4333-8333-333333333333'",
        ),
    ],
    ids=["slug", "group name", "codes that read the same", "group member who left"],
)
def test_rows_that_break_a_new_rule_are_listed(old, manage, database, breaks, sentence, mends):
    old.execute(breaks)
    result = manage("migrate", "--to", NEWEST, "-v0", database=database)
    assert (result.returncode, result.stderr) == (
        1,
        f"CommandError: the migration failed: {sentence}. What it did in a transaction is rolled back. "
        "Mend the cause and run this again.\n",
    )
    old.execute(mends)
    assert manage("migrate", "--to", NEWEST, "-v0", database=database).returncode == 0


def test_of_many_rows_ten_are_shown(old, manage, database):
    old.execute("INSERT INTO tenants (name, slug) SELECT 'Lab', 'Lab ' || n FROM generate_series(1, 12) AS n")
    result = manage("migrate", "--to", NEWEST, "-v0", database=database)
    assert result.returncode == 1
    assert "tenants: 12 rows break check_tenant_slug: {" in result.stderr
    assert result.stderr.count('"slug":') == 10
    assert "}, …. List with: SELECT" in result.stderr
