"""The code that runs while a step is applied is the last release: what it uses stays, and what is new asks nothing."""

from collections.abc import Iterator

from keyhub.lintmigrations import actions
from keyhub.lintmigrations.findings import Complaint
from keyhub.lintmigrations.rules.registry import Scene, on_statement, on_step
from keyhub.lintmigrations.statements import Statement


@on_step("keyhub.M014")
def required_column(scene: Scene) -> Iterator[Complaint]:
    """Django gives a default and takes it away: https://docs.djangoproject.com/en/5.2/ref/models/fields/#db-default"""
    required: dict[tuple[str, str], tuple[Statement, actions.AddColumn]] = {}
    without_default: dict[tuple[str, str], str] = {}
    for statement in scene.step.up:
        for action in statement.actions:
            if isinstance(action, actions.AddColumn) and scene.existed(action.table):
                column = action.column
                if column.not_null and not column.filled:
                    required[action.table, column.name] = statement, action
                    if not column.default:
                        without_default[action.table, column.name] = (
                            "without a default: that fails where {} has rows, and"
                        )
            elif isinstance(action, actions.SetDefault):
                key = action.table, action.column
                without_default.pop(key, None)
                if not action.default:
                    without_default[key] = "and takes its default away again:"
    for key, (statement, action) in required.items():
        if key in without_default:
            table, column = key
            yield Complaint(
                statement.place_at(action.column.offset),
                f"{scene.title} adds {table}.{column} NOT NULL {without_default[key].format(table)} the last release, "
                "which does not know the column, cannot insert any more.",
                "Give the field a db_default=…."
                if statement.operation
                else f"ALTER TABLE {table} ADD COLUMN {column} {action.column.type} NOT NULL DEFAULT …;",
            )


@on_statement("keyhub.M015")
def column_taken_away(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """Django names every column of a model in every SELECT, and so does the release that is running.

    https://docs.djangoproject.com/en/5.2/ref/migration-operations/#separatedatabaseandstate
    """
    for action in statement.actions:
        if not isinstance(action, actions.DropColumn | actions.RenameColumn) or not scene.existed(action.table):
            continue
        reason = _used(scene, action.table, action.column)
        if reason and isinstance(action, actions.DropColumn):
            yield Complaint(
                statement.place,
                f"{scene.title} drops {action.table}.{action.column}, but {reason}.",
                "Release the code without it first, in a migration with SeparateDatabaseAndState(state_operations="
                f"[RemoveField(…)]), and drop it in a version after that release:\nALTER TABLE {action.table} DROP "
                f"COLUMN {action.column};",
            )
        elif reason:
            yield Complaint(
                statement.place,
                f"{scene.title} renames {action.table}.{action.column}, but {reason}.",
                f"Keep the column and rename the field alone, with db_column={action.column!r}.",
            )


@on_statement("keyhub.M016")
def table_taken_away(statement: Statement, scene: Scene) -> Iterator[Complaint]:
    """https://docs.djangoproject.com/en/5.2/ref/migration-operations/#separatedatabaseandstate"""
    for action in statement.actions:
        match action:
            case actions.DropTable(tables=tables):
                verb = "drops"
            case actions.RenameTable(table=table):
                verb, tables = "renames", (table,)
            case _:
                continue
        for table in tables:
            reason = _used(scene, table) if scene.existed(table) else ""
            mend = (
                "Release the code without it first, in a migration with SeparateDatabaseAndState(state_operations="
                f"[DeleteModel(…)]), and drop it in a version after that release:\nDROP TABLE {table};"
                if verb == "drops"
                else f"Keep the table and rename the model alone, with db_table = {table!r}."
            )
            if reason:
                yield Complaint(statement.place, f"{scene.title} {verb} {table}, but {reason}.", mend)


def _used(scene: Scene, table: str, column: str = "") -> str:
    """Say who uses a table or a column: the models before the step, or those in the code of today."""
    before = scene.step.columns_before.get(table)
    if before is not None and (not column or column in before):
        return "the release before it still uses it while this runs"
    live = scene.history.live_columns.get(table)
    if live is not None and (not column or column in live) and not _comes_again(scene, table, column):
        return "a model in the code still has it"
    return ""


def _comes_again(scene: Scene, table: str, column: str) -> bool:
    for step in scene.history.steps[scene.moment + 1 :]:
        for statement in step.up:
            for action in statement.actions:
                match action:
                    case actions.CreateTable(table=name) | actions.RenameTable(new=name) if name == table:
                        return True
                    case actions.AddColumn(table=name, column=added) if (name, added.name) == (table, column):
                        return True
                    case actions.RenameColumn(table=name, new=new) if (name, new) == (table, column):
                        return True
    return False
