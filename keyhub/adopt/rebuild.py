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
# Everybody waits while these are copied.
NOTES_LEFT_TO_THE_LOCK = 30
MONTHS_AHEAD = 3

# What a new column holds until the tree is settled; of every other new column the rows hold NULL.
PLACEHOLDERS = {("groups", "parent_depth"): "CASE WHEN parent_group_id IS NULL THEN NULL ELSE 0 END"}

# Notes are written whatever the role's rights are, and where a replica applies changes as well.
NOTES = """
    CREATE TABLE {work}.{table}_changes (id uuid, created_at timestamptz);
    CREATE FUNCTION {work}.note_{table}() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        -- NULL notes the whole table.
        IF TG_OP = 'TRUNCATE' THEN
            INSERT INTO {work}.{table}_changes VALUES (NULL, NULL);
            RETURN NULL;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO {work}.{table}_changes VALUES (OLD.id, OLD.created_at);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO {work}.{table}_changes VALUES (NEW.id, NEW.created_at);
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
    copy.settle()
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
        self._quoted_schema = quote(schema)
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
        self.steps.run_shortly(
            f"{self.name}: is being made anew, and changes are noted",
            [self.live],
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

    def settle(self) -> None:
        self.steps.in_transaction(f"{self.name}: settling", lambda: self._settle(None))
        self._catch_up()
        self.steps.execute(f"ANALYZE {self.shadow}")

    def _catch_up(self) -> None:
        """Copy again what was noted, until little is left to do under the lock."""
        while self.steps.in_transaction(f"{self.name}: catching up", self._catch_up_some) > NOTES_LEFT_TO_THE_LOCK:
            # Else each batch reads over all notes that are gone. To cut the table short would lock writers out.
            self.steps.execute(f"VACUUM (TRUNCATE false) {self.notes}")

    def _catch_up_some(self) -> int:
        """Copy again the rows of some notes; return how many notes there were.

        The rows are read after their notes: a note is only seen when its change is.
        """
        noted = self.steps.rows(
            f"WITH noted AS (DELETE FROM {self.notes} WHERE ctid = ANY (ARRAY("
            f"SELECT ctid FROM {self.notes} LIMIT {NOTES_PER_BATCH})) RETURNING id, created_at) "
            # As texts: Python knows no infinity.
            "SELECT id, (min(created_at) OVER ())::text, (max(created_at) OVER ())::text FROM noted"
        )
        ids = list({row[0] for row in noted if row[0] is not None})
        if any(row[0] is None for row in noted):
            self.steps.execute(
                f"DELETE FROM {self.shadow} AS copy WHERE NOT EXISTS "
                f"(SELECT FROM {self.live} AS live WHERE live.id = copy.id)"
            )
        if ids:
            with self.steps.connection.cursor() as cursor:
                # By created_at as well: of the partitions only those are looked into that it leaves.
                cursor.execute(
                    f"DELETE FROM {self.shadow} WHERE id = ANY (%s) AND created_at BETWEEN %s AND %s",
                    [ids, *noted[0][1:]],
                )
                # Where created_at is changed, the row may be there already: by the other note of the same change.
                at_other_note = " ON CONFLICT (id, created_at) DO NOTHING" if self.expected.partition_key else ""
                cursor.execute(
                    f"INSERT INTO {self.shadow} ({self.columns}) SELECT {self.values} FROM {self.live} "
                    f"WHERE id = ANY (%s){at_other_note}",
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

        owner, is_own = self.steps.rows(
            "SELECT quote_ident(pg_get_userbyid(relowner)), pg_get_userbyid(relowner) = current_user "
            "FROM pg_class WHERE oid = %s::regclass",
            self.live,
        )[0]
        replaced = f"{REPLACED_SCHEMA}.{quote(self.name)}"

        def change():
            execute, rows = self.steps.execute, self.steps.rows
            grants = rows(GRANTS, table=self.live, target=self.live)
            statements = [
                *(f"ALTER TABLE {table} DROP CONSTRAINT {quote(name)}" for table, name, _ in referring),
                f"CREATE SCHEMA IF NOT EXISTS {REPLACED_SCHEMA}",
                *self._moving(self.live, REPLACED_SCHEMA),
                *self._moving(self.shadow, self._quoted_schema),
                *(f"ALTER TABLE {table} OWNER TO {owner}" for table in self._tree_to_be() if not is_own),
                *(grant for (grant,) in grants),
                *(
                    f"ALTER TABLE {self.live} ADD CONSTRAINT {quote(constraint.name)} {constraint.definition} NOT VALID"
                    for constraint in self.expected.constraints_of("f")
                ),
                *(
                    f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} {definition} NOT VALID"
                    for table, name, definition in referring
                ),
                *(trigger.made_by for trigger in self.expected.triggers.values()),
                f"DROP TRIGGER keyhub_adopt_note ON {replaced}",
                f"DROP TRIGGER keyhub_adopt_note_truncate ON {replaced}",
                f"DROP FUNCTION {SCHEMA}.note_{self.name}()",
                f"DROP TABLE {self.notes}, {self.progress}",
            ]
            # A vacuum may have been waited for since the copy has caught up.
            while self._catch_up_some() > NOTES_LEFT_TO_THE_LOCK:
                pass
            execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
            while self._catch_up_some():
                pass
            # In one message, since everybody waits.
            execute("; ".join(statements))

        self.steps.in_short_transaction(
            f"{self.name}: putting the new table in its place", change, tables=tables.split(", "), before=self._catch_up
        )
        self.steps.tell(f"{self.name}: the new table is in its place.")

    def _moving(self, table: str, schema: str) -> list[str]:
        """What puts a table and its partitions into another schema; indexes and constraints go with each."""
        return [f"ALTER TABLE {name} SET SCHEMA {schema}" for name in self._tree(table)]

    def _tree(self, table: str) -> list[str]:
        partitions = self.steps.rows(
            "SELECT relid::regclass::text FROM pg_partition_tree(%s::regclass) WHERE relid <> %s::regclass",
            table,
            table,
        )
        return [table, *(name for (name,) in partitions)]

    def _tree_to_be(self) -> list[str]:
        """The tables of the copy, by the names that they have when they are in their place."""
        return [f"{self._quoted_schema}.{name.rpartition('.')[2]}" for name in self._tree(self.shadow)]
