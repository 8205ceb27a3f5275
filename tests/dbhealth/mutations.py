"""Faults derived from a live catalogue: each way in which each of its objects can be dropped, altered or disabled."""

from collections.abc import Iterator
from dataclasses import dataclass

from keyhub.dbhealth.catalogue import Catalogue, CatalogueObject

STRANGER = "keyhub_stranger"
OWNER = "SET ROLE keyhub; "


@dataclass(frozen=True)
class Mutation:
    """One fault: the object that dbhealth must name, and the SQL, run by a superuser."""

    object: str
    sql: str

    def __str__(self) -> str:
        return " ".join(self.sql.removeprefix(OWNER).split())


def all_mutations(catalogue: Catalogue, major_version: int) -> list[Mutation]:
    """Every mutation, in the order of the catalogue. Those of the same text are one."""
    found: dict[str, Mutation] = {}
    for item in catalogue.objects.values():
        write = globals().get("_" + item.kind.replace("-", "_"))
        for mutation in write(item, catalogue, major_version) if write else ():
            found.setdefault(mutation.sql, mutation)
    for mutation in EXTRAS:
        found.setdefault(mutation.sql, mutation)
    return list(found.values())


def _table(item: CatalogueObject, catalogue: Catalogue, _: int) -> Iterator[Mutation]:
    name, alter = item.name, f"{OWNER}ALTER TABLE {item.name}"
    is_parent = "partition key" in item.facts
    yield Mutation(name, f"{OWNER}DROP TABLE {name} CASCADE")
    yield Mutation(name, f"{alter} RENAME TO {name}_renamed")
    yield Mutation(name, f"ALTER TABLE {name} OWNER TO {STRANGER}")
    yield Mutation(name, f"{alter} ENABLE ROW LEVEL SECURITY")
    yield Mutation(name, f"{alter} FORCE ROW LEVEL SECURITY")
    yield Mutation(name, f"{alter} REPLICA IDENTITY FULL")
    yield Mutation(name, f"{alter} REPLICA IDENTITY NOTHING")
    yield Mutation(f"{name}.unordered", f"{alter} ADD COLUMN unordered text")
    yield Mutation(f"{name}.unordered", f"{alter} ADD CONSTRAINT unordered CHECK (true)")
    yield Mutation(f"table {name} to PUBLIC", f"{OWNER}GRANT SELECT ON {name} TO PUBLIC")
    yield Mutation(f"table {name} to {STRANGER}", f"{OWNER}GRANT ALL ON {name} TO {STRANGER}")
    yield Mutation(f"table {name} to {STRANGER}", f"{OWNER}GRANT DELETE ON {name} TO {STRANGER} WITH GRANT OPTION")
    yield Mutation(f"table {name} to the owner", f"{OWNER}REVOKE INSERT ON {name} FROM keyhub")
    yield Mutation(
        f"{name}.unordered", f"{OWNER}CREATE POLICY unordered ON {name} FOR SELECT USING (current_user = 'somebody')"
    )
    yield Mutation(
        f"{name}.unordered",
        f"{OWNER}CREATE TRIGGER unordered AFTER INSERT ON {name} FOR EACH STATEMENT "
        "EXECUTE FUNCTION update_updated_at_column()",
    )
    if not is_parent:
        yield Mutation(name, f"{alter} SET UNLOGGED")
        yield Mutation(name, f"{alter} SET (fillfactor = 50)")
        yield Mutation(name, f"{alter} SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)")
        yield Mutation(f"{name}.unordered", f"{OWNER}CREATE RULE unordered AS ON INSERT TO {name} DO INSTEAD NOTHING")
    if parent := item.facts.get("partition of"):
        yield Mutation(name, f"{OWNER}ALTER TABLE {parent} DETACH PARTITION {name}")


DEFAULTS = {
    "text": "'some'", "character varying": "'some'", "timestamp with time zone": "now()", "integer": "7",
    "bigint": "7", "smallint": "7", "boolean": "current_user = 'somebody'", "jsonb": "'[]'", "inet": "'127.0.0.1'",
    "uuid": "'00000000-0000-0000-0000-000000000000'", "xid8": "'7'",
}  # fmt: skip


