"""The tables as the statements read so far have left them. A table that nothing has made yet was there before."""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.actions import Action, Column, Constraint
from keyhub.lintmigrations.findings import Place
from keyhub.lintmigrations.statements import Statement

BEFORE_EVERYTHING = -1


@dataclass
class KnownColumn:
    type: str = ""
    born: int = BEFORE_EVERYTHING
    place: Place | None = None


@dataclass(frozen=True)
class Index:
    """An index, or a constraint that is kept by one."""

    name: str
    keys: tuple[str, ...]
    unique: bool
    predicate: str
    method: str
    place: Place
    moment: int


@dataclass(frozen=True)
class ForeignKey:
    name: str | None
    columns: tuple[str, ...]
    references: str
    on_delete: str
    place: Place
    moment: int


@dataclass
class Table:
    name: str
    born: int = BEFORE_EVERYTHING
    place: Place | None = None
    is_whole: bool = False
    """Every column is known."""
    columns: dict[str, KnownColumn] = field(default_factory=dict)
    indexes: list[Index] = field(default_factory=list)
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    checks: dict[str, str] = field(default_factory=dict)
    not_valid: dict[str, int] = field(default_factory=dict)
    """Constraints that are not validated yet, with the moment in which they were added."""
    partition_key: tuple[str, ...] | None = None
    partition_of: str | None = None
    partitions: list[str] = field(default_factory=list)
    has_default_partition: bool = False
    triggers: dict[str, actions.CreateTrigger] = field(default_factory=dict)


class Catalogue:
    """`moment` counts the migrations; what has the moment of now was made by the one that is being read."""

    def __init__(self):
        self.tables: dict[str, Table] = {}
        self.functions: dict[str, str] = {}

    def table(self, name: str) -> Table:
        """What is known of a table, which may be nothing."""
        return self.tables.get(name) or Table(name)

    def _table(self, name: str) -> Table:
        return self.tables.setdefault(name, Table(name))

    def copy(self) -> "Catalogue":
        other = Catalogue()
        other.functions = dict(self.functions)
        for name, table in self.tables.items():
            other.tables[name] = copy(table)
            for attribute, value in vars(table).items():
                if isinstance(value, dict | list):
                    setattr(other.tables[name], attribute, copy(value))
        return other

    def moves_updated_at(self, function: str) -> bool:
        """Say whether a trigger function sets updated_at; one from before is judged by its name."""
        if function in self.functions:
            return "new.updated_at" in "".join(self.functions[function].lower().split())
        return "updated_at" in function

    def apply(self, statement: Statement, moment: int) -> None:
        for action in statement.actions:
            self._apply(action, statement, moment)

    def _apply(self, action: Action, statement: Statement, moment: int) -> None:
        match action:
            case actions.CreateTable():
                self._create_table(action, statement, moment)
            case actions.CreateIndex():
                index = Index(
                    action.index, action.keys, action.unique, _words(action.predicate), action.method,
                    statement.place, moment,
                )  # fmt: skip
                self._table(action.table).indexes.append(index)
            case actions.DropIndex():
                for table in self.tables.values():
                    table.indexes = [index for index in table.indexes if index.name not in action.indexes]
            case actions.DropTable():
                for name in action.tables:
                    self._forget(name)
            case actions.AddColumn():
                self._add_column(self._table(action.table), action.column, statement, moment)
            case actions.DropColumn():
                self._drop_column(self._table(action.table), action.column)
            case actions.RenameColumn():
                table = self._table(action.table)
                table.columns[action.new] = table.columns.pop(action.column, KnownColumn())
            case actions.RenameTable():
                table = self.tables.pop(action.table, None) or Table(action.table)
                table.name = action.new
                self.tables[action.new] = table
            case actions.AlterType():
                column = self._table(action.table).columns.setdefault(action.column, KnownColumn())
                column.type = action.type
            case actions.AddConstraint():
                self._add_constraint(self._table(action.table), action.constraint, statement, moment)
            case actions.ValidateConstraint():
                self._table(action.table).not_valid.pop(action.name, None)
            case actions.DropConstraint():
                self._drop_constraint(self._table(action.table), action.name)
            case actions.AttachPartition():
                self._attach(action.table, action.partition, action.bounds.is_default)
            case actions.DetachPartition():
                parent = self._table(action.table)
                parent.partitions = [name for name in parent.partitions if name != action.partition]
            case actions.CreateFunction():
                self.functions[action.function] = action.body
            case actions.CreateTrigger():
                self._table(action.table).triggers[action.trigger] = action

    def _create_table(self, action: actions.CreateTable, statement: Statement, moment: int) -> None:
        table = self.tables[action.table] = Table(action.table, moment, statement.place)
        table.is_whole = not (action.copies or action.partition_of)
        table.partition_key = action.partition_key
        if action.partition_of:
            self._attach(action.partition_of, action.table, action.bounds.is_default)
        for column in action.columns:
            self._add_column(table, column, statement, moment)
        for constraint in action.constraints:
            self._add_constraint(table, constraint, statement, moment)

    def _attach(self, parent: str, partition: str, is_default: bool) -> None:
        self._table(partition).partition_of = parent
        self._table(parent).partitions.append(partition)
        self._table(parent).has_default_partition |= is_default

    def _add_column(self, table: Table, column: Column, statement: Statement, moment: int) -> None:
        table.columns[column.name] = KnownColumn(column.type, moment, statement.place_at(column.offset))
        for constraint in column.constraints:
            self._add_constraint(table, constraint, statement, moment)

    def _add_constraint(self, table: Table, constraint: Constraint, statement: Statement, moment: int) -> None:
        place = statement.place_at(constraint.offset)
        name = constraint.name or ""
        if constraint.kind == "foreign key":
            table.foreign_keys.append(
                ForeignKey(
                    constraint.name, constraint.columns, constraint.references, constraint.on_delete, place, moment
                )
            )
        elif constraint.kind == "check" and name:
            table.checks[name] = constraint.expression
        elif constraint.kind in ("primary key", "unique") and not constraint.using_index:
            table.indexes.append(Index(name, constraint.columns, True, "", "btree", place, moment))
        if constraint.not_valid and name:
            table.not_valid[name] = moment

    def _drop_constraint(self, table: Table, name: str) -> None:
        table.foreign_keys = [key for key in table.foreign_keys if key.name != name]
        table.indexes = [index for index in table.indexes if index.name != name]
        table.checks.pop(name, None)
        table.not_valid.pop(name, None)

    def _drop_column(self, table: Table, column: str) -> None:
        table.columns.pop(column, None)
        table.indexes = [index for index in table.indexes if column not in _first_words(index.keys)]
        table.foreign_keys = [key for key in table.foreign_keys if column not in key.columns]

    def _forget(self, name: str) -> None:
        gone = self.tables.pop(name, None)
        if gone and gone.partition_of in self.tables:
            parent = self.tables[gone.partition_of]
            parent.partitions = [partition for partition in parent.partitions if partition != name]
        for table in self.tables.values():
            table.foreign_keys = [key for key in table.foreign_keys if key.references != name]


def _words(tokens: Iterable) -> str:
    return " ".join(token.name for token in tokens)


def _first_words(keys: Iterable[str]) -> set[str]:
    return {key.split(" ")[0] for key in keys}
