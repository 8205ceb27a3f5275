"""The allow-list: findings that are let pass, each with a reason and until a date.

[[allow]]
id = "keyhub.H015"
object = "table users to metabase"
reason = "the data team reads it until the export runs (ticket 1234)"
expires = 2027-03-31
"""

import dataclasses
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from keyhub.dbhealth.findings import Allowed, Report

FILE_NAME = "dbhealth.toml"  # beside manage.py
WANTED = {"id": str, "object": str, "reason": str, "expires": date}


class AllowListError(Exception):
    """The allow-list cannot be used; the text is one sentence for people."""


@dataclass(frozen=True)
class Allowance:
    id: str
    object: str
    reason: str
    expires: date


def read(path: Path, known_ids: Iterable[str]) -> list[Allowance]:
    """Read an allow-list. Raises AllowListError, which names the file and the entry."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AllowListError(f"the allow-list {path} cannot be read: {reason}. Correct it, or name another.") from error
    entries = document.get("allow", [])
    if set(document) - {"allow"} or not isinstance(entries, list):
        raise AllowListError(f"the allow-list {path} may hold [[allow]] entries alone. Take the rest out.")
    return [_allowance(path, number, entry, set(known_ids)) for number, entry in enumerate(entries, start=1)]


def _allowance(path: Path, number: int, entry: dict, known_ids: set[str]) -> Allowance:
    where = f"entry {number} of the allow-list {path}"
    if set(entry) != set(WANTED):
        raise AllowListError(f"{where} must have id, object, reason and expires, and nothing else. Correct it.")
    for name, kind in WANTED.items():
        # A datetime is a date to isinstance(), and is compared with none.
        if type(entry[name]) is not kind or not entry[name]:
            example = "a date such as 2027-03-31" if kind is date else "a text between quotes"
            raise AllowListError(f"{where}: {name} must be {example}. Correct it.")
    if entry["id"] not in known_ids:
        raise AllowListError(f"{where}: there is no check {entry['id']}. docs/operations/dbhealth.md lists them.")
    return Allowance(**entry)


def apply(report: Report, allowances: list[Allowance], today: date) -> None:
    """Move what is allowed out of the report's findings; one whose time is over says so."""
    of_object = {(allowance.id, allowance.object): allowance for allowance in allowances}
    kept = []
    for finding in report.findings:
        allowance = of_object.get((finding.id, finding.object))
        if allowance is None:
            kept.append(finding)
        elif allowance.expires >= today:
            report.allowed.append(Allowed(finding, allowance.reason, allowance.expires.isoformat()))
        else:
            over = f"{finding.problem} (allowed until {allowance.expires}: {allowance.reason})"
            kept.append(dataclasses.replace(finding, problem=over))
    report.findings = kept
