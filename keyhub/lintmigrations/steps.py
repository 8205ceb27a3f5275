"""A step of the schema's history: a migration, or an SQL file."""

from dataclasses import dataclass, field
from pathlib import Path

from django.db.migrations.operations import RunPython

from keyhub.lintmigrations.allowances import Allowance
from keyhub.lintmigrations.findings import Complaint, Place
from keyhub.lintmigrations.python_source import PythonSource
from keyhub.lintmigrations.statements import Statement


@dataclass
class Step:
    name: str
    """`tenancy.0009_memberships_by_role`, or the name of the file."""
    title: str
    """How messages call it: `tenancy 0009`, or the name of the file."""
    path: Path
    atomic: bool
    up: list[Statement] = field(default_factory=list)
    down: list[Statement] = field(default_factory=list)
    source: PythonSource | None = None
    python: list[tuple[RunPython, Place]] = field(default_factory=list)
    """Operations that run Python, which is there to write rows."""
    dead_ends: list[Complaint] = field(default_factory=list)
    """What cannot be undone."""
    columns_before: dict[str, set[str]] = field(default_factory=dict)
    """By table, the columns that the models had before it: the code that runs while it is applied uses them."""
    allowances: list[Allowance] = field(default_factory=list)
    django_tables: set[str] = field(default_factory=set)
    """Tables whose indexes are Django's choice: those of many-to-many fields."""
