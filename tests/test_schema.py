"""The thirteen tables on the live server: what they are made of, and each rule seen to refuse what breaks it.

What must hold is written out here by hand, from the contract; nothing is read from the models or the migrations.
"""

import re
import uuid
from collections.abc import Callable

import psycopg
import pytest
from django.db import connection
from psycopg import errors

pytestmark = pytest.mark.django_db

UUID_KEY = ("id", "uuid", "gen_random_uuid()")
CREATED_AT = ("created_at", "timestamp with time zone", "statement_timestamp()")
UPDATED_AT = ("updated_at", "timestamp with time zone", "statement_timestamp()")

# (column, type, default) in order; a name that ends in "?" may be NULL.
COLUMNS = {
    "users": [
        UUID_KEY,
        ("email", "text", None),
        ("name?", "text", None),
        ("icon?", "text", None),
        CREATED_AT,
        UPDATED_AT,
        ("disabled_at?", "timestamp with time zone", None),
        ("anonymized_at?", "timestamp with time zone", None),
        ("email_verified_at?", "timestamp with time zone", None),
    ],
    "user_identities": [
        UUID_KEY,
        ("user_id", "uuid", None),
        ("provider", "text", None),
        ("provider_sub", "text", None),
        CREATED_AT,
        UPDATED_AT,
    ],
    "tenants": [
        UUID_KEY,
        ("organization_id", "text", "'ORG-DEFAULT-001'::text"),
        ("name", "text", None),
        ("slug", "text", None),
        ("description?", "text", None),
        ("tenant_type", "text", "'team'::text"),
        ("is_default", "boolean", "false"),
        CREATED_AT,
        UPDATED_AT,
    ],
    "tenant_memberships": [
        UUID_KEY,
        ("tenant_id", "uuid", None),
        ("user_id", "uuid", None),
        ("role", "text", "'member'::text"),
        CREATED_AT,
        ("left_at?", "timestamp with time zone", None),
        UPDATED_AT,
        ("left_reason?", "text", None),
    ],
    "sessions": [
        UUID_KEY,
        ("session_id", "text", None),
        ("user_id", "uuid", None),
        ("active_membership_id?", "uuid", None),
        ("revoked", "boolean", "false"),
        ("expires_at", "timestamp with time zone", None),
        ("last_accessed_at?", "timestamp with time zone", None),
        ("ip_address?", "inet", None),
        ("user_agent?", "text", None),
        CREATED_AT,
        ("revoked_at?", "timestamp with time zone", None),
        ("revoked_reason?", "text", None),
    ],
    "oauth_states": [
        UUID_KEY,
        ("state", "text", None),
        ("code_verifier", "text", None),
        ("nonce", "text", None),
        ("redirect_uri?", "text", None),
        ("consumed_at?", "timestamp with time zone", None),
        CREATED_AT,
        ("provider?", "text", None),
        ("browser_digest?", "text", None),
    ],
    "tenant_join_codes": [
        UUID_KEY,
        ("tenant_id", "uuid", None),
        ("code", "text", None),
        ("expires_at?", "timestamp with time zone", None),
        ("max_uses", "integer", "0"),
        ("used_count", "integer", "0"),
        ("role", "text", "'member'::text"),
        ("created_by?", "uuid", None),
        CREATED_AT,
        ("revoked_at?", "timestamp with time zone", None),
    ],
    "tenant_join_code_redemptions": [
        UUID_KEY,
        ("join_code_id", "uuid", None),
        ("membership_id", "uuid", None),
        ("user_id", "uuid", None),
        ("redeemed_at", "timestamp with time zone", "statement_timestamp()"),
        ("ended_at?", "timestamp with time zone", None),
    ],
    "console_sessions": [
        UUID_KEY,
        ("session_id", "text", None),
        ("organization_id", "text", None),
        ("expires_at", "timestamp with time zone", None),
        CREATED_AT,
    ],
    "groups": [
        UUID_KEY,
        ("tenant_id", "uuid", None),
        ("name", "text", None),
        ("description?", "text", None),
        ("parent_group_id?", "uuid", None),
        ("parent_depth?", "integer", None),
        ("depth?", "integer", "COALESCE((parent_depth + 1), 0)"),
        CREATED_AT,
        UPDATED_AT,
    ],
    "group_memberships": [
        UUID_KEY,
        ("group_id", "uuid", None),
        ("user_id", "uuid", None),
        ("role", "text", "'member'::text"),
        CREATED_AT,
        ("tenant_id?", "uuid", None),
    ],
    "audit_logs": [
        UUID_KEY,
        ("organization_id", "text", None),
        ("tenant_id?", "uuid", None),
        ("tenant_label?", "text", None),
        ("user_id?", "uuid", None),
        ("actor_label?", "text", None),
        ("action", "text", None),
        ("resource_type", "text", None),
        ("resource_id?", "text", None),
        ("details?", "jsonb", None),
        ("ip_address?", "inet", None),
        ("user_agent?", "text", None),
        CREATED_AT,
        ("outcome?", "text", None),
        ("request_id?", "text", None),
        ("transaction_id?", "xid8", "pg_current_xact_id()"),
    ],
    "organizations": [
        ("id", "text", None),
        ("name", "text", None),
        ("slug", "text", None),
        ("settings?", "jsonb", None),
        ("status", "text", "'active'::text"),
        CREATED_AT,
        UPDATED_AT,
    ],
    "organization_domains": [
        UUID_KEY,
        ("organization_id", "text", None),
        ("domain", "text", None),
        ("is_verified", "boolean", "false"),
        ("verified_at?", "timestamp with time zone", None),
        CREATED_AT,
        ("verification_token?", "text", None),
        ("last_checked_at?", "timestamp with time zone", None),
        ("failed_checks", "integer", "0"),
    ],
}  # fmt: skip
TABLES = sorted(COLUMNS)
DIGESTS = [f"{n:064x}" for n in range(2)]  # what stands in for the SHA-256 of a secret

