# ruff: noqa: S608 every name in these statements is one of the two tables in source.REBUILT
"""A table made anew beside the old one, filled while everybody goes on writing, and put into its place.

For what ALTER TABLE does only by rewriting under a lock: a generated column, partitions. A trigger notes the id of each
row that changes; the copy goes through the old table block by block; then the noted rows are copied again, the last few
of them under the lock in which the two tables change places. https://www.postgresql.org/docs/current/sql-altertable.html
"""

from django.db import IntegrityError

from keyhub.adopt.catalogue import Index, Table, read
from keyhub.adopt.steps import Steps
from keyhub.migrate.executor import RefusedError

SCHEMA = "keyhub_adopt"
REPLACED_SCHEMA = "keyhub_adopt_replaced"
BLOCKS_PER_BATCH = 200
NOTES_PER_BATCH = 2_000
NOTES_LEFT_TO_THE_LOCK = 200
MONTHS_AHEAD = 3

# What a new column holds until the tree is settled; of every other new column the rows hold NULL.
PLACEHOLDERS = {("groups", "parent_depth"): "CASE WHEN parent_group_id IS NULL THEN NULL ELSE 0 END"}

# Notes are written whatever the role's rights are, and where a replica applies changes as well.
NOTES = """
    CREATE TABLE {work}.{table}_changes (id uuid);
    CREATE FUNCTION {work}.note_{table}() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        -- NULL notes the whole table.
        IF TG_OP = 'TRUNCATE' THEN
            INSERT INTO {work}.{table}_changes VALUES (NULL);
            RETURN NULL;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO {work}.{table}_changes VALUES (OLD.id);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO {work}.{table}_changes VALUES (NEW.id);
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER keyhub_adopt_note AFTER INSERT OR UPDATE OR DELETE ON {live}
        FOR EACH ROW EXECUTE FUNCTION {work}.note_{table}();
    CREATE TRIGGER keyhub_adopt_note_truncate AFTER TRUNCATE ON {live}
        FOR EACH STATEMENT EXECUTE FUNCTION {work}.note_{table}();
    ALTER TABLE {live} ENABLE ALWAYS TRIGGER keyhub_adopt_note;
    ALTER TABLE {live} ENABLE ALWAYS TRIGGER keyhub_adopt_note_truncate;
    CREATE TABLE {work}.{table}_progress (leaf oid, filenode oid, next_block bigint, blocks bigint);
    INSERT INTO {work}.{table}_progress
    SELECT leaf, pg_relation_filenode(leaf), 0, pg_relation_size(leaf) / current_setting('block_size')::bigint
    FROM unnest({leaves}) AS leaf
"""
# A plain table has no tree in PostgreSQL's eyes.
LEAVES = """
    coalesce(nullif(ARRAY(SELECT relid::oid FROM pg_partition_tree('{live}') WHERE isleaf), '{{}}'),
             ARRAY['{live}'::regclass::oid])
"""
DEPENDENTS = """
    SELECT DISTINCT CASE WHEN classid = 'pg_rewrite'::regclass
        THEN 'the view ' || (SELECT ev_class::regclass::text FROM pg_rewrite WHERE oid = objid)
        ELSE pg_describe_object(classid, objid, objsubid) END
    FROM pg_depend
    WHERE refclassid = 'pg_class'::regclass AND refobjid = %(table)s::regclass
      AND classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_publication_rel'::regclass)
    UNION ALL
    SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass::text
    FROM pg_constraint
    WHERE confrelid = %(table)s::regclass AND conrelid <> confrelid
      AND conrelid::regclass::text <> ALL (%(known)s)
    ORDER BY 1
"""
NAMESAKES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relname ~ ('^' || %(table)s || '_(default|\\d{4}_\\d\\d)$')
      AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = pg_class.oid AND inhparent = %(table)s::regclass)
    ORDER BY relname
