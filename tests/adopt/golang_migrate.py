"""Databases as golang-migrate left them, from the source's files beside this module.

The files are the source's as they had to be patched to run at all: no clock in the predicates of partial indexes,
audit_logs without its two partitions, gen_random_uuid() where the extension uuid-ossp is missing.
"""

from pathlib import Path

import psycopg

from keyhub import sql_text

FILES = sorted(Path(__file__).parent.glob("*.up.sql"))
NUMBERS = [int(path.name[:14]) for path in FILES]

# Where the extension is missing, so is its function; a database with it shows it in every default.
UUID_OSSP = "CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'"

ROWS = {
    1: """
        INSERT INTO users (id, email, name) VALUES
            ('00000000-0000-0000-0000-00000000000a', 'alice@example.com', 'Alice'),
            ('00000000-0000-0000-0000-00000000000b', 'bob@example.com', 'Bob');
        INSERT INTO user_identities (user_id, provider, provider_sub)
            SELECT id, 'google', email FROM users;
        INSERT INTO tenants (id, organization_id, name, slug, is_default) VALUES
            ('00000000-0000-0000-0000-0000000000a1', 'ORG-A', 'A', 'a', true),
            ('00000000-0000-0000-0000-0000000000a2', 'ORG-A', 'A two', 'a-two', false);
        INSERT INTO tenant_memberships (id, tenant_id, user_id, role)
            SELECT gen_random_uuid(), tenants.id, users.id, 'member' FROM tenants, users;
        INSERT INTO sessions (session_id, user_id, active_membership_id, expires_at)
            SELECT 'session of ' || id, user_id, id, now() + interval '1 day' FROM tenant_memberships;
        INSERT INTO oauth_states (state, code_verifier, nonce) VALUES ('state', 'verifier', 'nonce');
        INSERT INTO tenant_join_codes (tenant_id, code, max_uses, used_count, role, created_by)
            VALUES ('00000000-0000-0000-0000-0000000000a1', 'KH-VIEW-001', 3, 3, 'viewer',
                    '00000000-0000-0000-0000-00000000000a');
        INSERT INTO console_sessions (session_id, organization_id, expires_at)
            VALUES ('console', 'ORG-CONSOLE', now() + interval '1 day');
    """,
    2: "",
    3: """
        INSERT INTO groups (id, tenant_id, name, parent_group_id)
            SELECT ('00000000-0000-0000-0000-0000000001' || to_char(n, 'FM00'))::uuid,
                   '00000000-0000-0000-0000-0000000000a1', 'group ' || n,
                   CASE WHEN n % 10 > 0 THEN ('00000000-0000-0000-0000-0000000001' || to_char(n - 1, 'FM00'))::uuid END
            FROM generate_series(0, 29) AS n ORDER BY n;
        INSERT INTO group_memberships (group_id, user_id, role) SELECT groups.id, users.id, 'member' FROM groups, users;
    """,
    4: """
        INSERT INTO audit_logs (organization_id, tenant_id, user_id, action, resource_type, created_at)
            SELECT 'ORG-A', '00000000-0000-0000-0000-0000000000a1', '00000000-0000-0000-0000-00000000000a', 'login',
                   'session', statement_timestamp() - n * interval '7 hours'
            FROM generate_series(0, 999) AS n;
        INSERT INTO audit_logs (organization_id, action, resource_type, created_at)
            VALUES ('ORG-GONE', 'leave', 'user', '2024-01-31 23:30:00-05'), ('ORG-A', 'plan', 'user', '2031-05-01+00');
    """,
    5: """
        INSERT INTO organizations (id, name, slug, settings) VALUES ('ORG-B', 'B', 'b', '{"mfa": true}');
        INSERT INTO organization_domains (organization_id, domain, is_verified, verified_at)
            VALUES ('ORG-B', 'b.example', true, now()), ('ORG-B', 'c.example', false, NULL);
    """,
}


def make(
    client: psycopg.Connection,
    place: int,
    *,
    dirty_statements: int | None = None,
    with_rows: bool = True,
    uuid_ossp: bool = False,
) -> None:
    """Run the first `place` files; of the last only some statements where it is to be left dirty."""
    client.execute("CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)")
    if uuid_ossp:
        client.execute(UUID_OSSP)
    for number, path in enumerate(FILES[:place], start=1):
        text = path.read_text(encoding="utf-8")
        if uuid_ossp:
            text = text.replace("gen_random_uuid()", "uuid_generate_v4()")
        is_dirty = number == place and dirty_statements is not None
        statements = sql_text.statements(text)
        if number == 5 and with_rows:
            # The source's own file fails where a tenant is of another organization; people had to add them first.
            statements.insert(
                -1, "INSERT INTO organizations (id, name, slug) SELECT DISTINCT organization_id, organization_id, "
                "lower(organization_id) FROM tenants WHERE organization_id <> 'ORG-DEFAULT-001'"
            )  # fmt: skip
        for statement in statements[: dirty_statements if is_dirty else None]:
            client.execute(statement)
        if with_rows and not is_dirty and ROWS[number]:
            client.execute(ROWS[number])
    client.execute("INSERT INTO schema_migrations VALUES (%s, %s)", [NUMBERS[place - 1], dirty_statements is not None])
