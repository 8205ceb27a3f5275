"""What a statement does, as far as a rule asks about it. Names are as PostgreSQL folds them, without their schema."""

from dataclasses import dataclass
from typing import NamedTuple

from keyhub.lintmigrations.tokens import Token


class Constraint(NamedTuple):
    """A constraint of a table or a column."""

    kind: str
    """primary key, unique, check, foreign key, exclude or not null."""
    columns: tuple[str, ...] = ()
    name: str | None = None
    expression: str = ""
    references: str = ""
    referenced_columns: tuple[str, ...] = ()
    on_delete: str = ""
    not_valid: bool = False
    using_index: str | None = None
    offset: int = 0


class Column(NamedTuple):
    name: str
    type: str
    not_null: bool = False
    default: tuple[Token, ...] = ()
    filled: str = ""
    """How PostgreSQL fills it by itself: `GENERATED … STORED`, `IDENTITY` or a serial type."""
    constraints: tuple[Constraint, ...] = ()
    offset: int = 0


class Bounds(NamedTuple):
    """The values that a partition takes."""

    is_default: bool = False
    is_range: bool = False
    literals: tuple[str, ...] = ()


class CreateTable(NamedTuple):
    table: str
    columns: tuple[Column, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    if_not_exists: bool = False
    temporary: bool = False
    partition_key: tuple[str, ...] | None = None
    partition_of: str | None = None
    bounds: Bounds = Bounds()
    copies: bool = False
    """Columns come from LIKE, INHERITS or a query, so not all of them are known."""
    from_query: bool = False


class CreateIndex(NamedTuple):
    index: str
    table: str
    keys: tuple[str, ...]
    unique: bool = False
    concurrently: bool = False
    if_not_exists: bool = False
    method: str = "btree"
    only: bool = False
    """Of a partitioned table the table alone, without its partitions."""
    predicate: tuple[Token, ...] = ()
    expressions: tuple[Token, ...] = ()


class DropIndex(NamedTuple):
    indexes: tuple[str, ...]
    concurrently: bool = False
    if_exists: bool = False


class Reindex(NamedTuple):
    concurrently: bool = False


class DropTable(NamedTuple):
    tables: tuple[str, ...]


class AddColumn(NamedTuple):
    table: str
    column: Column
    if_not_exists: bool = False


class DropColumn(NamedTuple):
    table: str
    column: str


class RenameColumn(NamedTuple):
    table: str
    column: str
    new: str


class RenameTable(NamedTuple):
    table: str
    new: str


class AlterType(NamedTuple):
    table: str
    column: str
    type: str


class SetNotNull(NamedTuple):
    table: str
    column: str


class DropNotNull(NamedTuple):
    table: str
    column: str


class SetDefault(NamedTuple):
    """A column's new default; without tokens, DROP DEFAULT."""

    table: str
    column: str
    default: tuple[Token, ...] = ()


class AddConstraint(NamedTuple):
    table: str
    constraint: Constraint


class ValidateConstraint(NamedTuple):
    table: str
    name: str


class DropConstraint(NamedTuple):
    table: str
    name: str


class RewriteTable(NamedTuple):
    table: str
    how: str


class AttachPartition(NamedTuple):
    table: str
    partition: str
    bounds: Bounds


class DetachPartition(NamedTuple):
    table: str
    partition: str
    concurrently: bool = False


class CreateExtension(NamedTuple):
    extension: str


class CreateFunction(NamedTuple):
    function: str
    body: str


class CreateTrigger(NamedTuple):
    trigger: str
    table: str
    function: str
    events: frozenset[str]
    has_condition: bool


class WriteRows(NamedTuple):
    """INSERT, UPDATE, DELETE, MERGE, COPY … FROM or TRUNCATE."""

    verb: str
    table: str
    mentions: frozenset[str]
    is_repeatable: bool = True


@dataclass(frozen=True)
class OtherChange:
    """A change of the schema that no rule asks about."""


Action = (
    CreateTable | CreateIndex | DropIndex | Reindex | DropTable | AddColumn | DropColumn | RenameColumn | RenameTable
    | AlterType | SetNotNull | DropNotNull | SetDefault | AddConstraint | ValidateConstraint | DropConstraint
    | RewriteTable | AttachPartition | DetachPartition | CreateExtension | CreateFunction | CreateTrigger | WriteRows
    | OtherChange
)  # fmt: skip