# Every index but those of the primary keys; "*" marks a unique one.
INDEXES = {
    "users": {"idx_users_email*": "(lower(email))", "idx_users_created_at": "(created_at DESC)"},
    "user_identities": {
        "idx_user_identities_provider_sub*": "(provider, provider_sub)",
        "idx_user_identities_user_id": "(user_id)",
    },
    "tenants": {
        "tenants_organization_id_slug_key*": "(organization_id, slug)",
        "idx_tenants_is_default*": "(organization_id) WHERE is_default",
        "idx_tenants_slug": "(slug)",
    },
    "tenant_memberships": {
        "tenant_memberships_tenant_id_user_id_key*": "(tenant_id, user_id)",
        "tenant_memberships_id_user_id_key*": "(id, user_id)",
        "idx_tenant_memberships_user_id": "(user_id)",
    },
    "sessions": {
        "idx_sessions_session_id*": "(session_id)",
        "idx_sessions_user_id": "(user_id)",
        "idx_sessions_expires_at": "(expires_at)",
        "idx_sessions_revoked_expires": "(expires_at) WHERE (NOT revoked)",
        "idx_sessions_active_membership": "(active_membership_id, user_id)",
    },
    "oauth_states": {
        "idx_oauth_states_state*": "(state)",
        "idx_oauth_states_created_at": "(created_at)",
        "idx_oauth_states_consumed": "(created_at) WHERE (consumed_at IS NULL)",
    },
    "tenant_join_codes": {
        "idx_tenant_join_codes_code*": "(normalize_join_code(code))",
        "idx_tenant_join_codes_tenant_id": "(tenant_id)",
        "idx_tenant_join_codes_expires_at": "(expires_at)",
        "idx_tenant_join_codes_active": "(tenant_id, expires_at) WHERE (revoked_at IS NULL)",
        "idx_tenant_join_codes_created_by": "(created_by)",
        "idx_tenant_join_codes_created_at": "(created_at DESC, id DESC)",
    },
    "tenant_join_code_redemptions": {
        "idx_redemptions_join_code_id": "(join_code_id)",
        "idx_redemptions_membership_id": "(membership_id, user_id)",
    },
    "console_sessions": {
        "idx_console_sessions_session_id*": "(session_id)",
        "idx_console_sessions_expires_at": "(expires_at)",
        "idx_console_sessions_active": "(organization_id, expires_at)",
    },
    "groups": {
        "groups_tenant_id_id_depth_key*": "(tenant_id, id, depth)",
        "idx_groups_parent_group_id": "(tenant_id, parent_group_id, parent_depth)",
    },
    "group_memberships": {
        "group_memberships_group_id_user_id_key*": "(group_id, user_id)",
        "idx_group_memberships_user_id": "(user_id)",
        "idx_group_memberships_tenant_id": "(tenant_id, user_id)",
    },
    "audit_logs": {
        "idx_audit_logs_organization": "(organization_id, created_at DESC)",
        "idx_audit_logs_tenant": "(tenant_id, created_at DESC)",
        "idx_audit_logs_user": "(user_id, created_at DESC)",
        "idx_audit_logs_action": "(action, created_at DESC)",
        "idx_audit_logs_resource_created": "(resource_type, resource_id, created_at DESC)",
        "idx_audit_logs_transaction": "(transaction_id, id)",
        "idx_audit_logs_created_at": "(created_at DESC, id DESC)",
    },
    "organizations": {"organizations_slug_key*": "(slug)"},
    "organization_domains": {
        "organization_domains_domain_key*": "(lower(domain)) WHERE is_verified",
        "organization_domains_organization_id_domain_key*": "(organization_id, domain)",
    },
}

FOREIGN_KEYS = {
    "user_identities_user_id_fkey": "(user_id) REFERENCES users(id) ON DELETE CASCADE",
    "tenants_organization_id_fkey": "(organization_id) REFERENCES organizations(id)",
    "tenant_memberships_tenant_id_fkey": "(tenant_id) REFERENCES tenants(id) ON DELETE CASCADE",
    "tenant_memberships_user_id_fkey": "(user_id) REFERENCES users(id) ON DELETE CASCADE",
    "sessions_user_id_fkey": "(user_id) REFERENCES users(id) ON DELETE CASCADE",
    "sessions_active_membership_id_user_id_fkey": (
        "(active_membership_id, user_id) REFERENCES tenant_memberships(id, user_id) "
        "ON DELETE SET NULL (active_membership_id)"
    ),
    "tenant_join_codes_tenant_id_fkey": "(tenant_id) REFERENCES tenants(id) ON DELETE CASCADE",
    "tenant_join_codes_created_by_fkey": "(created_by) REFERENCES users(id) ON DELETE SET NULL",
    "tenant_join_code_redemptions_join_code_id_fkey": (
        "(join_code_id) REFERENCES tenant_join_codes(id) ON DELETE CASCADE"
    ),
    "tenant_join_code_redemptions_membership_id_user_id_fkey": (
        "(membership_id, user_id) REFERENCES tenant_memberships(id, user_id) ON DELETE CASCADE"
    ),
    "group_memberships_tenant_id_user_id_fkey": (
        "(tenant_id, user_id) REFERENCES tenant_memberships(tenant_id, user_id) ON DELETE CASCADE"
    ),
    "console_sessions_organization_id_fkey": "(organization_id) REFERENCES organizations(id) ON DELETE CASCADE",
    "groups_tenant_id_fkey": "(tenant_id) REFERENCES tenants(id) ON DELETE CASCADE",
    "groups_tenant_id_parent_group_id_parent_depth_fkey": (
        "(tenant_id, parent_group_id, parent_depth) REFERENCES groups(tenant_id, id, depth) "
        "ON UPDATE CASCADE ON DELETE CASCADE"
    ),
    "group_memberships_group_id_fkey": "(group_id) REFERENCES groups(id) ON DELETE CASCADE",
    "group_memberships_user_id_fkey": "(user_id) REFERENCES users(id) ON DELETE CASCADE",
    "organization_domains_organization_id_fkey": "(organization_id) REFERENCES organizations(id) ON DELETE CASCADE",
}

