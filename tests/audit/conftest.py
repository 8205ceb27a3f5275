"""A connection of the owner of the tables, and the month that it is."""

import pytest

from audit.months import Month


@pytest.fixture
def owner(server, migrated_database):
    with server.connect(migrated_database, "keyhub") as owner:
        owner.execute("SET TimeZone = 'UTC'")
        yield owner


@pytest.fixture
def this_month(owner) -> Month:
    return Month.of(owner.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'").fetchone()[0])


@pytest.fixture
def run(manage, migrated_database):
    """auditpartitions with these arguments: its exit code, and what it writes to both outputs."""

    def run(*arguments: str) -> tuple[int, str, str]:
        result = manage("auditpartitions", *arguments, database=migrated_database)
        return result.returncode, result.stdout, result.stderr

    return run
