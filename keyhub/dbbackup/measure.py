"""What a database holds, in numbers that its copy must have too: rows and a digest for each table, and the catalogue.

A digest is the sum of the hashes of the rows, so their order does not matter. The hashes are those of hash
partitioning (hash_record_extended), which PostgreSQL keeps the same from version to version.
"""

import hashlib
import json
from dataclasses import dataclass

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql
from psycopg.errors import UndefinedFunction

from keyhub import dbhealth
from keyhub.dbhealth import catalogue, drift_checks, examination

# The row's text decides how it is hashed where a type has no hash, such as json.
SETTINGS = """
    SET LOCAL search_path = pg_catalog; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, MDY';
    SET LOCAL IntervalStyle = 'postgres'; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1;
    SET LOCAL jit = off
"""
# Those whose rows pg_dump takes: not those of an extension, which makes its own, nor foreign ones.
TABLES = """
    SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind = 'r' AND relpersistence <> 't' AND nspname <> 'information_schema' AND nspname !~ '^pg_'
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                        AND deptype = 'e')
    ORDER BY pg_relation_size(pg_class.oid) DESC, 1, 2
"""
HEALTH_IDS = frozenset({*drift_checks.IDS.values(), "keyhub.H005", "keyhub.H006", "keyhub.H007"})


@dataclass(frozen=True)
class Rows:
    """The rows of one table."""

    rows: int
    digest: str


def rows_of_tables(connection: psycopg.Connection) -> dict[str, Rows]:
    """The Rows of each table, by its name with schema, in the caller's transaction."""
    connection.execute(SETTINGS)
    names = connection.execute(TABLES).fetchall()
    result = {f"{schema}.{table}": _rows(connection, sql.Identifier(schema, table)) for schema, table in names}
    return dict(sorted(result.items()))


def _rows(connection: psycopg.Connection, table: sql.Identifier) -> Rows:
    query = "SELECT count(*), coalesce(sum({hash}), 0)::text FROM ONLY {table} AS t"
    try:
        with connection.transaction():
            answer = connection.execute(sql.SQL(query).format(hash=sql.SQL("hash_record_extended(t, 0)"), table=table))
    except UndefinedFunction:
        answer = connection.execute(sql.SQL(query).format(hash=sql.SQL("hashtextextended(t::text, 0)"), table=table))
    return Rows(*answer.fetchone())


def catalogue_lines(connection: BaseDatabaseWrapper) -> list[str]:
    """The lines of the live catalogue, in a transaction of the caller's."""
    return catalogue.render(catalogue.read(connection).objects.values()).splitlines()


def without_publications(lines: list[str]) -> list[str]:
    """What of the catalogue is backed up: who publishes and subscribes belongs to two servers, not to a copy."""
    return [line for line in lines if not line.startswith("other publication ")]


def digest_of(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def unhealthy(alias: str, place: str | None = None) -> list[str]:
    """What dbhealth finds of drift and records that is worse than a notice, one line each.

    `place` is the alias of the database of which this one is a copy, where it is one: `admin` for a copy of that one.
    """
    selection = examination.Selection(only=HEALTH_IDS, phase=dbhealth.Phase.PRE_MIGRATE)
    report = dbhealth.run(alias, selection, place)
    return sorted(
        f"{finding.id} {finding.object}: {finding.problem}"
        for finding in report.findings
        if finding.severity is not dbhealth.Severity.NOTICE
    )


# Roles, and what CREATE DATABASE and ALTER DATABASE are told

ROLES = """
    WITH here AS (SELECT oid, datdba FROM pg_database WHERE datname = current_database()),
        owners AS (
            SELECT datdba AS role FROM here
            UNION SELECT refobjid FROM pg_shdepend, here WHERE refclassid = 'pg_authid'::regclass
                AND (dbid = here.oid OR (classid = 'pg_database'::regclass AND objid = here.oid))
            UNION SELECT relowner FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
            UNION SELECT setrole FROM pg_db_role_setting, here WHERE setdatabase = here.oid)
    SELECT rolname::text FROM pg_roles JOIN owners ON role = oid WHERE rolname !~ '^pg_' ORDER BY 1
"""
PROPERTIES = """
    SELECT (to_jsonb(d) - 'datacl' || jsonb_build_object(
        'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
        'settings', (SELECT coalesce(jsonb_agg(jsonb_build_array(rolname, setting)), '[]')
                     FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting
                         LEFT JOIN pg_roles ON pg_roles.oid = setrole
                     WHERE setdatabase = d.oid),
        'grants', (SELECT jsonb_agg(jsonb_build_array(
                              CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, privilege_type, is_grantable))
                   FROM aclexplode(datacl))))::text
    FROM pg_database AS d WHERE datname = current_database()
"""


def roles(connection: psycopg.Connection) -> list[str]:
    """The roles that own something in the database, or are granted something in it or on it."""
    return [name for (name,) in connection.execute(ROLES)]


def properties(connection: psycopg.Connection) -> dict:
    """What a new database is made with: owner, encoding and locale, settings, and grants (None: PostgreSQL's own)."""
    ((text,),) = connection.execute(PROPERTIES)
    facts = json.loads(text)
    kept = ("owner", "encoding", "datlocprovider", "datcollate", "datctype", "datconnlimit", "settings", "grants")
    # Called daticulocale up to PostgreSQL 16.
    locale = facts.get("datlocale") or facts.get("daticulocale")
    return {**{name: facts[name] for name in kept}, "locale": locale}


def system_identifier(connection: psycopg.Connection) -> str:
    """The number that tells one server's data from another's; a standby has that of its primary."""
    return str(connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()[0])
