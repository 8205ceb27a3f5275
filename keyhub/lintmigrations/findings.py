"""What the linter tells."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class LintError(Exception):
    """Something cannot be read, so nothing can be said of it; the text is one sentence for people."""


class Place(NamedTuple):
    path: Path
    line: int


class Complaint(NamedTuple):
    """What a rule says: where, what and why in one sentence, and what to do, ready to be pasted."""

    place: Place
    problem: str
    mend: str


@dataclass(frozen=True)
class Finding:
    """A complaint with the id of its rule and the migration that it is about."""

    id: str
    migration: str
    place: Place
    problem: str
    mend: str
