"""What a client of tests/audit/test_export.py does: it writes in all the ways in which rows come late."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db import transaction

from audit.models import AuditLog

TRANSACTIONS = 8
LONGEST_S = 0.05
EVENT = {"resource_type": "r", "organization_id": "o"}


def write(name: str) -> list[str]:
    """Run transactions; the actions of the rows that were committed."""
    chance, committed = random.Random(name), []  # noqa: S311 a schedule that can be had again
    for number in range(TRANSACTIONS):
        way = chance.choice([_by_record, _by_ingest, _by_savepoints, _by_rollback])
        committed += way(chance, (f"{name}-{number}-{row}" for row in range(1_000)))
    return committed


def _by_record(chance: random.Random, names: Iterator[str]) -> list[str]:
    with transaction.atomic():
        actions = [_record(next(names)) for _ in range(chance.randint(1, 3))]
        _slowly(chance)
    return actions


def _by_ingest(chance: random.Random, names: Iterator[str]) -> list[str]:
    """Backdated, also into months that there are not."""
    actions = [next(names) for _ in range(chance.randint(1, 30))]
    now = datetime.now(UTC)
    with transaction.atomic():
        AuditLog.objects.ingest(
            {**EVENT, "action": action, "created_at": now - timedelta(days=chance.randint(0, 900))}
            for action in actions
        )
        _slowly(chance)
    return actions


def _by_savepoints(chance: random.Random, names: Iterator[str]) -> list[str]:
    actions = []
    with transaction.atomic():
        for _ in range(4):
            savepoint = transaction.savepoint()
            action = _record(next(names))
            if chance.random() < 0.5:
                transaction.savepoint_rollback(savepoint)
            else:
                actions.append(action)
            _slowly(chance)
    return actions


def _by_rollback(chance: random.Random, names: Iterator[str]) -> list[str]:
    with transaction.atomic():
        _record(next(names))
        _slowly(chance)
        transaction.set_rollback(True)
    return []


def _record(action: str) -> str:
    AuditLog.objects.record(action, "r", organization_id="o")
    return action


def _slowly(chance: random.Random) -> None:
    if chance.random() < 0.5:
        time.sleep(chance.random() * LONGEST_S)
