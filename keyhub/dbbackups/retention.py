"""Which backups go: those older than so many days that are not the last of a day, week, month or year to be kept.

Proved ones come first: a period is kept by its newest proved backup, where it has one. Whatever the rules say, the
newest proved ones stay, and nothing goes that is not older than they are.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyhub.dbbackup import manifest
from keyhub.dbbackup.errors import BackupError
from keyhub.dbbackup.manifest import FILE, Folder, Manifest
from keyhub.store import Store

PERIODS: dict[str, Callable[[datetime], tuple]] = {
    "daily": lambda time: time.timetuple()[:3],
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: time.timetuple()[:2],
    "yearly": lambda time: time.timetuple()[:1],
}
# A backup that is still being made has no manifest yet, and none takes this long.
UNFINISHED_FOR = timedelta(days=1)


@dataclass(frozen=True)
class Rules:
    """How many days every backup is kept, how many periods keep their newest, and how many proved ones stay always."""

    days: int = 30
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    min_proved: int = 3


@dataclass
class Plan:
    """What is kept and why, what goes, and what unfinished runs have left behind; each newest first."""

    kept: list[tuple[Manifest, str]] = field(default_factory=list)
    going: list[Manifest] = field(default_factory=list)
    leftovers: list[Folder] = field(default_factory=list)
    damaged: list[Folder] = field(default_factory=list)


def plan(store: Store, database: str, system_identifier: str, rules: Rules, now: datetime) -> Plan:
    """Apply the rules to the backups of one database of one server; those of others are never looked at.

    Raises BackupError where too few are proved, or the last run left its backup unfinished.
    """
    found = list(manifest.survey(store, database, system_identifier))
    result = Plan()
    backups = [item for item in found if isinstance(item, Manifest)]
    for item in found:
        if isinstance(item, Folder):
            (result.damaged if item.has_manifest else result.leftovers).append(item)
    _refuse_after_failure(backups, result.leftovers)
    proved = [backup for backup in backups if backup.is_proved][: rules.min_proved]
    if len(proved) < rules.min_proved:
        raise BackupError(
            f"{len(proved)} backup{' is' if len(proved) == 1 else 's are'} proved, and {rules.min_proved} must be "
            "before one may go. Prove more: manage.py dbbackups prove BACKUP"
        )
    reasons = _reasons(backups, proved, rules, now)
    oldest_proved = min((backup.started_at for backup in proved), default=now)
    for backup in backups:
        reason = reasons.get(backup.backup)
        if reason is None and backup.started_at >= oldest_proved:
            reason = "newer than a proved one that stays"
        if reason is None:
            result.going.append(backup)
        else:
            result.kept.append((backup, reason))
    result.leftovers = [item for item in result.leftovers if _last_change(item) < now - UNFINISHED_FOR]
    return result


def carry_out(store: Store, plan: Plan, tell: Callable[[str], None] = lambda name: None) -> None:
    """Delete what goes, each manifest first: what is left of a backup that was begun to be deleted is none any more.

    Raises BackupError.
    """
    for backup in reversed(plan.going):
        store.delete(f"{backup.folder}/{FILE}")
        for part in backup.parts:
            store.delete(backup.path(part))
        tell(backup.backup)
    for leftover in plan.leftovers:
        for item in leftover.objects:
            store.delete(item.path)
        tell(leftover.backup)


def _refuse_after_failure(backups: list[Manifest], leftovers: list[Folder]) -> None:
    newest = backups[0].backup if backups else ""
    if leftovers and leftovers[0].backup > newest:
        raise BackupError(
            f"the last backup, {leftovers[0].backup}, is unfinished: its run failed, or is still at work. "
            "Backups go only after a success: make another one first."
        )


def _reasons(backups: list[Manifest], proved: list[Manifest], rules: Rules, now: datetime) -> dict[str, str]:
    reasons = {backup.backup: f"one of the {rules.min_proved} newest proved" for backup in proved}
    for backup in backups:
        if backup.started_at > now - timedelta(days=rules.days):
            reasons.setdefault(backup.backup, f"not {rules.days} days old")
    for name, period_of in PERIODS.items():
        of_period: dict[tuple, list[Manifest]] = {}
        for backup in backups:
            of_period.setdefault(period_of(backup.started_at), []).append(backup)
        for members in list(of_period.values())[: getattr(rules, name)]:
            keeper = next((backup for backup in members if backup.is_proved), members[0])
            reasons.setdefault(keeper.backup, name)
    return reasons


def _last_change(folder: Folder) -> datetime:
    return max(item.last_modified for item in folder.objects)