UPDATED_AT_TABLES = ("users", "user_identities", "tenants", "tenant_memberships", "groups", "organizations")
UPDATED_AT_TRIGGERS = {(table, f"update_{table}_updated_at") for table in UPDATED_AT_TABLES}
# Asleep, until splitadmin wakes them.
OF_COPIES = {
    ("organizations", "refuse_deletion"),
    ("organizations", "refuse_writes_of_copy"),
    ("organization_domains", "refuse_writes_of_copy"),
    ("console_sessions", "refuse_writes_of_copy"),
}
OTHER_TRIGGERS = {
    ("users", "clear_users_email_verified_at"),
    ("users", "forget_identities"),
    ("user_identities", "refuse_identities_of_anonymized_users"),
    ("groups", "set_groups_parent_depth"),
    ("group_memberships", "set_group_memberships_tenant"),
    ("tenant_memberships", "clear_tenant_memberships_left_reason"),
    ("tenant_memberships", "keep_an_admin_on_update"),
    ("tenant_memberships", "keep_an_admin_on_delete"),
    ("tenant_memberships", "leave_groups"),
    ("users", "end_memberships_of_anonymized_user"),
    ("organizations", "end_sessions_of_organizations"),
    ("tenants", "end_sessions_of_moved_tenants"),
    ("console_sessions", "refuse_console_sessions"),
    ("sessions", "refuse_sessions_in_organizations"),
    ("sessions", "sessions_active_membership_is_active"),
    ("sessions", "sessions_user_is_enabled"),
    ("tenant_memberships", "take_left_membership_off_sessions"),
    ("users", "revoke_sessions_of_disabled_user"),
    ("users", "refuse_to_undo_anonymization"),
    ("users", "forget_clients_of_sessions"),
    ("groups", "refuse_to_move_groups"),
    ("tenant_memberships", "refuse_to_move_tenant_memberships"),
    ("tenant_memberships", "refuse_memberships_of_anonymized_users"),
    ("tenant_memberships", "refuse_to_reopen_memberships_of_anonymized_users"),
    ("tenant_memberships", "end_redemptions"),
    ("sessions", "sessions_stay_revoked"),
    ("organization_domains", "clear_organization_domains_verification"),
    ("audit_logs", "refuse_audit_logs_change"),
    ("audit_logs", "refuse_audit_logs_truncate"),
}

# As PostgreSQL writes them.
CHECKS = {
    ("users", "check_user_email"): (
        r"((length(email) <= 254) AND (email ~ '^[^@\s\u0001-\u001f\u007f]+@[^@.\s\u0001-\u001f\u007f]+"
        r"(\.[^@.\s\u0001-\u001f\u007f]+)*$'::text))"
    ),
    ("users", "check_user_email_reserved"): (
        r"((anonymized_at IS NOT NULL) OR (email !~* '@anonymized\.invalid$'::text))"
    ),
    ("users", "check_user_name"): r"(name ~ '\S'::text)",
    ("users", "check_user_anonymized"): "((anonymized_at IS NULL) OR (disabled_at IS NOT NULL))",
    ("user_identities", "check_user_identity_provider"): "((provider <> ''::text) AND (length(provider) <= 255))",
    ("user_identities", "check_user_identity_provider_sub"): (
        "((provider_sub <> ''::text) AND (length(provider_sub) <= 255))"
    ),
    ("tenants", "check_tenant_type"): (
        "(tenant_type = ANY (ARRAY['team'::text, 'department'::text, 'project'::text, 'laboratory'::text]))"
    ),
    ("tenant_memberships", "check_role"): "(role = ANY (ARRAY['admin'::text, 'member'::text, 'viewer'::text]))",
    ("tenant_join_codes", "check_max_uses"): "(max_uses >= 0)",
    ("tenant_join_codes", "check_used_count"): "(used_count >= 0)",
    ("tenant_join_codes", "check_join_role"): "(role = ANY (ARRAY['member'::text, 'viewer'::text]))",
    ("tenants", "check_tenant_name"): "(name ~ '\\S'::text)",
    ("tenants", "check_tenant_slug"): "(slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text)",
    ("tenant_memberships", "check_left_reason"): (
        "((left_reason IS NULL) OR ((left_at IS NOT NULL) AND (left_reason = ANY (ARRAY['left'::text, "
        "'removed'::text, 'code_revoked'::text]))))"
    ),
    ("tenant_join_codes", "check_join_code"): "(NOT (normalize_join_code(code) = ''::text))",
    ("groups", "check_group_name"): "(name ~ '\\S'::text)",
    ("group_memberships", "check_group_membership_tenant"): "(tenant_id IS NOT NULL)",
    ("tenant_join_codes", "check_used_count_within_max_uses"): "((max_uses = 0) OR (used_count <= max_uses))",
    ("sessions", "check_session_id_hashed"): "(session_id ~ '^[0-9a-f]{64}$'::text)",
    ("sessions", "check_session_expires_at"): "(isfinite(expires_at) AND (expires_at > created_at))",
    ("sessions", "check_session_revoked"): "(revoked OR ((revoked_at IS NULL) AND (revoked_reason IS NULL)))",
    ("console_sessions", "check_console_session_id_hashed"): "(session_id ~ '^[0-9a-f]{64}$'::text)",
    ("oauth_states", "check_oauth_state_hashed"): "(state ~ '^[0-9a-f]{64}$'::text)",
    ("oauth_states", "check_oauth_browser_digest"): "(browser_digest ~ '^[0-9a-f]{64}$'::text)",
    ("oauth_states", "check_oauth_redirect_uri"): (
        r"(redirect_uri ~ '^/([^/\\\u0001-\u001f\u007f-\u009f][^\\\u0001-\u001f\u007f-\u009f]*)?$'::text)"
    ),
    ("audit_logs", "check_audit_outcome"): (
        "(outcome = ANY (ARRAY['success'::text, 'failure'::text, 'denied'::text]))"
    ),
    ("groups", "check_parent_depth"): (
        "(((parent_depth IS NULL) AND (parent_group_id IS NULL)) "
        "OR ((parent_depth IS NOT NULL) AND (parent_group_id IS NOT NULL)))"
    ),
    ("groups", "check_group_depth"): "(((parent_depth >= 0) AND (parent_depth < 31)) OR (parent_depth IS NULL))",
    ("group_memberships", "check_group_role"): "(role = ANY (ARRAY['admin'::text, 'member'::text]))",
    ("organizations", "check_organization_id"): "(id <> ''::text)",
    ("organizations", "check_organization_settings"): "(jsonb_typeof(settings) = 'object'::text)",
    ("organizations", "check_organization_status"): (
        "(status = ANY (ARRAY['active'::text, 'suspended'::text, 'archived'::text]))"
    ),
    ("organizations", "check_organization_slug"): "(slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text)",
    ("organizations", "check_organization_name"): r"(name ~ '\S'::text)",
    ("organization_domains", "check_is_verified"): "(is_verified = (verified_at IS NOT NULL))",
    ("organization_domains", "check_organization_domain"): (
        r"((length(domain) <= 253) AND (domain ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+"
        r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))"
    ),
    ("organization_domains", "check_failed_checks"): "(failed_checks >= 0)",
}