def _column(item: CatalogueObject, catalogue: Catalogue, _: int) -> Iterator[Mutation]:
    facts, alter = item.facts, f"{OWNER}ALTER TABLE {item.table} ALTER COLUMN {item.name}"
    yield Mutation(item.identity, f"{OWNER}ALTER TABLE {item.table} DROP COLUMN {item.name} CASCADE")
    yield Mutation(item.identity, f"{OWNER}ALTER TABLE {item.table} RENAME COLUMN {item.name} TO renamed")
    if "generated" in facts:
        yield Mutation(item.identity, f"{alter} DROP EXPRESSION")
    elif "identity" in facts:
        yield Mutation(item.identity, f"{alter} DROP IDENTITY")
        yield Mutation(item.identity, f"{alter} SET GENERATED ALWAYS")
    else:
        value = DEFAULTS.get(facts["type"].split("(")[0])
        yield Mutation(item.identity, f"{alter} SET DEFAULT {value}")
    if "default" in facts:
        yield Mutation(item.identity, f"{alter} DROP DEFAULT")
    if "not null" in facts:
        yield Mutation(item.identity, f"{alter} DROP NOT NULL")
    else:
        yield Mutation(item.identity, f"{alter} SET NOT NULL")
    yield Mutation(item.identity, f"{alter} SET STATISTICS 7")
    yield Mutation(item.identity, f"{alter} SET (n_distinct = -0.5)")
    yield Mutation(f"column {item.identity} to PUBLIC", f"{OWNER}GRANT SELECT ({item.name}) ON {item.table} TO PUBLIC")
    retyped = {
        "text": "character varying(500)", "timestamp with time zone": "timestamp", "integer": "bigint",
        "bigint": "numeric", "boolean": "text", "jsonb": "json", "inet": "text", "uuid": "text",
    }.get(facts["type"], "text")  # fmt: skip
    for default in ("", f"{alter} DROP DEFAULT; "):
        yield Mutation(item.identity, f"{default}{alter} TYPE {retyped} USING {item.name}::{retyped}")
    if facts["type"] == "text":
        yield Mutation(item.identity, f'{alter} TYPE text COLLATE "C"')
        yield Mutation(item.identity, f"{alter} SET STORAGE EXTERNAL")
        yield Mutation(item.identity, f"{alter} SET COMPRESSION pglz")


def _constraint(item: CatalogueObject, catalogue: Catalogue, major_version: int) -> Iterator[Mutation]:
    table, name, definition = item.table, item.name, item.facts.get("definition", "")
    if not definition:
        return  # a partition's, of its parent's
    alter = f"{OWNER}ALTER TABLE {table}"
    yield Mutation(item.identity, f"{alter} DROP CONSTRAINT {name} CASCADE")
    yield Mutation(item.identity, f"{alter} RENAME CONSTRAINT {name} TO renamed")
    again = f"{alter} DROP CONSTRAINT {name} CASCADE, ADD CONSTRAINT {name}"
    if definition.startswith(("FOREIGN", "CHECK")):
        yield Mutation(item.identity, f"{again} {definition} NOT VALID")
        yield Mutation(item.identity, f"UPDATE pg_constraint SET convalidated = false WHERE conname = '{name}'")
    if definition.startswith("FOREIGN"):
        yield Mutation(item.identity, f"{alter} ALTER CONSTRAINT {name} DEFERRABLE")
        action = "ON DELETE SET NULL" if "ON DELETE CASCADE" in definition else "ON DELETE CASCADE"
        plain = definition.split(" ON ")[0].split(" DEFERRABLE")[0]
        yield Mutation(item.identity, f"{again} {plain} {action}")
        if major_version >= 18:
            yield Mutation(item.identity, f"{alter} ALTER CONSTRAINT {name} NOT ENFORCED")
    elif definition.startswith("CHECK"):
        yield Mutation(item.identity, f"{again} CHECK (true)")
        yield Mutation(item.identity, f"{again} {definition} NO INHERIT")
        if major_version >= 18:
            yield Mutation(item.identity, f"{again} {definition} NOT ENFORCED")
    elif definition.startswith("UNIQUE"):
        yield Mutation(item.identity, f"{again} {definition} DEFERRABLE")
        yield Mutation(item.identity, f"{again} {definition.replace('UNIQUE', 'UNIQUE NULLS NOT DISTINCT')}")


