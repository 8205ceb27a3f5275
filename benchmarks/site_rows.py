"""Rows for the benchmark of the operators' site: a hub three years into its life, its audit log of twelve months.

Ids follow from numbers, so that rows refer to others without a join; they are as scattered as random ones. Rows lie in
the order in which they came, newest last. Tenant 1 has a tenth of the memberships, a hundredth of the codes and a
hundred-ninety-ninth of the audit rows.
"""

import sys
from datetime import UTC, datetime

import psycopg

from audit.months import Month

MONTHS = 12
ROWS_PER_TENANT = 5
ORGANIZATIONS = 200
RARE_ORGANIZATION = "ORG-RARE"  # a few audit rows a year ago
RARE_ACTION = "tenant.delete"  # one in a million

OTHER_TENANT = "2 + n * 7919::bigint %% (%(tenants)s - 1)"
ORGANIZATION_OF = "'ORG-' || lpad((CASE WHEN {tenant} %% 2 = 1 THEN 1 ELSE 1 + {tenant} %% 200 END)::text, 3, '0')"
AGE = "(%(rows)s - n) * interval '3 years' / %(rows)s"
USER_AGENT = """
    (ARRAY['Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0',
        'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'])[1 + n %% 2]
"""

STATEMENTS = {
    "organizations": """
        INSERT INTO organizations (id, name, slug)
        SELECT 'ORG-' || lpad(n::text, 3, '0'), 'Organization ' || n, 'org-' || n
        FROM generate_series(1, 200) AS n
    """,
    "tenants": f"""
        INSERT INTO tenants (id, organization_id, name, slug, tenant_type)
        SELECT md5('tenant' || n)::uuid, {ORGANIZATION_OF.format(tenant="n")},
            (ARRAY['Team', 'Department', 'Project', 'Laboratory'])[1 + n %% 4] || ' ' || left(md5('name' || n), 6),
            'team-' || n, (ARRAY['team', 'department', 'project', 'laboratory'])[1 + n %% 4]
        FROM generate_series(1, %(tenants)s) AS n
    """,
    "users": f"""
        INSERT INTO users (id, email, name, created_at, disabled_at)
        SELECT md5('user' || n)::uuid, 'person' || n || '@example-' || n %% 97 || '.com',
            CASE WHEN n %% 10 > 0 THEN 'Person ' || left(md5('name' || n), 8) END,
            statement_timestamp() - {AGE}, CASE WHEN n %% 200 = 0 THEN statement_timestamp() END
        FROM generate_series(1, %(rows)s) AS n
    """,
    "user_identities": """
        INSERT INTO user_identities (id, user_id, provider, provider_sub)
        SELECT md5('identity' || n)::uuid, md5('user' || n)::uuid,
            (ARRAY['https://accounts.google.com', 'https://login.microsoftonline.com/common/v2.0'])[1 + n %% 2],
            md5('sub' || n)
        FROM generate_series(1, %(rows)s) AS n
    """,
    "tenant_memberships": f"""
        INSERT INTO tenant_memberships (id, tenant_id, user_id, role, created_at, left_at)
        SELECT md5('membership' || n)::uuid,
            md5('tenant' || CASE WHEN n %% 10 = 0 THEN 1 ELSE {OTHER_TENANT} END)::uuid, md5('user' || n)::uuid,
            CASE WHEN n %% 50 = 1 THEN 'admin' WHEN n %% 50 = 2 THEN 'viewer' ELSE 'member' END,
            statement_timestamp() - {AGE}, CASE WHEN n %% 20 = 3 THEN statement_timestamp() END
        FROM generate_series(1, %(rows)s) AS n
    """,
    "tenant_join_codes": f"""
        INSERT INTO tenant_join_codes
            (id, tenant_id, code, role, max_uses, used_count, created_by, created_at, expires_at, revoked_at)
        SELECT md5('code' || n)::uuid,
            md5('tenant' || CASE WHEN n %% 100 = 0 THEN 1 ELSE {OTHER_TENANT} END)::uuid,
            'KH-' || regexp_replace(upper(left(md5('letters' || n), 15)), '(.{{5}})(.{{5}})', '\\1-\\2-'),
            CASE WHEN n / 7 %% 10 = 0 THEN 'viewer' ELSE 'member' END, most,
            CASE WHEN most = 0 THEN used * 3 WHEN most = 1 THEN (used < 7)::int WHEN used = 9 THEN most ELSE used END,
            CASE WHEN n %% 4 > 0 THEN md5('user' || n)::uuid END, created,
            created + (CASE WHEN n %% 100 < 60 THEN 7 WHEN n %% 100 < 88 THEN 30 WHEN n %% 100 < 98 THEN 365 END)
                * interval '1 day',
            CASE WHEN n %% 5000 = 7 THEN created + interval '1 day' END
        FROM generate_series(1, %(rows)s) AS n,
            LATERAL (SELECT statement_timestamp() - {AGE}, (ARRAY[1, 1, 1, 1, 1, 1, 10, 10, 0, 0])[1 + n / 100 %% 10],
                n / 1000 %% 10) AS life (created, most, used)
    """,
    # A third is over and waits for purgeexpired; one in twenty was used a moment ago.
    "sessions": f"""
        INSERT INTO sessions (id, session_id, user_id, active_membership_id, revoked, created_at, expires_at,
            last_accessed_at, ip_address, user_agent)
        SELECT md5('session' || n)::uuid, md5('token' || n) || md5('rest' || n), md5('user' || n)::uuid,
            CASE WHEN n %% 3 > 0 AND n %% 20 <> 3 THEN md5('membership' || n)::uuid END, n %% 10 = 7, created,
            created + interval '21 days',
            CASE WHEN n %% 20 = 1 THEN statement_timestamp() + interval '2 hours' ELSE created + interval '1 hour' END,
            '203.0.113.7', {USER_AGENT}
        FROM generate_series(1, %(rows)s) AS n,
            LATERAL (SELECT statement_timestamp() - (%(rows)s - n + 1) * interval '30 days' / %(rows)s)
                AS life (created)
    """,
}
AUDIT_ROWS = f"""
    INSERT INTO %(partition)s (organization_id, tenant_id, tenant_label, user_id, actor_label, action, resource_type,
        resource_id, details, ip_address, user_agent, created_at, outcome)
    SELECT {ORGANIZATION_OF.format(tenant="tenant")}, md5('tenant' || tenant)::uuid, 'Team ' || tenant,
        md5('user' || person)::uuid, 'person' || person || '@example-' || person %% 97 || '.com',
        CASE WHEN n %% 1000000 = 17 THEN '{RARE_ACTION}' WHEN chance %% 100 < 40 THEN 'user.login'
            WHEN chance %% 100 < 60 THEN 'user.logout' WHEN chance %% 100 < 80 THEN 'document.read'
            WHEN chance %% 100 < 99 THEN 'document.write' ELSE 'code.redeem' END,
        CASE WHEN chance %% 100 < 60 THEN 'session' ELSE 'document' END, (n %% 500000)::text,
        jsonb_build_object('method', 'oauth', 'n', n), '203.0.113.7', {USER_AGENT},
        timestamptz '%(start)s' + (n - %(first)s) * ((timestamptz '%(end)s' - timestamptz '%(start)s') / %(count)s),
        CASE chance / 128 %% 1000 WHEN 0 THEN 'denied' WHEN 1 THEN 'failure' WHEN 2 THEN NULL ELSE 'success' END
    FROM generate_series(%(first)s::bigint, %(first)s + %(count)s - 1) AS n,
        LATERAL (SELECT CASE WHEN n %% 199 = 0 THEN 1 ELSE {OTHER_TENANT} END, 1 + n * 31 %% %(rows)s,
            hashint8(n) & 1073741823) AS who (tenant, person, chance)
"""
RARE_ROWS = f"""
    INSERT INTO %(partition)s (organization_id, action, resource_type, resource_id, created_at)
    SELECT '{RARE_ORGANIZATION}', 'user.login', 'session', 'rare-' || n, timestamptz '%(start)s' + n * interval '1 hour'
    FROM generate_series(1, 30) AS n
"""


