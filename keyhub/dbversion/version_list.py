"""The committed list of versions: which migrations each one holds, in the order in which they run.

One version is a line `YYYYMMDDHHMMSS_description` and, indented below it, a line for each migration; those of our own
apps with the digest of what they say. New versions go to the end, so two branches that add one conflict in git.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db.migrations.graph import MigrationGraph

from keyhub.dbversion.digests import digest

MigrationKey = tuple[str, str]

_VERSION = re.compile(r"(\d{14})_([a-z0-9_]+)")
_MIGRATION = re.compile(r"\s+(\w+)\.(\w+)(?: ([0-9a-f]{64}))?")


class VersionListError(Exception):
    """The list, or a version asked for, is wrong; the text is one sentence for people."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with the list: what, how to mend it, and the id of the system check."""

    id: str
    message: str
    hint: str


@dataclass(frozen=True)
class Version:
    """A version: its place in the list from 1 on, and the migrations that it adds."""

    place: int
    number: str
    description: str
    digests: dict[MigrationKey, str | None] = field(default_factory=dict, hash=False)
    repeated: list[MigrationKey] = field(default_factory=list, hash=False)
    """Those of its migrations that it lists once more."""

    @property
    def migrations(self) -> list[MigrationKey]:
        return list(self.digests)

    def __str__(self) -> str:
        return f"{self.number}_{self.description}"


def default_path() -> Path:
    return Path(settings.VERSION_LIST)


def newest_whole(versions: Iterable[Version], applied: Iterable[MigrationKey]) -> Version | None:
    """The newest version that is applied with all before it; None where not even the first one is."""
    applied, newest = set(applied), None
    for version in versions:
        if not applied.issuperset(version.migrations):
            break
        newest = version
    return newest


def read(path: Path | None = None) -> list[Version]:
    """Read the list. Raises VersionListError, which names the file and the line."""
    path = path or default_path()
    versions: list[Version] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise VersionListError(f"the list of versions {path.name} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if match := _VERSION.fullmatch(line):
            versions.append(Version(len(versions) + 1, match[1], match[2]))
        elif versions and (match := _MIGRATION.fullmatch(line)):
            version, key = versions[-1], (match[1], match[2])
            if key in version.digests:
                version.repeated.append(key)
            version.digests[key] = match[3]
        else:
            raise VersionListError(
                f"line {number} of {path.name} is neither a version (YYYYMMDDHHMMSS_description) nor, indented below "
                f"one, a migration (app.name digest): {line.strip()!r}"
            )
    return versions


def find(versions: list[Version], text: str) -> Version:
    """Return the version that `text` names: whole, by its number, its description, or its place (`3`).

    Raises VersionListError where it names none or several.
    """
    named = [
        version
        for version in versions
        if text in (str(version), version.number, version.description, str(version.place))
    ]
    if len(named) == 1:
        return named[0]
    if named:
        raise VersionListError(f"{text} names {len(named)} versions. Give the number of one: {_names(named)}.")
    raise VersionListError(f"there is no version {text}. There are: {_names(versions)}.")


def _names(versions: Iterable[Version]) -> str:
    return ", ".join(str(version) for version in versions)


def is_own(app_label: str) -> bool:
    """Say whether an app is the project's: its migrations get a digest, those of packages are their makers' to edit."""
    path = apps.get_app_config(app_label).path
    return not {"site-packages", "dist-packages"} & set(Path(path).parts)


def problems(versions: list[Version], graph: MigrationGraph) -> list[Problem]:
    """What is wrong with the list: keyhub.E010 to E015."""
    found: list[Problem] = []
    for before, after in itertools.pairwise(versions):
        if after.number <= before.number:
            found.append(
                Problem(
                    "keyhub.E010",
                    f"The version {after} stands after {before}, but its number is not higher.",
                    "Give it a number of today: YYYYMMDDHHMMSS.",
                )
            )
    listed = [key for version in versions for key in version.migrations]
    position = {key: index for index, key in reversed(list(enumerate(listed)))}
    repeated = {key for version in versions for key in version.repeated}
    for key in sorted(repeated | {key for key in listed if listed.count(key) > 1}):
        found.append(Problem("keyhub.E011", f"{'.'.join(key)} is listed twice.", "Take one of the lines away."))
    for key in sorted(set(graph.nodes) - set(listed)):
        found.append(Problem("keyhub.E012", f"{'.'.join(key)} is in no version.", "Run manage.py dbversion --write."))
    for key in sorted(set(listed) - set(graph.nodes)):
        found.append(
            Problem("keyhub.E013", f"{'.'.join(key)} is listed, but there is no such migration.", "Take the line away.")
        )
    for key in sorted(set(listed) & set(graph.nodes)):
        for parent in sorted(graph.node_map[key].parents):
            if position.get(parent.key, -1) > position[key]:
                found.append(
                    Problem(
                        "keyhub.E014",
                        f"{'.'.join(key)} is listed before {'.'.join(parent.key)}, on which it depends.",
                        "Put their lines, or their versions, into the order in which they can run.",
                    )
                )
    for version in versions:
        for key, listed_digest in version.digests.items():
            if key in graph.nodes and is_own(key[0]) and digest(graph.nodes[key]) != listed_digest:
                found.append(
                    Problem(
                        "keyhub.E015",
                        f"{'.'.join(key)} does not say any more what it said when it was listed in {version}.",
                        "Take the edit back and write a new migration; if no database has run it yet, "
                        "manage.py dbversion --write.",
                    )
                )
    return found


def write(versions: list[Version], graph: MigrationGraph, path: Path | None = None) -> None:
    """Write the list, with the digests of today. The file is replaced in one step."""
    path = path or default_path()
    lines = []
    for version in versions:
        lines.append(str(version))
        for key in version.migrations:
            own = key in graph.nodes and is_own(key[0])
            lines.append(f"    {'.'.join(key)}" + (f" {digest(graph.nodes[key])}" if own else ""))
    unfinished = path.with_suffix(".new")
    unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
    unfinished.replace(path)


def with_unlisted(versions: list[Version], graph: MigrationGraph, number: str) -> list[Version]:
    """The list and, at its end, a version `number` of the migrations that are in no version yet, if there are any."""
    listed = {key for version in versions for key in version.migrations}
    missing = [key for leaf in sorted(graph.leaf_nodes()) for key in graph.forwards_plan(leaf) if key not in listed]
    missing = list(dict.fromkeys(missing))
    if not missing:
        return versions
    own = [name for app_label, name in missing if is_own(app_label)] or [name for _, name in missing]
    description = "_and_".join(dict.fromkeys(re.sub(r"^\d+_", "", name) for name in own))
    return [*versions, Version(len(versions) + 1, number, description, dict.fromkeys(missing))]
