"""Rows for benchmarks, made by the server itself: an identity hub some years into its life, of any size.

To each user belong an identity, a membership or two, two sessions and thirty audit rows, spread over the months that
audit_logs has. Ids, tokens and addresses are random, as they are in life, so that nothing compresses better than there.
"""

import psycopg

USERS_PER_GB = 38_000  # of database size, indexes included
AUDIT_ROWS_PER_USER = 30

TOKEN_DIGEST = "encode(sha256(uuid_send(gen_random_uuid())), 'hex')"
USER_AGENT = """
    'Mozilla/5.0 (' || (ARRAY['Windows NT 10.0; Win64; x64', 'Macintosh; Intel Mac OS X 10_15_7', 'X11; Linux x86_64',
        'iPhone; CPU iPhone OS 18_1 like Mac OS X', 'Linux; Android 15; Pixel 9'])[1 + n % 5]
    || ') AppleWebKit/537.36 (KHTML, like Gecko) Chrome/' || 120 + n % 23 || '.0.0.0 Safari/537.36'
"""
ADDRESS = "('10.0.0.0'::inet + (random() * 16777215)::bigint)"
STATEMENTS = (
    """
    INSERT INTO organizations (id, name, slug)
    SELECT 'ORG-' || lpad(n::text, 6, '0'), 'Organization ' || n, 'org-' || n
    FROM generate_series(1, greatest(1, %(users)s / 500)) n
    """,
    """
    INSERT INTO tenants (organization_id, name, slug, tenant_type)
    SELECT organizations.id, 'Team ' || n, 'team-' || n, (ARRAY['team', 'department', 'project', 'laboratory'])[1 + n % 4]
    FROM organizations, generate_series(1, 10) n WHERE organizations.id LIKE 'ORG-0%'
    """,
    """
    INSERT INTO users (email, name, created_at)
    SELECT 'person' || n || '@example-' || n % 97 || '.com', 'Person ' || md5(n::text),
        statement_timestamp() - n * interval '1 minute'
    FROM generate_series(1, %(users)s) n
    """,
    """
    INSERT INTO user_identities (user_id, provider, provider_sub)
    SELECT id, (ARRAY['https://accounts.google.com', 'https://login.microsoftonline.com/common/v2.0'])[1 + ascii(email) % 2],
        replace(gen_random_uuid()::text, '-', '')
    FROM users
    """,
    """
    WITH numbered AS (SELECT id, row_number() OVER () AS place FROM tenants),
        size AS (SELECT count(*) AS tenants FROM tenants)
    INSERT INTO tenant_memberships (tenant_id, user_id, role)
    SELECT numbered.id, member.id, CASE WHEN member.place % 50 = 0 THEN 'admin' ELSE 'member' END
    FROM (SELECT id, row_number() OVER () AS place FROM users) member, size, numbered
    WHERE numbered.place IN (member.place % size.tenants + 1, (member.place * 7) % size.tenants + 1)
    """,
    f"""
    INSERT INTO sessions (session_id, user_id, expires_at, ip_address, user_agent)
    SELECT {TOKEN_DIGEST}, users.id, statement_timestamp() + random() * interval '14 days', {ADDRESS}, {USER_AGENT}
    FROM (SELECT id, row_number() OVER () AS place FROM users) users, LATERAL generate_series(place, place + 1) n
    """,
    f"""
    WITH months AS (
        SELECT min(month) AS earliest, max(month) + interval '1 month' AS latest
        FROM (SELECT to_date(substring(relname FROM '\\d{{4}}_\\d\\d$'), 'YYYY_MM')::timestamptz AS month
              FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
              WHERE inhparent = 'audit_logs'::regclass AND relname ~ '\\d{{4}}_\\d\\d$') AS partitions)
    INSERT INTO audit_logs (organization_id, tenant_id, tenant_label, user_id, actor_label, action, resource_type,
        resource_id, details, ip_address, user_agent, created_at)
    SELECT tenants.organization_id, tenants.id, tenants.name, users.id, users.email,
        (ARRAY['session.start', 'session.end', 'tenant.switch', 'member.join', 'member.leave', 'code.issue'])[1 + n % 6],
        (ARRAY['session', 'tenant', 'membership'])[1 + n % 3], gen_random_uuid()::text,
        jsonb_build_object('request', gen_random_uuid(), 'result', 'ok', 'ms', n % 400),
        {ADDRESS}, {USER_AGENT}, earliest + random() * (latest - earliest)
    FROM months, (SELECT id, email, row_number() OVER () AS place FROM users) users
        JOIN tenant_memberships ON tenant_memberships.user_id = users.id
        JOIN tenants ON tenants.id = tenant_memberships.tenant_id,
        LATERAL generate_series(place, place + {AUDIT_ROWS_PER_USER // 2} - 1) n
    """,
)


def populate(connection: psycopg.Connection, users: int) -> int:
    """Fill a migrated database that has no users yet, by an autocommit connection; return its size in bytes."""
    for statement in STATEMENTS:
        connection.execute(statement.replace("%(users)s", str(users)))
    connection.execute("VACUUM (ANALYZE)")  # as autovacuum leaves it: else whoever reads first pays for all others
    return connection.execute("SELECT pg_database_size(current_database())").fetchone()[0]