def populate(connection: psycopg.Connection, rows: int, audit_rows: int) -> None:
    """Fill a migrated database by an autocommit connection of a superuser: so many rows of each table, but a fifth as
    many tenants. Triggers and keys are passed over; the rows keep their rules by themselves.
    """
    connection.execute("SET session_replication_role = replica")
    connection.execute("SET maintenance_work_mem = '512MB'")
    sizes = {"rows": rows, "tenants": rows // ROWS_PER_TENANT}
    for table, statement in STATEMENTS.items():
        tell(table)
        connection.execute(_filled_in(statement, sizes))
    now = datetime.now(UTC)
    for number, month in enumerate(Month.of(now).plus(ago) for ago in range(1 - MONTHS, 1)):
        tell(f"audit_logs {month}")
        count = audit_rows // MONTHS
        values = sizes | {
            "partition": month.partition, "start": month.start, "end": min(month.end, f"{now:%Y-%m-%d %H:%M:%S}+00"),
            "first": number * count, "count": count,
        }  # fmt: skip
        # Its indexes are built when it is attached.
        connection.execute(f"DROP TABLE IF EXISTS {month.partition}")
        connection.execute(
            f"CREATE TABLE {month.partition} (LIKE audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS);"
            f"ALTER TABLE {month.partition} OWNER TO keyhub"
        )
        connection.execute(_filled_in(AUDIT_ROWS, values))
        if number == 0:
            connection.execute(_filled_in(RARE_ROWS, values))
        connection.execute(f"ALTER TABLE {month.partition} ADD CHECK ({month.condition})")
        connection.execute(f"ALTER TABLE audit_logs ATTACH PARTITION {month.partition} {month.bounds}")
    tell("VACUUM (ANALYZE)")
    connection.execute("VACUUM (ANALYZE)")  # as autovacuum leaves it, but for the parent, which it never analyzes
    connection.execute("CHECKPOINT")


def _filled_in(statement: str, values: dict[str, object]) -> str:
    return statement % values


def tell(progress: str) -> None:
    """On a terminal, in place of what was told before."""
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)
