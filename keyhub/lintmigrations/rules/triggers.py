"""updated_at: the column, and the trigger that moves it."""

from collections.abc import Iterator

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.findings import Complaint
from keyhub.lintmigrations.rules.registry import History, Scene, on_history, on_statement, on_step
from keyhub.lintmigrations.statements import Statement


@on_step("keyhub.M021")
def trigger_without_column(scene: Scene) -> Iterator[Complaint]:
    """NEW has the table's columns, and no others: https://www.postgresql.org/docs/current/plpgsql-trigger.html"""
    for statement, action in _triggers(scene.step.up):
        table = scene.catalogue.table(action.table)
        moves = scene.catalogue.moves_updated_at(action.function)
        if moves and table.is_whole and "updated_at" not in table.columns:
            yield Complaint(
                statement.place,
                f"{scene.title} lets {action.trigger} set updated_at, but {action.table} has no such column: every "
                f"UPDATE of {action.table} fails.",
                f"ALTER TABLE {action.table} ADD COLUMN updated_at timestamptz NOT NULL DEFAULT statement_timestamp();",
            )


def _triggers(statements: list[Statement]) -> Iterator[tuple[Statement, actions.CreateTrigger]]:
    for statement in statements:
        for action in statement.actions:
            if isinstance(action, actions.CreateTrigger):
                yield statement, action


@on_history("keyhub.M033")
def updated_at_without_trigger(history: History) -> Iterator[tuple[int, Complaint]]:
    """The column says that it moves, also for writers that know nothing of it."""
    for table in history.catalogue.tables.values():
        column = table.columns.get("updated_at")
        if column is None or column.place is None or table.partition_of:
            continue
        if any(history.catalogue.moves_updated_at(trigger.function) for trigger in table.triggers.values()):
            continue
        yield (
            column.born,
            Complaint(
                column.place,
                f"{history.title(column.born)} gives {table.name} an updated_at that no trigger moves.",
                f"CREATE TRIGGER update_{table.name}_updated_at BEFORE UPDATE ON {table.name}\n"
                "    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION update_updated_at_column();",
            ),
        )


@on_statement("keyhub.M034")
def updated_at_without_a_change(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """WHEN spares the call where nothing changed: https://www.postgresql.org/docs/current/sql-createtrigger.html"""
    for _, action in _triggers([statement]):
        moves = scene.catalogue.moves_updated_at(action.function)
        if moves and "UPDATE" in action.events and not action.has_condition:
            yield Complaint(
                statement.place,
                f"{scene.title} lets {action.trigger} move updated_at on every UPDATE of {action.table}, also on one "
                "that changes nothing.",
                "Put WHEN (OLD.* IS DISTINCT FROM NEW.*) between FOR EACH ROW and EXECUTE.",
            )
