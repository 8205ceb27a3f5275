"""The table keyhub_split, one row in each of the two databases; that of the tenant database counts.

Like keyhub_migrations it belongs to a command, not to a migration.
"""

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections

from keyhub import placement
from keyhub.dbhealth import made_at_run_time
from keyhub.placement import SETTLED, State

PREPARING = "preparing"  # the Admin database gets the tables
FOLLOWING = "following"  # and their rows, as they are written
REVERSIBLE = "reversible"  # it is their home, and the tenant database follows it, to be the home again if need be
FINISHING = "finishing"  # the copies that nothing refers to are emptied
RETURNING = "returning"  # they are filled again
UNWINDING = "unwinding"  # the tenant database is the home again, and what was made for the move goes

STEPS = (SETTLED, PREPARING, FOLLOWING, REVERSIBLE, FINISHING, RETURNING, UNWINDING)
TABLE = f"""
    CREATE TABLE IF NOT EXISTS keyhub_split (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        home text NOT NULL CHECK (home IN ('default', 'admin')),
        step text NOT NULL CHECK (step IN {STEPS}),
        changed_at timestamptz NOT NULL DEFAULT statement_timestamp()
    )
"""
WRITE = """
    INSERT INTO keyhub_split (home, step) VALUES (%s, %s)
    ON CONFLICT (only_row) DO UPDATE
    SET home = EXCLUDED.home, step = EXCLUDED.step, changed_at = statement_timestamp()
"""


def let_drift_pass() -> None:
    """Tell dbhealth that no migration makes the table, nor publications, of which keyhub.H063 and H069 tell."""
    made_at_run_time(r"(table )?keyhub_split(\..*| to PUBLIC)?")
    made_at_run_time(r"publication keyhub_(to_admin|organizations|moved)")


def make_table(alias: str) -> None:
    """Make the table where it is missing; whoever writes may read where."""
    with connections[alias].cursor() as cursor:
        cursor.execute(TABLE)
        cursor.execute("GRANT SELECT ON keyhub_split TO PUBLIC")


def write(session: psycopg.Connection, state: State) -> None:
    """Note a state in a session's database, in its transaction where it is in one."""
    session.execute(WRITE, [state.home, state.step])


def note(state: State) -> State:
    """Note a state in both databases, that which counts last; return it."""
    from keyhub.splitadmin.sessions import session

    for alias in (placement.ADMIN, DEFAULT_DB_ALIAS):
        with session(alias) as own:
            write(own, state)
    placement.forget()
    return state
