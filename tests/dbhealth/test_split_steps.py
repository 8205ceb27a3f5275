"""dbhealth beside a move of the Admin database: each step is told as a notice, and nothing else is."""

import re

import pytest

from keyhub.dbhealth import databases
from keyhub.placement import ADMIN
from keyhub.splitadmin import procedure
from keyhub.splitadmin.errors import SplitError

pytestmark = pytest.mark.database

IN_ADMIN = "organizations live in the Admin database, and"
IN_TENANT = "organizations live in the tenant database, and"


class KilledError(Exception):
    pass


@pytest.fixture
def interrupted(monkeypatch):
    """Run a way of splitadmin up to a step of it."""

    def interrupted(way, before: str) -> None:
        def kill(*_) -> None:
            raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(procedure, before, kill)
            with pytest.raises(KilledError):
                way(silently)

    monkeypatch.setattr(procedure, "LAST_READERS_S", 0)
    return interrupted


def silently(line: str) -> None:
    pass


def found() -> list[tuple[str, ...]]:
    return [
        (
            report.database,
            finding.severity,
            f"{finding.id} {finding.object}",
            re.sub(r"\d+ s$", "some s", finding.problem),
            finding.mend,
        )
        for report in databases.run_everywhere()
        for finding in report.findings
    ]


def moving(where: str, step: str, mend: str) -> list[tuple[str, ...]]:
    problem = f"{where} a move is under way ({step}), for some s"
    return [("default", "notice", "keyhub.H062 keyhub_split", problem, f"manage.py splitadmin{mend}")]


def test_no_step_is_a_fault(two_databases, interrupted):
    onward = ", or manage.py splitadmin --rollback"
    not_split = [
        (
            "default",
            "notice",
            "keyhub.H060 ADMIN_DATABASE_URL",
            "it names a second database, and everything lives in this one",
            "manage.py splitadmin",
        )
    ]
    assert found() == not_split
    interrupted(procedure.run, "_prepare")
    assert found() == moving(IN_TENANT, "preparing", onward)
    interrupted(procedure.run, "_rehearse")
    assert found() == moving(IN_TENANT, "following", onward)
    interrupted(procedure.run, "_follow_back")
    two_databases.split(finish=False)
    assert found() == moving(IN_ADMIN, "reversible", " --finish" + onward)
    interrupted(procedure.finish, "_unfollow_moved")
    assert found() == moving(IN_ADMIN, "finishing", " --finish")
    procedure.finish(silently)
    assert found() == []
    interrupted(procedure.back, "_refill_moved")
    assert found() == moving(IN_ADMIN, "returning", " --back")
    interrupted(procedure.back, "_unwind")
    assert found() == moving(IN_TENANT, "unwinding", " --back")
    procedure.back(silently)
    assert found() == not_split


def test_a_move_that_nobody_ends(two_databases):
    two_databases.split(finish=False)
    with two_databases.connect("default") as own:
        own.execute("UPDATE keyhub_split SET changed_at = changed_at - interval '3 hours'")
    ((_, severity, what, problem, _),) = found()
    assert (severity, what) == ("warning", "keyhub.H062 keyhub_split")
    assert problem == f"{IN_ADMIN} a move is under way (reversible), for 3 h"


def test_a_repair_beside_a_move(two_databases):
    """The copies that are to be emptied are filled again, and the way back stays open."""
    two_databases.split(finish=False)
    with two_databases.connect("default") as own:
        own.execute("ALTER SUBSCRIPTION keyhub_to_default DISABLE")
        own.execute("ALTER SUBSCRIPTION keyhub_to_default SET (slot_name = NONE)")
        own.execute("DROP SUBSCRIPTION keyhub_to_default")
    domain = "INSERT INTO organization_domains (organization_id, domain) SELECT id, 'example.com' FROM organizations"
    with two_databases.connect(ADMIN) as own:
        own.execute(domain)
    assert [(severity, what) for _, severity, what, _, _ in found()] == [
        ("critical", "keyhub.H065 keyhub_to_default"),
        ("notice", "keyhub.H062 keyhub_split"),
        ("critical", f"keyhub.H064 keyhub_to_default_{oid(two_databases)}"),
    ]
    procedure.repair(silently)
    assert [severity for _, severity, *_ in found()] == ["notice"]
    procedure.rollback(silently)
    with two_databases.connect("default") as own:
        assert own.execute("SELECT domain FROM organization_domains").fetchall() == [("example.com",)]


def test_where_there_is_nothing_to_repair(two_databases):
    with pytest.raises(SplitError) as refused:
        procedure.repair(silently)
    assert str(refused.value) == f"there is nothing to repair: {IN_TENANT} no move is under way."


def oid(two_databases) -> int:
    with two_databases.connect(ADMIN) as own:
        return own.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()[0]
