"""The whole way there and back while services write, and with a kill before each statement: no row lost or doubled."""

import json
import os
import subprocess
import sys
import time

import pytest

from keyhub import placement
from keyhub.placement import ADMIN, State
from tests.processes import REPOSITORY

pytestmark = pytest.mark.database


@pytest.mark.long
def test_there_and_back_while_services_write(two_databases, writers, manage, digests):
    environment = two_databases.environment()
    with writers(two_databases) as acknowledged:
        for way, last in (
            ([], "The last step, when all is well: manage.py splitadmin --finish. Or: --rollback."),
            (["--rollback"], "Organizations live in the tenant database, and no move is under way."),
            ([], "The last step, when all is well: manage.py splitadmin --finish. Or: --rollback."),
            (["--finish"], "Organizations live in the Admin database, and no move is under way."),
            (["--back"], "Organizations live in the tenant database, and no move is under way."),
            ([], "The last step, when all is well: manage.py splitadmin --finish. Or: --rollback."),
            (["--finish"], "Organizations live in the Admin database, and no move is under way."),
        ):
            time.sleep(0.5)  # something is written in each state
            result = manage("splitadmin", *way, **environment)
            assert (result.returncode, result.stdout.splitlines()[-1:]) == (0, [last]), result.stderr
    acknowledged.compare(two_databases, ADMIN)
    assert len(acknowledged.sessions) > 100
    assert acknowledged.tenants
    _await_copies(two_databases, digests)


def _await_copies(two_databases, digests) -> None:
    """The tenant database comes to have the organizations of the Admin database, and nothing of the rest."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        copies = digests(two_databases, "default")
        if copies["organizations"] == digests(two_databases, ADMIN)["organizations"]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the tenant database does not follow")
    assert copies["console_sessions"][0] == copies["organization_domains"][0] == 0


WAYS = ["run", "rollback", "run", "finish", "back"] if os.environ.get("KEYHUB_ALL_KILLS") else ["run", "finish", "back"]


@pytest.mark.long
@pytest.mark.once
def test_killed_before_each_statement_while_services_write(two_databases, writers, digests):
    with writers(two_databases) as acknowledged:
        command = [sys.executable, "-m", "tests.splitadmin.killer", *WAYS]
        environment = {**os.environ, **two_databases.environment()}
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        kills = json.loads(result.stdout)
    assert min(kills.values()) > 5
    placement.forget()
    assert placement.state() == State()
    acknowledged.compare(two_databases, "default")
    assert [rows for rows, _ in digests(two_databases, ADMIN).values()] == [0, 0, 0]
