"""Operations for migrations. Old migrations run through them: what they do for given arguments must never change."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from django.apps import apps
from django.contrib.postgres import operations as postgres
from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.models import F, Index, Model
from django.db.models.expressions import OrderBy

from keyhub import placement
from keyhub.identifiers import with_ending
from keyhub.sql_text import statements


class RunSQLFile(Operation):
    """Run `<app>/sql/<name>.up.sql`, and `<app>/sql/<name>.down.sql` on the way back.

    For what Django cannot say: triggers, functions, partitions. Its statements are sent as they are, one by one, so `%`
    means itself; where the Admin database is one of its own, each runs where all tables live that it names. Raises
    FileNotFoundError where a file is missing.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, name: str, state_operations: list[Operation] | None = None):
        self.name = name
        self.state_operations = state_operations or []

    def deconstruct(self):
        kwargs = {"name": self.name}
        if self.state_operations:
            kwargs["state_operations"] = self.state_operations
        return type(self).__name__, [], kwargs

    def path(self, app_label: str, direction: str) -> Path:
        """Return the file for a direction, `up` or `down`."""
        return Path(apps.get_app_config(app_label).path) / "sql" / f"{self.name}.{direction}.sql"

    def statements(self, app_label: str, direction: str) -> list[str]:
        """The statements of the file for a direction."""
        return statements(self.path(app_label, direction).read_text(encoding="utf-8"))

    def state_forwards(self, app_label, state):
        for operation in self.state_operations:
            operation.state_forwards(app_label, state)

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        self._run(app_label, "up", schema_editor)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        self._run(app_label, "down", schema_editor)

    def _run(self, app_label, direction, schema_editor):
        alias = schema_editor.connection.alias
        if router.allow_migrate(alias, app_label, sql_file=self.name):
            # Django keeps constraints and indexes back until the migration's end; the file is to see whole tables.
            while schema_editor.deferred_sql:
                schema_editor.execute(schema_editor.deferred_sql.pop(0), params=None)
            for statement in self.statements(app_label, direction):
                if placement.runs(alias, app_label, statement):
                    schema_editor.execute(statement, params=None)

    def describe(self) -> str:
        return f"Run {self.name}.up.sql"


class ValidateConstraint(postgres.ValidateConstraint):
    """Django's ValidateConstraint with a way back: a valid constraint is taken away and put back NOT VALID."""

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            constraint = to_state.models[app_label, self.model_name.lower()].get_constraint_by_name(self.name)
            schema_editor.remove_constraint(model, constraint)
            schema_editor.execute(f"{constraint.create_sql(model, schema_editor)} NOT VALID", params=None)


REFUSE_ROWS = """DO $refuse_rows$
DECLARE
    offending bigint;
    shown text;
BEGIN
    SELECT count(*), string_agg(line, ', ') FILTER (WHERE place <= 10) INTO offending, shown
    FROM (SELECT row_number() OVER () AS place, row_to_json(broken)::text AS line FROM ({query}) AS broken) AS listed;
    IF offending > 0 THEN
        RAISE check_violation USING
            TABLE = '{table}', CONSTRAINT = '{rule}',
            MESSAGE = format('%s: %s %s: %s%s. List with: %s;',
                '{table}', CASE offending WHEN 1 THEN '1 row breaks' ELSE offending || ' rows break' END, '{rule}',
                shown, CASE WHEN offending > 10 THEN ', …' ELSE '' END, $query${query}$query$);
    END IF;
END
$refuse_rows$"""


