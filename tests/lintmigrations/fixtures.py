"""Histories from the folders of tests/lintmigrations/rules: SQL files, or migrations of an app called shop."""

import importlib.util
import sys
from pathlib import Path

from django.db.migrations.migration import Migration
from django.db.migrations.state import ProjectState

from keyhub.lintmigrations.django_migrations import steps_of
from keyhub.lintmigrations.sql_files import file_steps
from keyhub.lintmigrations.steps import Step

RULES = Path(__file__).parent / "rules"


def history(folder: Path) -> list[Step]:
    """Read a folder, the current directory's names for SQL files."""
    migrations = sorted(folder.glob("*.py"))
    if not migrations:
        return file_steps(folder.glob("*.sql"))
    return list(steps_of((_migration(path) for path in migrations), ProjectState()))


def _migration(path: Path) -> Migration:
    name = f"shop.migrations.{path.parent.parent.name}.{path.parent.name}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    # What a fixture imports need not exist: it is read, not run.
    spec.loader.exec_module(module)
    return module.Migration(path.stem, "shop")
