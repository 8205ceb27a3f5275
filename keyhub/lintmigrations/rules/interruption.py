"""What an interrupted migration leaves behind, who takes it for whole, and what a rerun trips over."""

import re
from collections.abc import Iterator

from django.db.migrations.operations import RunPython

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.findings import Complaint
from keyhub.lintmigrations.rules.registry import Scene, on_statement
from keyhub.lintmigrations.statements import Statement
from keyhub.migration_operations import OF_PARTITIONS


@on_statement("keyhub.M017", also_down=True)
def concurrently_refused(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY"""
    concurrent = [action for action in statement.actions if getattr(action, "concurrently", False)]
    if scene.step.atomic and (concurrent or isinstance(statement.operation, OF_PARTITIONS)):
        yield Complaint(
            statement.place,
            f"{scene.title} runs {statement.head!r} in a transaction, where PostgreSQL refuses CONCURRENTLY.",
            "Give the statement a file of its own: several are sent as one transaction."
            if scene.step.source is None
            else "Set atomic = False in the migration.",
        )
    for action in concurrent:
        if isinstance(action, actions.CreateIndex) and scene.catalogue.table(action.table).partition_key is not None:
            yield Complaint(
                statement.place,
                f"{scene.title} runs {statement.head!r}, but {action.table} is partitioned, and PostgreSQL builds "
                "CONCURRENTLY on the partitions alone.",
                on_partitions(action),
            )


def on_partitions(action: actions.CreateIndex) -> str:
    """How a partitioned table in use gets an index."""
    unique = "UNIQUE " if action.unique else ""
    keys, index, table = ", ".join(action.keys), action.index or f"idx_{action.table}", action.table
    return (
        f"CREATE {unique}INDEX {index} ON ONLY {table} ({keys});\n"
        "-- and for each partition, in a migration with atomic = False:\n"
        f"CREATE {unique}INDEX CONCURRENTLY {index}_p ON partition ({keys});\n"
        f"ALTER INDEX {index} ATTACH PARTITION {index}_p;"
    )


@on_statement("keyhub.M018", also_down=True)
def if_not_exists(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """A build that was interrupted leaves an invalid index, which IF NOT EXISTS takes for the one it wants.

    https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
    """
    for action in statement.actions:
        match action:
            case actions.CreateTable(if_not_exists=True, table=name):
                what = f"the table {name}"
            case actions.CreateIndex(if_not_exists=True, index=name):
                what = f"the index {name}"
            case actions.AddColumn(if_not_exists=True, table=table, column=column):
                what = f"the column {table}.{column.name}"
            case _:
                continue
        plain = re.sub(r"(?i)\s+IF\s+NOT\s+EXISTS\b", "", statement.text)
        yield Complaint(
            statement.place,
            f"{scene.title} makes {what} only IF NOT EXISTS: what stands there under that name, of another form or an "
            "invalid index, is taken for it in silence.",
            f"{plain};" if len(plain) < 200 else "Leave IF NOT EXISTS out.",
        )


@on_statement("keyhub.M036", also_down=True)
def not_repeatable_outside_a_transaction(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """What is done and not recorded is done again: https://docs.djangoproject.com/en/5.2/howto/writing-migrations/"""
    if scene.step.atomic or scene.step.source is None:
        return
    for action in statement.actions:
        if not _is_repeatable(action, statement):
            yield Complaint(
                statement.place,
                f"{scene.title} runs {statement.head!r} outside a transaction: killed before it is recorded, it fails "
                "or is done twice when it is run again.",
                _repeatable(action, statement),
            )
            return


def _is_repeatable(action: actions.Action, statement: Statement) -> bool:
    if isinstance(statement.operation, OF_PARTITIONS):
        return True  # it passes over what it has done
    match action:
        case actions.CreateIndex(concurrently=True):
            return bool(action.index)  # by its name migrate knows it again
        case actions.DropIndex(concurrently=True, if_exists=True) | actions.Reindex(concurrently=True):
            return True
        case actions.ValidateConstraint():
            return True
        case actions.WriteRows():
            # Old rows in batches are written outside a transaction, by a function that passes over those it has done.
            return isinstance(statement.operation, RunPython)
        case actions.OtherChange():
            words = [token.word for token in statement.tokens]
            return words[:2] == ["ALTER", "INDEX"] and words[-3:-1] == ["ATTACH", "PARTITION"]
    return False


def _repeatable(action: actions.Action, statement: Statement) -> str:
    match action:
        case actions.CreateIndex(concurrently=True):
            name = "_".join(["idx", action.table, *re.findall(r"\w+", " ".join(action.keys))])
            return re.sub(r"(?i)\bCONCURRENTLY\b", rf"\g<0> {name}", statement.text, count=1) + ";"
        case actions.DropIndex(concurrently=True):
            return re.sub(r"(?i)\bCONCURRENTLY\b", r"\g<0> IF EXISTS", statement.text, count=1) + ";"
        case actions.DetachPartition(concurrently=True):
            return f"Without atomic = False:\nALTER TABLE {action.table} DETACH PARTITION {action.partition};"
    return "Move it into a migration of its own without atomic = False."
