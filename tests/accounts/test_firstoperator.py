"""manage.py firstoperator: one operator on a laptop, none in production."""

import os
import re
import subprocess

import pytest

from accounts.models import Operator
from tests.conftest import database_url
from tests.processes import Run

pytestmark = pytest.mark.once

MADE = re.compile(r"The first operator: operator@keyhub\.test, password (\S+)\n")
NOTHING_TO_DO = "There is an operator already. A lost password: manage.py changepassword <e-mail>\n"


def told(result: subprocess.CompletedProcess) -> tuple[int, str, str]:
    return result.returncode, result.stdout, result.stderr


def operators(server, database: str) -> list[tuple]:
    with server.connect(database) as connection:
        return connection.execute("SELECT email, name, is_superuser, is_active, last_login FROM operators").fetchall()


def stored_password(server, database: str) -> str:
    with server.connect(database) as connection:
        return connection.execute("SELECT password FROM operators").fetchone()[0]


def test_the_first_operator_may_enter_with_the_printed_password(server, manage, migrated_database):
    result = manage("firstoperator", database=migrated_database)
    assert (result.returncode, result.stderr) == (0, "")
    password = MADE.fullmatch(result.stdout)[1]
    assert len(password) == 16  # 96 bits
    assert operators(server, migrated_database) == [("operator@keyhub.test", "", True, True, None)]
    hashed = stored_password(server, migrated_database)
    assert Operator(email="operator@keyhub.test", password=hashed).check_password(password)

    assert told(manage("firstoperator", database=migrated_database)) == (0, NOTHING_TO_DO, "")
    assert stored_password(server, migrated_database) == hashed


def test_any_operator_is_enough(server, manage, migrated_database):
    with server.connect(migrated_database) as connection:
        connection.execute(
            "INSERT INTO operators (email, name, password, is_superuser, is_active) "
            "VALUES ('alice@example.com', 'Alice', '!', false, false)"
        )
    assert told(manage("firstoperator", database=migrated_database)) == (0, NOTHING_TO_DO, "")
    assert operators(server, migrated_database) == [("alice@example.com", "Alice", False, False, None)]


def test_eight_at_once_make_one(server, migrated_database):
    processes = [start(server, migrated_database) for _ in range(8)]
    outputs = sorted(process.communicate() for process in processes)
    assert [process.returncode for process in processes] == [0] * 8
    password = MADE.fullmatch(outputs[0][0])[1]
    assert outputs[1:] == [(NOTHING_TO_DO, "")] * 7
    hashed = stored_password(server, migrated_database)
    assert Operator(email="operator@keyhub.test", password=hashed).check_password(password)


def test_overtaken_between_the_look_and_the_insert(server, migrated_database):
    with server.connect(migrated_database) as connection:
        with connection.transaction():
            connection.execute(
                "INSERT INTO operators (email, name, password, is_superuser, is_active) "
                "VALUES ('operator@keyhub.test', '', '!', true, true)"
            )
            process = start(server, migrated_database)
            waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            while not connection.execute(waiting).rowcount:
                assert process.poll() is None
                connection.execute("SELECT pg_stat_clear_snapshot(), pg_sleep(0.01)")
        assert process.communicate() == (NOTHING_TO_DO, "")
    assert process.returncode == 0
    assert stored_password(server, migrated_database) == "!"


def start(server, database: str) -> Run:
    return Run("firstoperator", env={**os.environ, "DATABASE_URL": database_url(server, database)})


def test_refused_in_production(server, manage, migrated_database):
    production = {"DEBUG": "off", "SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "keyhub.example.com"}
    assert told(manage("firstoperator", database=migrated_database, **production)) == (
        1,
        "",
        "CommandError: firstoperator is for development, and DEBUG is off. Use manage.py createsuperuser.\n",
    )
    assert operators(server, migrated_database) == []


def test_before_migrate(manage, empty_database):
    assert told(manage("firstoperator", database=empty_database)) == (
        1,
        "",
        "CommandError: The table operators does not exist. Run manage.py migrate first.\n",
    )
