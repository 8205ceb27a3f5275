"""The two committed files: the catalogue as the newest version has it, and what each migration adds to it and takes.

From the second one follows the catalogue of a database where some migrations are not applied.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.state import ProjectState

from keyhub.dbhealth import catalogue
from keyhub.dbhealth.catalogue import CatalogueError, CatalogueObject, Key, Objects
from keyhub.dbversion import version_list
from keyhub.lockledger.scratch import scratch_database
from keyhub.migrate.executor import LockPolicy, SafeMigrationExecutor

RUNNER = "migrate itself"
HEADER = """\
# What each migration adds to the catalogue (+), and takes from it (-). Written by manage.py dbhealth --write-catalogue.
"""

# By migration ("tenancy.0003_groups"): the lines that it adds, each in place of one of the same object, or takes.
Steps = dict[str, tuple[list[CatalogueObject], list[CatalogueObject]]]


def catalogue_path() -> Path:
    return Path(getattr(settings, "CATALOGUE", settings.BASE_DIR / "keyhub" / "catalogue.txt"))


def steps_path() -> Path:
    path = catalogue_path()
    return path.with_name(f"{path.stem}_steps{path.suffix}")


def read_newest() -> Objects:
    """The catalogue of the newest version. Raises CatalogueError."""
    path = catalogue_path()
    lines = enumerate(catalogue.text_of(path).splitlines(), start=1)
    items = (catalogue.parse_line(line, f"line {number} of {path.name}") for number, line in lines)
    return {item.key: item for item in items}


def read_at(applied: Iterable[str], keeps: Callable[[str, CatalogueObject], bool] | None = None) -> Objects:
    """The catalogue where only these migrations are applied, without the objects of theirs that a database lacks.

    `keeps` is asked with the migration and what it adds. Raises CatalogueError.
    """
    applied = {RUNNER, *applied}
    objects: Objects = {}
    for migration, (added, taken) in _read_steps().items():
        if migration in applied:
            for item in taken:
                objects.pop(item.key, None)
            objects.update({item.key: item for item in added if keeps is None or keeps(migration, item)})
    return objects


def unlisted(migrations: Iterable[tuple[str, str]]) -> list[str]:
    """Those of the code's migrations that the catalogue does not know. Raises CatalogueError."""
    listed = set(catalogue.text_of(steps_path()).splitlines())
    return sorted({".".join(key) for key in migrations} - listed)


def makers(migrations: Iterable[str]) -> dict[Key, str]:
    """Which of some migrations makes an object, or gives it another form. Raises CatalogueError."""
    steps = _read_steps() if migrations else {}
    return {item.key: migration for migration in migrations if migration in steps for item in steps[migration][0]}


def _read_steps() -> Steps:
    path = steps_path()
    steps: Steps = {}
    added = taken = None
    for number, line in enumerate(catalogue.text_of(path).splitlines(), start=1):
        where = f"line {number} of {path.name}"
        sign, rest = line.strip()[:2], line.strip()[2:]
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            added, taken = steps.setdefault(line, ([], []))
        elif added is not None and sign == "+ ":
            added.append(catalogue.parse_line(rest, where))
        elif taken is not None and sign == "- ":
            taken.append(catalogue.parse_line(rest, where))
        else:
            raise CatalogueError(f"{where} begins with neither + nor -: {line!r}. Take the line from the repository.")
    return steps


def write(alias: str) -> None:
    """Write both files, from a run of all migrations in a scratch database beside the one of `alias`.

    Raises CatalogueError, and what migrate and the scratch database raise.
    """
    newest, steps = _measure(alias)
    _write(catalogue_path(), catalogue.render(newest.values()))
    _write(steps_path(), _rendered(steps))


def _write(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _rendered(steps: Steps) -> str:
    lines = []
    for migration, (added, taken) in steps.items():
        lines.append(migration)
        lines += [f"    - {line}" for line in catalogue.render(taken).splitlines()]
        lines += [f"    + {line}" for line in catalogue.render(added).splitlines()]
    return HEADER + "".join(f"{line}\n" for line in lines)


def _measure(alias: str) -> tuple[Objects, Steps]:
    connection = connections[alias]
    with scratch_database(connection):
        executor = SafeMigrationExecutor(
            connection, policy=LockPolicy(), tell=lambda _: None, versions=version_list.read()
        )
        executor.history.ensure_table()
        before = _read_templated(connection)
        steps = {RUNNER: (list(before.values()), [])}
        state = ProjectState(real_apps=executor.loader.unmigrated_apps)
        for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes()):
            state = executor.migrate(None, [(migration, False)], state)
            after = _read_templated(connection)
            added = [item for key, item in after.items() if before.get(key) != item]
            taken = [item for key, item in before.items() if key not in after]
            steps[str(migration)] = added, taken
            before = after
    return before, steps


def _read_templated(connection: BaseDatabaseWrapper) -> Objects:
    with transaction.atomic(using=connection.alias):
        return catalogue.templated(catalogue.read(connection))
