"""SQL files given by name as steps, in the order of their names: the history of a project that has no Django."""

from collections.abc import Iterable
from pathlib import Path

from keyhub.lintmigrations.allowances import read_allowances
from keyhub.lintmigrations.findings import Complaint, LintError, Place
from keyhub.lintmigrations.statements import Statement, read_script
from keyhub.lintmigrations.steps import Step


def file_steps(paths: Iterable[Path]) -> list[Step]:
    """Read files; `X.down.sql` is the way back of `X.up.sql`. Raises LintError."""
    steps: dict[str, Step] = {}
    for path in sorted(paths, key=lambda path: (path.name, path)):
        if path.suffix != ".sql":
            raise LintError(f"{path} is no .sql file.")
        text = _text(path)
        statements = read_script(text, path)
        name = path.name.removesuffix(".sql")
        version = name.removesuffix(".up").removesuffix(".down")
        step = steps.setdefault(
            str(path.with_name(version)), Step(version, version, path, in_one_transaction(statements))
        )
        step.allowances += read_allowances(text, path)
        if name.endswith(".down"):
            step.down = statements
        else:
            step.path, step.up, step.atomic = path, statements, in_one_transaction(statements)
        if name.endswith(".up") and not path.with_name(f"{version}.down.sql").exists():
            step.dead_ends.append(
                Complaint(
                    statements[0].place if statements else Place(path, 1),
                    f"{version} has no way back: there is no {version}.down.sql.",
                    f"Write {path.with_name(f'{version}.down.sql')}, which undoes it.",
                )
            )
    return list(steps.values())


def in_one_transaction(statements: list[Statement]) -> bool:
    """Say whether a file that is sent as it is runs in one transaction: PostgreSQL makes one of several statements.

    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
    """
    return len(statements) > 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LintError(f"{path} does not exist.") from error
    except UnicodeDecodeError as error:
        raise LintError(f"{path} cannot be read: it is not UTF-8.") from error
    except OSError as error:
        raise LintError(f"{path} cannot be read: {error.strerror}.") from error
