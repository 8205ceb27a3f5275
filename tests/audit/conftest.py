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