def _index(item: CatalogueObject, catalogue: Catalogue, _: int) -> Iterator[Mutation]:
    facts, name = item.facts, item.name
    yield Mutation(item.identity, f"{OWNER}ALTER INDEX {name} RENAME TO renamed")
    yield Mutation(item.identity, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")
    table = catalogue.objects["table", "", item.table]
    if "partition key" not in table.facts:
        yield Mutation(item.identity, f"{OWNER}ALTER INDEX {name} SET (fillfactor = 55)")
        yield Mutation(item.identity, f"UPDATE pg_index SET indisready = false WHERE indexrelid = '{name}'::regclass")
        yield Mutation(item.identity, f"{OWNER}ALTER TABLE {item.table} CLUSTER ON {name}")
    if "definition" not in facts:
        return
    unique = "UNIQUE " if "unique" in facts else ""
    drop = f"{OWNER}DROP INDEX {name}"
    yield Mutation(item.identity, drop)
    if "partition key" in table.facts:
        yield Mutation(item.identity, f"{drop}; CREATE INDEX {name} ON ONLY {item.table} USING {facts['definition']}")
    if not unique:
        yield Mutation(item.identity, f"{drop}; CREATE INDEX {name} ON {item.table} ((1))")
    partial = facts["definition"].split(" WHERE ")[0]
    yield Mutation(item.identity, f"{drop}; CREATE {unique}INDEX {name} ON {item.table} USING {partial} WHERE false")


# Of a trigger, by the word that the catalogue has for it.
SWITCHES = {"no": "DISABLE", None: "ENABLE", "replica": "ENABLE REPLICA", "always": "ENABLE ALWAYS"}


def _trigger(item: CatalogueObject, catalogue: Catalogue, _: int) -> Iterator[Mutation]:
    alter = f"{OWNER}ALTER TABLE {item.table}"
    enabled = item.facts.get("enabled")
    yield Mutation(item.identity, f"{OWNER}DROP TRIGGER {item.name} ON {item.table}")
    for switch in (switch for word, switch in SWITCHES.items() if word != enabled):
        yield Mutation(item.identity, f"{alter} {switch} TRIGGER {item.name}")
    yield Mutation(item.identity, f"{alter} {'ENABLE' if enabled == 'no' else 'DISABLE'} TRIGGER USER")
    yield Mutation(item.identity, f"{OWNER}ALTER TRIGGER {item.name} ON {item.table} RENAME TO renamed")
    yield Mutation(
        item.identity,
        f"{OWNER}CREATE OR REPLACE TRIGGER {item.name} BEFORE UPDATE ON {item.table} FOR EACH ROW WHEN (false) "
        "EXECUTE FUNCTION update_updated_at_column()",
    )


def _key_trigger(item: CatalogueObject, catalogue: Catalogue, _: int) -> Iterator[Mutation]:
    name = item.private["_name"]
    yield Mutation(item.identity, f'ALTER TABLE {item.table} DISABLE TRIGGER "{name}"')
    yield Mutation(item.identity, f"ALTER TABLE {item.table} DISABLE TRIGGER ALL")


def _function(item: CatalogueObject, catalogue: Catalogue, _: int) -> Iterator[Mutation]:
    name, alter = item.name, f"{OWNER}ALTER FUNCTION {item.name}"
    yield Mutation(name, f"{OWNER}DROP FUNCTION {name} CASCADE")
    yield Mutation(name, f"{alter} RENAME TO renamed")
    for option in (
        "SECURITY DEFINER",
        "IMMUTABLE",
        "STRICT",
        "COST 7",
        "PARALLEL SAFE",
        "SET search_path = pg_catalog",
    ):
        if option not in item.facts["definition"]:
            yield Mutation(name, f"{alter} {option}")
    yield Mutation(name, f"ALTER FUNCTION {name} OWNER TO {STRANGER}")
    yield Mutation(f"function {name} to PUBLIC", f"{OWNER}REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC")
    body = item.facts["definition"].replace("$function$", "$function$/* changed */", 1)
    yield Mutation(name, OWNER + body)


def _sequence(item: CatalogueObject, catalogue: Catalogue, _: int) -> Iterator[Mutation]:
    alter = f"{OWNER}ALTER SEQUENCE {item.name}"
    for option in ("INCREMENT 7", "CYCLE", "CACHE 99", "MAXVALUE 1000", "START 5", "RENAME TO renamed"):
        yield Mutation(item.name, f"{alter} {option}")
    yield Mutation(item.name, f"{alter} SET UNLOGGED")
    yield Mutation(f"sequence {item.name} to {STRANGER}", f"{OWNER}GRANT USAGE ON SEQUENCE {item.name} TO {STRANGER}")


EXTRAS = [
    Mutation("schema public to PUBLIC", "GRANT CREATE ON SCHEMA public TO PUBLIC"),
    Mutation("schema public to PUBLIC", "REVOKE USAGE ON SCHEMA public FROM PUBLIC"),
    Mutation("public", f"ALTER SCHEMA public OWNER TO {STRANGER}"),
    Mutation("unordered", "CREATE SCHEMA unordered"),
    Mutation("database this to PUBLIC", "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO PUBLIC', "
             "current_database()); END $$"),
    Mutation("pg_trgm", "CREATE EXTENSION pg_trgm"),
    Mutation("unordered", f"{OWNER}CREATE TABLE unordered (id int)"),
    Mutation("unordered", f"{OWNER}CREATE TABLE unordered () INHERITS (users)"),
    Mutation("unordered", f"{OWNER}CREATE VIEW unordered AS SELECT 1"),
    Mutation("unordered", f"{OWNER}CREATE MATERIALIZED VIEW unordered AS SELECT 1"),
    Mutation("unordered", f"{OWNER}CREATE SEQUENCE unordered"),
    Mutation("unordered", f"{OWNER}CREATE TYPE unordered AS ENUM ('a')"),
    Mutation("unordered", f"{OWNER}CREATE TYPE unordered AS (a int)"),
    Mutation("unordered", f"{OWNER}CREATE DOMAIN unordered AS text CHECK (value <> '')"),
    Mutation("unordered()", f"{OWNER}CREATE FUNCTION unordered() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    Mutation("unordered()", f"{OWNER}CREATE PROCEDURE unordered() LANGUAGE sql AS 'SELECT 1'"),
    Mutation("unordered(integer)", f"{OWNER}CREATE AGGREGATE unordered(int) (SFUNC = int4pl, STYPE = int)"),
    Mutation("unordered", f"{OWNER}CREATE STATISTICS unordered ON name, email FROM users"),
    Mutation("operator public.===(integer,integer)",
             f"{OWNER}CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)"),
    Mutation("collation public.unordered", f"{OWNER}CREATE COLLATION unordered FROM \"C\""),
    Mutation("publication unordered", "CREATE PUBLICATION unordered FOR TABLE users"),
    Mutation("event trigger unordered",
             "CREATE FUNCTION unordered() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
             "CREATE EVENT TRIGGER unordered ON ddl_command_end EXECUTE FUNCTION unordered()"),
    Mutation("foreign-data wrapper unordered", "CREATE FOREIGN DATA WRAPPER unordered"),
    Mutation("cast (integer AS pg_catalog.inet)",
             "CREATE FUNCTION unordered(int) RETURNS inet LANGUAGE sql AS 'SELECT NULL::inet'; "
             "CREATE CAST (int AS inet) WITH FUNCTION unordered(int)"),
    Mutation("default tables of keyhub in schema public to PUBLIC",
             f"{OWNER}ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC"),
    Mutation("default functions of keyhub to PUBLIC",
             f"{OWNER}ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"),
    Mutation("users.unordered", f"{OWNER}CREATE UNIQUE INDEX unordered ON users (name)"),
    Mutation("audit_logs.unordered", f"{OWNER}CREATE INDEX unordered ON audit_logs (user_agent)"),
    Mutation("audit_logs_default.unordered", f"{OWNER}CREATE INDEX unordered ON audit_logs_default (user_agent)"),
    Mutation("tenants.unordered",
             f"{OWNER}ALTER TABLE tenants ADD CONSTRAINT unordered FOREIGN KEY (id) REFERENCES users"),
]  # fmt: skip