class RefuseRows(Operation):
    """Go no further where rows of `table` break a rule to come: say how many, show ten of them and how to list all.

    `where` is the condition of a row that breaks it, `columns` are what shows which row it is, both in SQL. The rows
    are read before the locks of what follows are taken. Raises django.db.IntegrityError with the SQLSTATE 23514.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, table: str, rule: str, where: str, columns: str = "id"):
        self.table, self.rule, self.where, self.columns = table, rule, where, columns

    def deconstruct(self):
        return type(self).__name__, [], {name: getattr(self, name) for name in ("table", "rule", "where", "columns")}

    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if placement.lives(schema_editor.connection.alias, self.table):
            schema_editor.execute(self._sql(), params=None)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        pass

    def _sql(self) -> str:
        query = f"SELECT {self.columns} FROM {self.table} WHERE {self.where}"  # noqa: S608 the migration's own words
        return REFUSE_ROWS.format(table=self.table, rule=self.rule, query=query)

    def describe(self) -> str:
        return f"Refuse rows of {self.table} that break {self.rule}"


class AddPartitionedIndexConcurrently(postgres.AddIndexConcurrently):
    """Build an index of a partitioned table, partition by partition, while its users go on; `atomic = False`.

    The index of the table alone comes first, invalid: from then on every partition that is made or attached brings its
    own. Each partition that was there gets one CONCURRENTLY, which is then attached; with the last one the index of
    the table is valid. Locks that stop writers (SHARE on the table, ACCESS EXCLUSIVE on an index that is attached) are
    held for a change of the catalogue, and waited for as long as migrate's lock_timeout.
    https://www.postgresql.org/docs/current/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-MAINTENANCE

    Interrupted, it goes on behind the partitions that have theirs; migrate drops an invalid one and builds it anew.
    Raises ValueError for an index of other things than columns: the indexes of the partitions get the names that
    PostgreSQL would give, and those of expressions are not known beforehand.
    """

    def __init__(self, model_name: str, index: Index):
        super().__init__(model_name, index)
        _column_fields(index)

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        self._ensure_not_in_transaction(schema_editor)
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            _build_partition_by_partition(self.index, model, schema_editor)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        self._ensure_not_in_transaction(schema_editor)
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            _drop_with_partitions(self.index.name, schema_editor)

    def describe(self) -> str:
        return _built(self.index.name)

    def describe_backwards(self) -> str:
        return _dropped(self.index.name)


class RemovePartitionedIndexConcurrently(postgres.RemoveIndexConcurrently):
    """Drop an index of a partitioned table; the way back is AddPartitionedIndexConcurrently's way there.

    PostgreSQL drops it in one transaction, CONCURRENTLY or not: it takes ACCESS EXCLUSIVE on the table and all of its
    partitions, for a change of the catalogue, and waits for it as long as migrate's lock_timeout.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        self._ensure_not_in_transaction(schema_editor)
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            _drop_with_partitions(self.name, schema_editor)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        self._ensure_not_in_transaction(schema_editor)
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            index = to_state.models[app_label, self.model_name_lower].get_index_by_name(self.name)
            _build_partition_by_partition(index, model, schema_editor)

    def describe(self) -> str:
        return _dropped(self.name)

    def describe_backwards(self) -> str:
        return _built(self.name)


# Operations whose statements are not the same on every database: they follow from the partitions that are there.
OF_PARTITIONS = (AddPartitionedIndexConcurrently, RemovePartitionedIndexConcurrently)

INDEX_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"
PARTITIONS_WITHOUT_INDEX = """
    SELECT relname FROM pg_inherits AS part JOIN pg_class ON pg_class.oid = part.inhrelid
    WHERE part.inhparent = to_regclass(%s) AND NOT EXISTS (
        SELECT FROM pg_index JOIN pg_inherits AS piece ON piece.inhrelid = indexrelid
        WHERE indrelid = part.inhrelid AND piece.inhparent = to_regclass(%s)
    )
    ORDER BY relname
"""


def _build_partition_by_partition(index: Index, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> None:
    quote = schema_editor.quote_name
    table, name = quote(model._meta.db_table), quote(index.name)
    of_the_table = index.create_sql(
        model, schema_editor, sql=schema_editor.sql_create_index.replace(" ON ", " ON ONLY ", 1)
    )
    if schema_editor.collect_sql:
        schema_editor.execute(of_the_table, params=None)
        schema_editor.collected_sql.append(
            f"-- and for each partition CREATE INDEX CONCURRENTLY, and ALTER INDEX {name} ATTACH PARTITION"
        )
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(INDEX_EXISTS, [name])
        (exists,) = cursor.fetchone()
        if not exists:
            schema_editor.execute(of_the_table, params=None)
        cursor.execute(PARTITIONS_WITHOUT_INDEX, [table, name])
        partitions = [partition for (partition,) in cursor.fetchall()]
    columns = "_".join(model._meta.get_field(field).column for field in _column_fields(index))
    for partition in partitions:
        # As PostgreSQL names the index of a partition that is made or attached.
        piece = quote(with_ending(partition, f"_{columns}_idx"))
        of_the_partition = index.create_sql(model, schema_editor, concurrently=True)
        of_the_partition.parts.update(table=quote(partition), name=piece)
        schema_editor.execute(of_the_partition, params=None)
        schema_editor.execute(f"ALTER INDEX {name} ATTACH PARTITION {piece}", params=None)


def _drop_with_partitions(name: str, schema_editor: BaseDatabaseSchemaEditor) -> None:
    schema_editor.execute(f"DROP INDEX IF EXISTS {schema_editor.quote_name(name)}", params=None)


def _built(name: str) -> str:
    return f"Build {name} partition by partition"


def _dropped(name: str) -> str:
    return f"Drop {name} with those of the partitions"


def _column_fields(index: Index) -> list[str]:
    """The names of the fields that an index is of. Raises ValueError where it is of other things."""
    keys = [key.expression if isinstance(key, OrderBy) else key for key in index.expressions]
    if not all(type(key) is F for key in keys):
        raise ValueError(f"{index.name} is no index of columns alone. Build it by SQL, partition by partition.")
    return [*index.fields, *(key.name for key in keys), *index.include]


def with_nested(operations: Iterable[Operation]) -> Iterator[Operation]:
    """The operations, and those that SeparateDatabaseAndState runs, however deep."""
    for operation in operations:
        yield operation
        if isinstance(operation, SeparateDatabaseAndState):
            yield from with_nested(operation.database_operations)