"""
# For each role but the owner, as GRANT says it.
GRANTS = """
    SELECT format('GRANT %%s ON %%s TO %%s%%s', privilege_type, %(target)s::text,
                  CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = %(table)s::regclass AND grantee <> relowner
    UNION ALL
    SELECT format('GRANT %%s (%%I) ON %%s TO %%s%%s', privilege_type, attname, %(target)s::text,
                  CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_attribute, aclexplode(attacl) WHERE attrelid = %(table)s::regclass AND NOT attisdropped
"""


def hindrances(steps: Steps, name: str, known_tables: list[str], is_partitioned: bool) -> list[str]:
    """What hangs on a table, and would go on hanging on the replaced one; what has the name of a partition to be."""
    found = [f"{what} hangs on it" for (what,) in steps.rows(DEPENDENTS, table=name, known=known_tables)]
    if is_partitioned:
        found += [f"{what} has the name of a partition" for (what,) in steps.rows(NAMESAKES, table=name)]
    return found


def rebuild(steps: Steps, schema: str, live: Table, expected: Table, own_indexes: list[Index]) -> None:
    """Replace a table by one of the reference's shape, with all its rows. Run again, it goes on where it was killed."""
    copy = _Copy(steps, schema, live, expected, own_indexes)
    copy.prepare()
    copy.fill()
    copy.make_indexes()
    copy.catch_up()
    copy.change_places()


def drop_replaced(steps: Steps) -> None:
    """Drop what the tables that were replaced left behind."""
    for (table,) in steps.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p') "
        "AND NOT relispartition",
        REPLACED_SCHEMA,
    ):
        steps.run(f"{table}: the old table is dropped", f"DROP TABLE {REPLACED_SCHEMA}.{_quoted(steps, table)}")
    for work in (REPLACED_SCHEMA, SCHEMA):
        if steps.rows("SELECT to_regnamespace(%s) IS NOT NULL", work)[0][0]:
            steps.run(f"the schema {work} is dropped", f"DROP SCHEMA {work}")


def _quoted(steps: Steps, name: str) -> str:
    return steps.connection.ops.quote_name(name)


class _Copy:
    def __init__(self, steps: Steps, schema: str, live: Table, expected: Table, own_indexes: list[Index]):
        quote = steps.connection.ops.quote_name
        self.steps = steps
        self.name = live.name
        self.schema = schema
        self.expected = expected
        self.own_indexes = own_indexes
        self.live = f"{quote(schema)}.{quote(live.name)}"
        self.shadow = f"{SCHEMA}.{quote(live.name)}"
        self.notes = f"{SCHEMA}.{live.name}_changes"
        self.progress = f"{SCHEMA}.{live.name}_progress"
        copied = {
            quote(column.name): (
                quote(column.name)
                if column.name in live.columns
                else PLACEHOLDERS.get((live.name, column.name), "NULL")
            )
            for column in expected.columns.values()
            if not column.is_generated
        }
        self.columns = ", ".join(copied)
        self.values = ", ".join(copied.values())

    def prepare(self) -> None:
        """Make the new table, still without its foreign keys, triggers and most indexes, and begin to take notes."""
        if self.steps.rows("SELECT to_regclass(%s) IS NOT NULL", self.shadow)[0][0]:
            return
        months = self._months() if self.expected.partition_key else []
        quote = self.steps.connection.ops.quote_name
        lines = [f"{quote(column.name)} {column.definition}" for column in self.expected.columns.values()]
        lines += [
            f"CONSTRAINT {quote(constraint.name)} {constraint.definition}"
            for constraint in self.expected.constraints_of("p", "u", "c")
        ]
        partitioned = f" PARTITION BY {self.expected.partition_key}" if self.expected.partition_key else ""
        leaves = LEAVES.format(live=self.live)
        self.steps.run(
            f"{self.name}: is being made anew, and changes are noted",
            f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
            f"CREATE TABLE {self.shadow} ({', '.join(lines)}){partitioned}",
            *months,
            NOTES.format(work=SCHEMA, table=self.name, live=self.live, leaves=leaves),
        )

    def _months(self) -> list[str]:
        """What makes the partitions: DEFAULT, the current month and those ahead, and all that rows are of, by UTC."""
        # Counted without a time zone, in which '1 month' always ends on a first.
        months = self.steps.rows(
            f"SELECT to_char(month, 'YYYY_MM'), to_char(month, 'YYYY-MM-DD'), "
            f"to_char(month + interval '1 month', 'YYYY-MM-DD') FROM ("
            f"SELECT date_trunc('month', created_at AT TIME ZONE 'UTC') FROM {self.live} UNION "
            f"SELECT date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC') + make_interval(months => ahead) "
            f"FROM generate_series(0, {MONTHS_AHEAD}) AS ahead) AS months (month) ORDER BY month"
        )
        return [
            f"CREATE TABLE {SCHEMA}.{self.name}_default PARTITION OF {self.shadow} DEFAULT",
            *(
                f"CREATE TABLE {SCHEMA}.{self.name}_{month} PARTITION OF {self.shadow} "
                f"FOR VALUES FROM ('{first} 00:00:00+00') TO ('{end} 00:00:00+00')"
                for month, first, end in months
            ),
        ]

    def fill(self) -> None:
        """Copy the rows that were there before notes were taken."""
        while self.steps.in_transaction(f"{self.name}: copying", self._fill_some):
            pass
        self.steps.tell(f"{self.name}: the rows are copied.")

    def _fill_some(self) -> int:
        # VACUUM FULL between two batches puts the rows into other blocks.
        self.steps.execute(
            f"UPDATE {self.progress} SET next_block = 0, filenode = pg_relation_filenode(leaf), "
            "blocks = pg_relation_size(leaf) / current_setting('block_size')::bigint "
            "WHERE filenode <> pg_relation_filenode(leaf)"
        )
        batches = self.steps.rows(
            f"SELECT leaf, leaf::regclass::text, next_block FROM {self.progress} WHERE next_block < blocks LIMIT 1"
        )
        for leaf, table, block in batches:
            self.steps.execute(
                f"INSERT INTO {self.shadow} ({self.columns}) SELECT {self.values} FROM {table} "
                f"WHERE ctid >= '({block},0)' AND ctid < '({block + BLOCKS_PER_BATCH},0)' ON CONFLICT DO NOTHING"
            )
            self.steps.execute(
                f"UPDATE {self.progress} SET next_block = {block + BLOCKS_PER_BATCH} WHERE leaf = {leaf}"
            )
        return len(batches)

    def make_indexes(self) -> None:
        """Build the indexes, on a table that nobody uses yet; those of somebody's own as well."""
        there = read(self.steps.connection, SCHEMA).tables[self.name].indexes
        quote = self.steps.connection.ops.quote_name
        for index in [*self.expected.indexes.values(), *self.own_indexes]:
            if index.name not in there:
                unique, method = ("UNIQUE ", index.definition[7:]) if index.is_unique else ("", index.definition)
                self.steps.run(
                    f"{self.name}: index {index.name} is built",
                    f"CREATE {unique}INDEX {quote(index.name)} ON {self.shadow} USING {method}",
                )

    def catch_up(self) -> None:
        """Copy again what was noted, until little is left to do under the lock."""
        self.steps.in_transaction(f"{self.name}: settling", lambda: self._settle(None))
        while self.steps.in_transaction(f"{self.name}: catching up", self._catch_up_some) > NOTES_LEFT_TO_THE_LOCK:
            pass
        self.steps.execute(f"ANALYZE {self.shadow}")

    def _catch_up_some(self) -> int:
        """Copy again the rows of some notes; return how many notes there were.

        The rows are read after their notes: a note is only seen when its change is.
        """
        noted = self.steps.rows(
            f"DELETE FROM {self.notes} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {self.notes} LIMIT {NOTES_PER_BATCH})) "
            "RETURNING id"
        )
        ids = list({row[0] for row in noted if row[0] is not None})
        if any(row[0] is None for row in noted):
            self.steps.execute(
                f"DELETE FROM {self.shadow} AS copy WHERE NOT EXISTS "
                f"(SELECT FROM {self.live} AS live WHERE live.id = copy.id)"
            )
        if ids:
            with self.steps.connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {self.shadow} WHERE id = ANY (%s)", [ids])
                cursor.execute(
                    f"INSERT INTO {self.shadow} ({self.columns}) SELECT {self.values} FROM {self.live} "
                    "WHERE id = ANY (%s)",
                    [ids],
                )
            self._settle(ids)
        return len(noted)

    def _settle(self, ids: list | None) -> None:
        """Give each group the depth of its parent, from the groups with these ids downwards; None means all."""
        if self.name != "groups":
            return
        settle = (
            f"UPDATE {self.shadow} AS child SET parent_depth = parent.depth FROM {self.shadow} AS parent "
            "WHERE parent.id = child.parent_group_id AND parent.tenant_id = child.tenant_id "
            "AND parent.depth <> child.parent_depth"
        )
        try:
            with self.steps.connection.cursor() as cursor:
                while ids is None or ids:
                    changed = []
                    for limit in ("",) if ids is None else (" AND child.id = ANY (%s)", " AND parent.id = ANY (%s)"):
                        cursor.execute(f"{settle}{limit} RETURNING child.id", [ids] if limit else None)
                        changed += [row[0] for row in cursor.fetchall()]
                    ids = changed
        except IntegrityError as error:
            raise RefusedError(
                "groups: groups that came meanwhile make a cycle, or too deep a tree. Run this again for the list."
            ) from error

    def change_places(self) -> None:
        quote = self.steps.connection.ops.quote_name
        referring = self.steps.rows(
            "SELECT conrelid::regclass::text, conname, regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '') "
            "FROM pg_constraint WHERE confrelid = %s::regclass AND conrelid <> confrelid AND conparentid = 0",
            self.live,
        )
        tables = ", ".join([self.live, *sorted({table for table, _, _ in referring})])

        def change():
            execute = self.steps.execute
            execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
            while self._catch_up_some():
                pass
            ((owner, is_own),) = self.steps.rows(
                "SELECT quote_ident(pg_get_userbyid(relowner)), pg_get_userbyid(relowner) = current_user "
                "FROM pg_class WHERE oid = %s::regclass",
                self.live,
            )
            grants = self.steps.rows(GRANTS, table=self.live, target=self.live)
            for table, name, _ in referring:
                execute(f"ALTER TABLE {table} DROP CONSTRAINT {quote(name)}")
            execute(f"CREATE SCHEMA IF NOT EXISTS {REPLACED_SCHEMA}")
            self._move(self.live, REPLACED_SCHEMA)
            self._move(self.shadow, quote(self.schema))
            if not is_own:
                for table in self._tree(self.live):
                    execute(f"ALTER TABLE {table} OWNER TO {owner}")
            for (grant,) in grants:
                execute(grant)
            for constraint in self.expected.constraints_of("f"):
                execute(
                    f"ALTER TABLE {self.live} ADD CONSTRAINT {quote(constraint.name)} {constraint.definition} NOT VALID"
                )
            for table, name, definition in referring:
                execute(f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} {definition} NOT VALID")
            for trigger in self.expected.triggers.values():
                execute(trigger.made_by)
            for trigger in ("keyhub_adopt_note", "keyhub_adopt_note_truncate"):
                execute(f"DROP TRIGGER {trigger} ON {REPLACED_SCHEMA}.{quote(self.name)}")
            execute(f"DROP FUNCTION {SCHEMA}.note_{self.name}()")
            execute(f"DROP TABLE {self.notes}, {self.progress}")

        self.steps.in_transaction(f"{self.name}: putting the new table in its place", change)
        self.steps.tell(f"{self.name}: the new table is in its place.")

    def _move(self, table: str, schema: str) -> None:
        """Put a table and its partitions into another schema; indexes and constraints go with each."""
        for name in self._tree(table):
            self.steps.execute(f"ALTER TABLE {name} SET SCHEMA {schema}")

    def _tree(self, table: str) -> list[str]:
        partitions = self.steps.rows(
            "SELECT relid::regclass::text FROM pg_partition_tree(%s::regclass) WHERE relid <> %s::regclass",
            table,
            table,
        )
        return [table, *(name for (name,) in partitions)]