def rows(query: str, *parameters) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()


def value(query: str, *parameters):
    ((only,),) = rows(query, *parameters)
    return only


def run(query: str, *parameters) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)


def insert(table: str, **columns) -> object:
    """Insert a row by plain SQL that names these columns alone; return its id."""
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    return value(f"INSERT INTO {table} ({names}) VALUES ({places}) RETURNING id", *columns.values())


# What it is made of


@pytest.mark.parametrize("table", TABLES)
def test_columns_types_and_defaults(table):
    found = rows(
        "SELECT attname || CASE WHEN attnotnull THEN '' ELSE '?' END, format_type(atttypid, atttypmod), "
        "pg_get_expr(adbin, adrelid) FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )
    assert found == COLUMNS[table]


def test_no_other_table_than_these_and_those_of_django_its_packages_and_the_runner():
    found = {table for (table,) in rows(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace"
    )}  # fmt: skip
    others = ("django_", "auth_", "operators", "otp_", "axes_", "keyhub_migrations")
    djangos = {table for table in found if table.startswith(others)}
    assert found - djangos - {"audit_seals", "audit_archives"} == set(TABLES)  # tests/audit


@pytest.mark.parametrize("table", TABLES)
def test_primary_key(table):
    key = value(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'", table
    )
    assert key == ("PRIMARY KEY (id, created_at)" if table == "audit_logs" else "PRIMARY KEY (id)")


@pytest.mark.parametrize("table", TABLES)
def test_indexes(table):
    found = rows(
        "SELECT relname || CASE WHEN indisunique THEN '*' ELSE '' END, pg_get_indexdef(indexrelid) "
        "FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
        "WHERE indrelid = %s::regclass AND NOT indisprimary AND indisvalid",
        table,
    )
    assert {name: definition.partition(" USING btree ")[2] for name, definition in found} == INDEXES[table]


def test_foreign_keys_with_their_delete_rules():
    found = dict(
        rows(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE contype = 'f' AND conrelid::regclass::text = ANY (%s)",
            TABLES,
        )
    )
    # pg_get_constraintdef tells of DEFERRABLE and NOT VALID, so this says that no key is either.
    assert found == {name: f"FOREIGN KEY {definition}" for name, definition in FOREIGN_KEYS.items()}


def test_triggers_are_enabled_and_serve_updated_at():
    found = rows(
        "SELECT tgrelid::regclass::text, tgname, tgenabled, proname FROM pg_trigger "
        "JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_class ON pg_class.oid = tgrelid "
        "WHERE NOT tgisinternal AND NOT relispartition AND relname NOT IN ('audit_seals', 'audit_archives')"
    )
    assert {(table, name) for table, name, _, _ in found} == UPDATED_AT_TRIGGERS | OTHER_TRIGGERS | OF_COPIES
    enabled = {(table, name): enabled for table, name, enabled, _ in found}
    assert {trigger for trigger in enabled if enabled[trigger] == "D"} == OF_COPIES
    # A suspension that arrives by replication ends sessions, too.
    assert {trigger for trigger in enabled if enabled[trigger] == "A"} == {
        ("organizations", "end_sessions_of_organizations")
    }
    assert set(enabled.values()) == {"O", "D", "A"}
    functions = {function for table, name, _, function in found if (table, name) in UPDATED_AT_TRIGGERS}
    assert functions == {"update_updated_at_column"}


def test_updated_at_triggers_look_at_every_column():
    definitions = dict(
        rows(
            "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE tgname LIKE 'update%%updated_at'"
        )
    )
    # PostgreSQL admits no NEW.* where a column is generated.
    columns = re.findall(r"old\.(\w+) IS DISTINCT FROM new\.\1\)", definitions.pop("groups"))
    assert columns == [name.rstrip("?") for name, _, _ in COLUMNS["groups"] if name != "depth?"]
    assert definitions == {
        table: (
            f"CREATE TRIGGER update_{table}_updated_at BEFORE UPDATE ON public.{table} FOR EACH ROW "
            "WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION update_updated_at_column()"
        )
        for table in UPDATED_AT_TABLES
        if table != "groups"
    }


def test_check_constraints():
    found = rows(
        "SELECT conrelid::regclass::text, conname, pg_get_expr(conbin, conrelid) FROM pg_constraint "
        "WHERE contype = 'c' AND convalidated AND conrelid::regclass::text = ANY (%s)",
        TABLES,
    )
    assert {(table, name): expression for table, name, expression in found} == CHECKS


# Rules about the whole


def test_every_foreign_key_has_an_index_that_starts_with_its_columns():
    without = rows(
        """
        SELECT conname FROM pg_constraint
        WHERE contype = 'f' AND conrelid::regclass::text = ANY (%s) AND NOT EXISTS (
            SELECT FROM pg_index
            WHERE indrelid = conrelid AND indpred IS NULL AND indisvalid
              AND (indkey::int2[])[0:cardinality(conkey) - 1] = conkey
        )
        """,
        TABLES,
    )
    assert without == []


def test_no_index_repeats_another():
    repeated = rows(
        """
        SELECT one.indexrelid::regclass::text, other.indexrelid::regclass::text
        FROM pg_index AS one
        JOIN pg_index AS other ON other.indrelid = one.indrelid AND other.indexrelid <> one.indexrelid
        WHERE one.indrelid::regclass::text = ANY (%s)
          AND one.indexprs IS NULL AND other.indexprs IS NULL
          AND one.indpred IS NOT DISTINCT FROM other.indpred
          AND (one.indkey::int2[] = other.indkey::int2[] AND one.indoption = other.indoption
               OR other.indisunique
                  AND one.indkey::int2[] = (other.indkey::int2[])[0:cardinality(one.indkey::int2[]) - 1])
        """,
        TABLES,
    )
    assert repeated == []


def test_nothing_reads_the_clock_of_the_transaction():
    """CURRENT_TIMESTAMP and now() stand still in a transaction; every time here is statement_timestamp()."""
    texts = rows(
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef UNION ALL SELECT prosrc FROM pg_proc "
        "WHERE pronamespace = 'public'::regnamespace UNION ALL "
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index"
    )
    offenders = [text for (text,) in texts if text and re.search(r"\bnow\(\)|current_timestamp", text, re.IGNORECASE)]
    assert offenders == []


def test_the_owner_is_no_superuser_and_no_extension_is_needed():
    assert value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    assert rows("SELECT extname FROM pg_extension") == [("plpgsql",)]
    assert rows("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == [("keyhub",)]


# What a plain SQL client can do


def fill(insert: Callable) -> dict[str, object]:
    """alice, the admin of a team, with one row in every table; each insert names the required columns only."""
    ids = {"users": insert("users", email="alice@example.com")}
    ids["user_identities"] = insert(
        "user_identities", user_id=ids["users"], provider="https://accounts.example.com", provider_sub="alice"
    )
    ids["tenants"] = insert("tenants", name="Research", slug="research")
    ids["tenant_memberships"] = insert("tenant_memberships", tenant_id=ids["tenants"], user_id=ids["users"])
    ids["sessions"] = insert("sessions", session_id=DIGESTS[0], user_id=ids["users"], expires_at="2099-01-01+00")
    ids["oauth_states"] = insert("oauth_states", state=DIGESTS[0], code_verifier="v", nonce="n")
    ids["tenant_join_codes"] = insert("tenant_join_codes", tenant_id=ids["tenants"], code="KH-1")
    ids["tenant_join_code_redemptions"] = insert(
        "tenant_join_code_redemptions",
        join_code_id=ids["tenant_join_codes"],
        membership_id=ids["tenant_memberships"],
        user_id=ids["users"],
    )
    ids["console_sessions"] = insert(
        "console_sessions", session_id=DIGESTS[0], organization_id="ORG-DEFAULT-001", expires_at="2099-01-01+00"
    )
    ids["groups"] = insert("groups", tenant_id=ids["tenants"], name="Readers")
    ids["group_memberships"] = insert("group_memberships", group_id=ids["groups"], user_id=ids["users"])
    ids["audit_logs"] = insert("audit_logs", organization_id="ORG-DEFAULT-001", action="a", resource_type="r")
    ids["organizations"] = insert("organizations", id="ORG-ACME", name="Acme", slug="acme")
    ids["organization_domains"] = insert("organization_domains", organization_id="ORG-ACME", domain="acme.example")
    return ids


@pytest.fixture
def ids() -> dict[str, object]:
    return fill(insert)


def test_a_client_without_django_fills_every_table_by_its_required_columns(server, migrated_database):
    with psycopg.connect(host=str(server.socket_directory), dbname=migrated_database, user="keyhub") as client:

        def insert(table: str, **columns) -> object:
            required = [name for name, _, default in COLUMNS[table] if default is None and not name.endswith("?")]
            assert sorted(columns) == sorted(required)
            places = ", ".join(["%s"] * len(columns))
            statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) RETURNING id"
            return client.execute(statement, list(columns.values())).fetchone()[0]

        ids = fill(insert)
        assert sorted(ids) == TABLES
        for table, row_id in ids.items():
            assert client.execute(f"SELECT count(*) FROM {table} WHERE id = %s", [row_id]).fetchone() == (1,)


def test_a_client_without_django_inserts_a_user(server, migrated_database):
    with psycopg.connect(host=str(server.socket_directory), dbname=migrated_database, user="keyhub") as client:
        user_id, created_at, now = client.execute(
            "INSERT INTO users (email) VALUES ('bob@example.com') RETURNING id, created_at, statement_timestamp()"
        ).fetchone()
    assert isinstance(user_id, uuid.UUID)
    assert created_at == now


# Each rule refuses what breaks it: (constraint, the breaking statement); {table} stands for the id of its row in `ids`.
VIOLATIONS = [
    ("idx_users_email", "INSERT INTO users (email) VALUES ('alice@example.com')"),
    ("idx_users_email", "INSERT INTO users (email) VALUES ('ALICE@Example.com')"),
    ("check_user_email", "UPDATE users SET email = 'alice'"),
    ("check_user_email", "UPDATE users SET email = repeat('a', 243) || '@example.com'"),
    ("check_user_email_reserved", "UPDATE users SET email = 'alice@Anonymized.invalid'"),
    ("check_user_name", "UPDATE users SET name = ''"),
    ("check_user_name", "UPDATE users SET name = ' '"),
    ("check_user_anonymized", "UPDATE users SET anonymized_at = statement_timestamp()"),
    ("check_user_identity_provider", "UPDATE user_identities SET provider = ''"),
    ("check_user_identity_provider", "UPDATE user_identities SET provider = repeat('p', 256)"),
    ("check_user_identity_provider_sub", "UPDATE user_identities SET provider_sub = ''"),
    ("check_user_identity_provider_sub", "UPDATE user_identities SET provider_sub = repeat('s', 256)"),
    (
        "user_identities_user_is_not_anonymized",
        "UPDATE users SET disabled_at = statement_timestamp(), anonymized_at = statement_timestamp(); "
        "INSERT INTO user_identities (user_id, provider, provider_sub) VALUES ({users}, 'p', 's')",
    ),
    (
        "idx_user_identities_provider_sub",
        "WITH bob AS (INSERT INTO users (email) VALUES ('bob@example.com') RETURNING id) "
        "INSERT INTO user_identities (user_id, provider, provider_sub) "
        "SELECT id, 'https://accounts.example.com', 'alice' FROM bob",
    ),
    ("user_identities_user_id_fkey", "UPDATE user_identities SET user_id = gen_random_uuid()"),
    ("tenants_organization_id_slug_key", "INSERT INTO tenants (name, slug) VALUES ('Other', 'research')"),
    ("idx_tenants_is_default", "UPDATE tenants SET is_default = true"),
    ("check_tenant_type", "UPDATE tenants SET tenant_type = 'club'"),
    ("tenants_organization_id_fkey", "UPDATE tenants SET organization_id = 'ORG-NOBODY'"),
    ("tenants_organization_id_fkey", "DELETE FROM organizations WHERE id = 'ORG-DEFAULT-001'"),
    (
        "tenant_memberships_tenant_id_user_id_key",
        "INSERT INTO tenant_memberships (tenant_id, user_id) VALUES ({tenants}, {users})",
    ),
    ("check_role", "UPDATE tenant_memberships SET role = 'owner'"),
    ("check_tenant_name", "UPDATE tenants SET name = ' '"),
    ("check_tenant_slug", "UPDATE tenants SET slug = 'Research'"),
    ("check_tenant_slug", "UPDATE tenants SET slug = repeat('a', 64)"),
    ("check_group_name", "UPDATE groups SET name = ''"),
    ("check_left_reason", "UPDATE tenant_memberships SET left_reason = 'left'"),
    (
        "check_left_reason",
        "UPDATE tenant_memberships SET left_at = statement_timestamp(), left_reason = 'tired'",
    ),
    (
        "tenants_keep_an_admin",
        "UPDATE tenant_memberships SET role = 'admin'; UPDATE tenant_memberships SET role = 'member'",
    ),
    ("check_join_code", "UPDATE tenant_join_codes SET code = ' - '"),
    (
        "tenant_join_code_redemptions_join_code_id_fkey",
        "UPDATE tenant_join_code_redemptions SET join_code_id = gen_random_uuid()",
    ),
    (
        "tenant_join_code_redemptions_membership_id_user_id_fkey",
        "WITH bob AS (INSERT INTO users (email) VALUES ('bob@example.com') RETURNING id) "
        "UPDATE tenant_join_code_redemptions SET user_id = bob.id FROM bob",
    ),
    (
        "group_members_are_members",
        "WITH bob AS (INSERT INTO users (email) VALUES ('bob@example.com') RETURNING id) SELECT FROM bob; "
        "UPDATE group_memberships SET user_id = users.id FROM users WHERE email = 'bob@example.com'",
    ),
    (
        "tenant_memberships_tenant_id_fkey",
        "INSERT INTO tenant_memberships (tenant_id, user_id) VALUES (gen_random_uuid(), {users})",
    ),
    (
        "tenant_memberships_user_id_fkey",
        "INSERT INTO tenant_memberships (tenant_id, user_id) VALUES ({tenants}, gen_random_uuid())",
    ),
    (
        "idx_sessions_session_id",
        f"INSERT INTO sessions (session_id, user_id, expires_at) VALUES ('{DIGESTS[0]}', {{users}}, '2099-01-01+00')",
    ),
    ("check_session_id_hashed", "UPDATE sessions SET session_id = 'in clear'"),
    ("check_session_id_hashed", "UPDATE sessions SET session_id = upper(session_id) || 'A'"),
    ("check_session_expires_at", "UPDATE sessions SET expires_at = 'infinity'"),
    ("check_session_expires_at", "UPDATE sessions SET expires_at = created_at"),
    ("check_session_revoked", "UPDATE sessions SET revoked_at = statement_timestamp()"),
    ("check_session_revoked", "UPDATE sessions SET revoked_reason = 'signed out'"),
    (
        "sessions_active_membership_is_active",
        "UPDATE tenant_memberships SET left_at = statement_timestamp(); "
        "UPDATE sessions SET active_membership_id = {tenant_memberships}",
    ),
    (
        "sessions_user_is_enabled",
        "UPDATE users SET disabled_at = statement_timestamp(); INSERT INTO sessions (session_id, user_id, expires_at) "
        f"VALUES ('{DIGESTS[1]}', {{users}}, '2099-01-01+00')",
    ),
    ("sessions_user_id_fkey", "UPDATE sessions SET user_id = gen_random_uuid()"),
    ("sessions_active_membership_id_user_id_fkey", "UPDATE sessions SET active_membership_id = gen_random_uuid()"),
    (
        "sessions_active_membership_id_user_id_fkey",
        "UPDATE sessions SET active_membership_id = {tenant_memberships}; "
        "WITH bob AS (INSERT INTO users (email) VALUES ('bob@example.com') RETURNING id) "
        "UPDATE sessions SET user_id = bob.id FROM bob",
    ),
    (
        "idx_oauth_states_state",
        f"INSERT INTO oauth_states (state, code_verifier, nonce) VALUES ('{DIGESTS[0]}', 'v', 'n')",
    ),
    ("check_oauth_state_hashed", "UPDATE oauth_states SET state = 'in clear'"),
    ("check_oauth_browser_digest", "UPDATE oauth_states SET browser_digest = 'in clear'"),
    ("check_oauth_redirect_uri", "UPDATE oauth_states SET redirect_uri = 'https://example.com/'"),
    ("check_audit_outcome", "INSERT INTO audit_logs (organization_id, action, resource_type, outcome) "
     "VALUES ('o', 'a', 'r', 'perhaps')"),
    ("audit_logs_append_only", "UPDATE audit_logs SET action = 'nothing'"),
    ("audit_logs_append_only", "DELETE FROM audit_logs"),
    ("audit_logs_append_only", "TRUNCATE audit_logs"),
    ("audit_logs_append_only", "TRUNCATE audit_logs_default"),
    ("idx_tenant_join_codes_code", "INSERT INTO tenant_join_codes (tenant_id, code) VALUES ({tenants}, 'KH-1')"),
    ("check_max_uses", "UPDATE tenant_join_codes SET max_uses = -1, used_count = -1"),
    ("check_used_count", "UPDATE tenant_join_codes SET used_count = -1"),
    ("check_used_count_within_max_uses", "UPDATE tenant_join_codes SET max_uses = 2, used_count = 3"),
    ("check_join_role", "UPDATE tenant_join_codes SET role = 'admin'"),
    ("tenant_join_codes_tenant_id_fkey", "UPDATE tenant_join_codes SET tenant_id = gen_random_uuid()"),
    ("tenant_join_codes_created_by_fkey", "UPDATE tenant_join_codes SET created_by = gen_random_uuid()"),
    (
        "idx_console_sessions_session_id",
        "INSERT INTO console_sessions (session_id, organization_id, expires_at) "
        f"VALUES ('{DIGESTS[0]}', 'ORG-DEFAULT-001', '2099-01-01+00')",
    ),
    ("check_console_session_id_hashed", "UPDATE console_sessions SET session_id = 'in clear'"),
    ("console_sessions_organization_id_fkey", "UPDATE console_sessions SET organization_id = 'ORG-NOBODY'"),
    ("groups_tenant_id_fkey", "INSERT INTO groups (tenant_id, name) VALUES (gen_random_uuid(), 'Nowhere')"),
    (
        "groups_tenant_id_parent_group_id_parent_depth_fkey",
        "INSERT INTO groups (tenant_id, name, parent_group_id) VALUES ({tenants}, 'Orphan', gen_random_uuid())",
    ),
    (
        "group_memberships_group_id_user_id_key",
        "INSERT INTO group_memberships (group_id, user_id) VALUES ({groups}, {users})",
    ),
    ("check_group_role", "UPDATE group_memberships SET role = 'viewer'"),
    ("group_memberships_group_id_fkey", "UPDATE group_memberships SET group_id = gen_random_uuid()"),
    ("group_memberships_user_id_fkey", "UPDATE group_memberships SET user_id = gen_random_uuid()"),
    ("organizations_slug_key", "INSERT INTO organizations (id, name, slug) VALUES ('ORG-2', 'Two', 'acme')"),
    ("organizations_pkey", "INSERT INTO organizations (id, name, slug) VALUES ('ORG-ACME', 'Two', 'two')"),
    ("check_organization_id", "INSERT INTO organizations (id, name, slug) VALUES ('', 'Nameless', 'nameless')"),
    ("check_organization_settings", "UPDATE organizations SET settings = '[]'"),
    ("check_organization_settings", "UPDATE organizations SET settings = 'null'"),
    ("check_organization_status", "UPDATE organizations SET status = 'gone'"),
    ("check_organization_slug", "UPDATE organizations SET slug = 'Acme' WHERE id = 'ORG-ACME'"),
    ("check_organization_slug", "UPDATE organizations SET slug = repeat('a', 64) WHERE id = 'ORG-ACME'"),
    ("check_organization_name", "UPDATE organizations SET name = ' '"),
    ("check_organization_domain", "UPDATE organization_domains SET domain = 'Acme.example'"),
    ("check_organization_domain", "UPDATE organization_domains SET domain = 'acme'"),
    ("check_failed_checks", "UPDATE organization_domains SET failed_checks = -1"),
    (
        "organization_domains_organization_id_domain_key",
        "INSERT INTO organization_domains (organization_id, domain) VALUES ('ORG-ACME', 'acme.example')",
    ),
    (
        "console_sessions_organization_is_active",
        "UPDATE organizations SET status = 'suspended'; INSERT INTO console_sessions "
        "(session_id, organization_id, expires_at) VALUES ('c2', 'ORG-ACME', '2099-01-01+00')",
    ),
    (
        "sessions_organization_is_active",
        "UPDATE organizations SET status = 'archived'; "
        "UPDATE sessions SET active_membership_id = {tenant_memberships}",
    ),
    ("check_is_verified", "UPDATE organization_domains SET is_verified = true"),
    ("check_is_verified", "UPDATE organization_domains SET verified_at = statement_timestamp()"),
    (
        "organization_domains_domain_key",
        "UPDATE organization_domains SET is_verified = true, verified_at = statement_timestamp(); "
        "INSERT INTO organization_domains (organization_id, domain, is_verified, verified_at) "
        "VALUES ('ORG-DEFAULT-001', 'acme.example', true, statement_timestamp())",
    ),
    (
        "organization_domains_organization_id_fkey",
        "INSERT INTO organization_domains (organization_id, domain) VALUES ('ORG-NOBODY', 'nobody.example')",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("constraint", "statement"), VIOLATIONS, ids=[f"{c}-{n}" for n, (c, _) in enumerate(VIOLATIONS)]
)
def test_a_rule_refuses_what_breaks_it(ids, constraint, statement):
    literals = {table: f"'{row_id}'" for table, row_id in ids.items()}
    client = connection.connection
    with pytest.raises(errors.IntegrityError) as refusal, client.transaction():
        client.execute(statement.format(**literals))
    assert refusal.value.diag.constraint_name == constraint


def test_every_named_rule_is_among_the_violations():
    """The depths are shown in tests/tenancy/test_groups.py. What holds the primary key is for keys to refer to."""
    unique = {name.rstrip("*") for indexes in INDEXES.values() for name in indexes if name.endswith("*")}
    rules = unique | set(FOREIGN_KEYS) | {check for _, check in CHECKS}
    # A trigger fills the tenant in, and refuses before the key could.
    rules -= {"check_group_membership_tenant", "group_memberships_tenant_id_user_id_fkey"}
    unseen = rules - {constraint for constraint, _ in VIOLATIONS}
    referred_to = {"groups_tenant_id_id_depth_key", "tenant_memberships_id_user_id_key"}
    assert unseen == {"check_parent_depth", "check_group_depth"} | referred_to


def test_a_viewer_is_a_member_too(ids):
    """The source lets join codes hand out viewer, and memberships refuse it."""
    run("UPDATE tenant_memberships SET role = 'viewer'")
    assert value("SELECT role FROM tenant_memberships") == "viewer"


def test_an_unlimited_code_counts_on(ids):
    run("UPDATE tenant_join_codes SET max_uses = 0, used_count = 5000 WHERE id = %s", ids["tenant_join_codes"])
    assert value("SELECT used_count FROM tenant_join_codes WHERE id = %s", ids["tenant_join_codes"]) == 5000


def test_each_organization_has_its_own_default_tenant(ids):
    insert("tenants", organization_id="ORG-ACME", name="Acme", slug="default", is_default=True)
    assert value("SELECT count(*) FROM tenants WHERE is_default") == 2


def test_a_domain_may_be_claimed_twice_until_it_is_verified(ids):
    insert("organization_domains", organization_id="ORG-DEFAULT-001", domain="acme.example")
    assert value("SELECT count(*) FROM organization_domains WHERE lower(domain) = 'acme.example'") == 2


# What goes with a row, and what stays


def counts() -> dict[str, int]:
    return {table: value(f"SELECT count(*) FROM {table}") for table in TABLES}


def gone_with(statement: str, row_id: object) -> dict[str, int]:
    before = counts()
    run(statement, row_id)
    after = counts()
    return {table: before[table] - after[table] for table in TABLES if before[table] != after[table]}


def test_deleting_a_user(ids):
    run("UPDATE tenant_join_codes SET created_by = %s", ids["users"])
    insert("audit_logs", organization_id="o", action="a", resource_type="r", user_id=ids["users"])
    assert gone_with("DELETE FROM users WHERE id = %s", ids["users"]) == {
        "users": 1,
        "user_identities": 1,
        "tenant_memberships": 1,
        "tenant_join_code_redemptions": 1,
        "sessions": 1,
        "group_memberships": 1,
    }
    assert value("SELECT count(*) FROM tenant_join_codes WHERE created_by IS NOT NULL") == 0
    assert value("SELECT user_id FROM audit_logs WHERE user_id IS NOT NULL") == ids["users"]


def test_deleting_a_tenant(ids):
    run("UPDATE sessions SET active_membership_id = %s", ids["tenant_memberships"])
    insert("audit_logs", organization_id="o", action="a", resource_type="r", tenant_id=ids["tenants"])
    assert gone_with("DELETE FROM tenants WHERE id = %s", ids["tenants"]) == {
        "tenants": 1,
        "tenant_memberships": 1,
        "tenant_join_codes": 1,
        "tenant_join_code_redemptions": 1,
        "groups": 1,
        "group_memberships": 1,
    }
    assert value("SELECT active_membership_id FROM sessions") is None
    assert value("SELECT tenant_id FROM audit_logs WHERE tenant_id IS NOT NULL") == ids["tenants"]


def test_deleting_a_group_takes_the_groups_below_it(ids):
    child = insert("groups", tenant_id=ids["tenants"], name="Child", parent_group_id=ids["groups"])
    insert("groups", tenant_id=ids["tenants"], name="Grandchild", parent_group_id=child)
    assert gone_with("DELETE FROM groups WHERE id = %s", ids["groups"]) == {"groups": 3, "group_memberships": 1}


def test_deleting_an_organization_without_tenants(ids):
    insert("console_sessions", session_id=DIGESTS[1], organization_id="ORG-ACME", expires_at="2099-01-01+00")
    assert gone_with("DELETE FROM organizations WHERE id = %s", "ORG-ACME") == {
        "organizations": 1,
        "organization_domains": 1,
        "console_sessions": 1,
    }


def test_deleting_a_large_tenant_is_one_statement(ids, django_assert_num_queries):
    from tenancy.models import Tenant

    run("INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, 2000) AS n")
    run(
        "INSERT INTO tenant_memberships (tenant_id, user_id) SELECT %s, id FROM users ON CONFLICT DO NOTHING",
        ids["tenants"],
    )
    with django_assert_num_queries(1):
        Tenant.objects.filter(id=ids["tenants"]).delete()
    assert value("SELECT count(*) FROM tenant_memberships") == 0


# updated_at

CHANGES = {
    "users": "name = 'Alice'",
    "user_identities": "provider_sub = 'alice-2'",
    "tenants": "description = 'We read.'",
    "tenant_memberships": "left_at = statement_timestamp()",
    "groups": "name = 'Writers'",
    "organizations": "status = 'suspended'",
}


@pytest.mark.parametrize("table", UPDATED_AT_TABLES)
def test_updated_at_moves_when_the_row_changes_and_only_then(ids, table):
    before = value(f"SELECT updated_at FROM {table} WHERE id = %s", ids[table])
    run(f"UPDATE {table} SET id = id, created_at = created_at WHERE id = %s", ids[table])
    assert value(f"SELECT updated_at FROM {table} WHERE id = %s", ids[table]) == before
    run(f"UPDATE {table} SET {CHANGES[table]} WHERE id = %s", ids[table])
    assert value(f"SELECT updated_at FROM {table} WHERE id = %s", ids[table]) > before


def test_created_at_is_the_statements_time_not_the_transactions(ids):
    """The tests' transaction began before the row of `ids` was made: CURRENT_TIMESTAMP would give its start."""
    assert value("SELECT created_at > transaction_timestamp() FROM users")
