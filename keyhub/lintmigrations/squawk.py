"""What squawk knows of PostgreSQL, asked with the transaction state told to it: https://squawkhq.com/docs/rules

The program comes with the development package squawk-cli. Without it the rules of this package are asked alone.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keyhub.lintmigrations.findings import Finding, LintError, Place
from keyhub.lintmigrations.steps import Step

PG_VERSION = "15"
TIMEOUT_S = 60

# Rules that are not told, each with its reason.
LEFT_OUT = {
    "adding-field-with-default": "is M012, which knows the tables made in the same step",
    "adding-foreign-key-constraint": "is M007; a key on a new column without a default reads no row",
    "adding-not-nullable-field": "is M011, which knows a validated CHECK of an earlier migration",
    "adding-required-field": "is M014, which also sees a default that is taken away again",
    "adding-serial-primary-key-field": "is M008 and M012",
    "ban-concurrent-index-creation-in-transaction": "is M017",
    "ban-drop-column": "is M015, which knows whether a model still has the column",
    "ban-drop-table": "is M016, which knows whether a model still has the table",
    "changing-column-type": "is M010, which knows the old type and lets text grow",
    "constraint-missing-not-valid": "is M007 and M009",
    "disallowed-unique-constraint": "is M008",
    "prefer-bigint-over-int": "counts and depths are bounded by CHECKs, and integer is the source design's type",
    "prefer-bigint-over-smallint": "as above",
    "prefer-robust-stmts": "asks for IF NOT EXISTS, which M018 refuses; migrate takes interrupted steps up again",
    "prefer-text-field": "Django's own tables have varchar, whose limit changes without a rewrite",
    "renaming-column": "is M015",
    "renaming-table": "is M016",
    "require-concurrent-index-creation": "is M006",
    "require-lock-timeout": "migrate sets lock_timeout for every statement, and tries again",
    "require-statement-timeout": "a statement that waits for nobody may take its time; migrate bounds the waiting",
    "require-table-schema": "KeyHub lives in one schema, which search_path names",
    "require-timeout-settings": "an older name of the two timeouts",
    "unused-ignore": "squawk's own comments are not honoured here; see allowances",
}


def program() -> str | None:
    """The program, first beside this Python, then on the PATH."""
    return shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")


def findings(steps: list[Step], squawk: str) -> Iterator[Finding]:
    """Ask squawk about the way up of each step; its lines are told as those of the step's files."""
    for atomic in (True, False):
        asked = [step for step in steps if step.up and step.atomic is atomic]
        with tempfile.TemporaryDirectory(prefix="keyhub-lintmigrations-") as folder:
            for number, step in enumerate(asked):
                Path(folder, f"{number}.sql").write_text(_script(step), encoding="utf-8")
            for report in _reports(squawk, folder, len(asked), atomic):
                step = asked[int(Path(report["file"]).stem)]
                rule = report["rule_name"]
                if rule not in LEFT_OUT:
                    yield Finding(
                        f"squawk.{rule}",
                        step.name,
                        _place(step, report["line"]),
                        f"{step.title}: {_sentence(report['message'])}",
                        _sentence(report["help"]) if report["help"] else f"See https://squawkhq.com/docs/{rule}",
                    )


def _script(step: Step) -> str:
    return "".join(f"{statement.text};\n" for statement in step.up)


def _place(step: Step, line: int) -> Place:
    """The place of a line of the script, counted from 0."""
    for statement in step.up:
        height = statement.text.count("\n") + 1
        if line < height:
            if statement.operation:
                return statement.place
            return Place(statement.place.path, statement.place.line + line)
        line -= height
    return step.up[-1].place


def _reports(squawk: str, folder: str, count: int, atomic: bool) -> list[dict]:
    if not count:
        return []
    command = [
        squawk,
        "--reporter=json",
        f"--pg-version={PG_VERSION}",
        *(["--assume-in-transaction"] if atomic else []),
    ]
    files = [f"{number}.sql" for number in range(count)]
    try:
        result = subprocess.run(  # noqa: S603 the program of the package squawk-cli, on files written here
            [*command, *files], cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise LintError(f"squawk did not answer in {TIMEOUT_S} seconds.") from error
    except OSError as error:
        raise LintError(f"squawk cannot be run: {squawk}: {error.strerror}.") from error
    try:
        return json.loads(result.stdout)
    except ValueError as error:
        said = " ".join(result.stderr.split()) or f"it exits {result.returncode} and says nothing"
        raise LintError(f"squawk cannot be understood: {said}.") from error


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith(".") else f"{text}."
