"""The strengthening versions on rows from before: bad ones are listed, good ones pass, secrets are hashed."""

import hashlib

import psycopg
import pytest

pytestmark = [pytest.mark.database, pytest.mark.once]

ALICE, BOB = (f"00000000-0000-0000-0000-00000000000{letter}" for letter in "ab")
BOBS = "00000000-0000-0000-0000-0000000000b1"
SESSION = "00000000-0000-0000-0000-0000000000c1"


@pytest.fixture
def database(database_at):
    """From before the rules."""
    return database_at("auth_sessions", "0001")


@pytest.fixture
def client(server, database):
    with server.connect(database, "keyhub") as client:
        yield client


@pytest.fixture
def migrate(manage, database):
    def migrate(*target: str) -> str:
        result = manage("migrate", *target, "-v0", database=database)
        return result.stderr if result.returncode else ""

    return migrate


@pytest.fixture
def old(client):
    """The database with Alice, Bob and Bob's membership."""
    client.execute(
        f"INSERT INTO users (id, email) VALUES ('{ALICE}', 'alice@example.com'), ('{BOB}', 'bob@example.com')"
    )
    client.execute(f"INSERT INTO tenant_memberships (id, tenant_id, user_id) SELECT '{BOBS}', id, '{BOB}' FROM tenants")
    return client


def session(
    client,
    session_id: str,
    *,
    row: str = "gen_random_uuid()",
    user: str = BOB,
    membership: str = "NULL",
    expires: str = "'2099-01-01+00'",
) -> None:
    client.execute(
        f"INSERT INTO sessions (id, session_id, user_id, active_membership_id, expires_at, created_at) "
        f"VALUES ({row}, %s, '{user}', {membership}, {expires}, '2026-01-01+00')",
        [session_id],
    )


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"user": ALICE, "membership": f"'{BOBS}'"},
            "sessions: 1 row breaks sessions_active_membership_id_user_id_fkey: "
            f'{{"id":"{SESSION}","user_id":"{ALICE}","active_membership_id":"{BOBS}"}}. List with: ',
        ),
        ({"expires": "'infinity'"}, f'sessions: 1 row breaks check_session_expires_at: {{"id":"{SESSION}",'),
        ({"expires": "'2025-01-01+00'"}, f'sessions: 1 row breaks check_session_expires_at: {{"id":"{SESSION}",'),
    ],
    ids=["another user's membership", "infinite", "ended before it began"],
)
def test_rows_that_break_a_rule_are_listed(old, migrate, columns, told):
    session(old, "raw", row=f"'{SESSION}'", **columns)
    assert told in migrate()
    old.execute("DELETE FROM sessions")
    assert migrate() == ""


def test_a_place_elsewhere_is_listed(old, migrate):
    old.execute(
        "INSERT INTO oauth_states (state, code_verifier, nonce, redirect_uri) VALUES ('s', 'v', 'n', '//example.com')"
    )
    assert "oauth_states: 1 row breaks check_oauth_redirect_uri: " in migrate()
    old.execute("DELETE FROM oauth_states")
    assert migrate() == ""


def test_sound_rows_pass_and_their_secrets_are_hashed_once(old, migrate, schema_dump, database):
    left = f"'{BOBS}'"
    already = hashlib.sha256(b"already").hexdigest()
    session(old, "raw secret é", membership=left)
    session(old, already)
    old.execute(
        "INSERT INTO sessions (session_id, user_id, expires_at) "
        f"SELECT 'raw ' || n, '{ALICE}', '2099-01-01+00' FROM generate_series(1, 2500) AS n"
    )
    old.execute(
        "INSERT INTO oauth_states (state, code_verifier, nonce, redirect_uri) VALUES ('raw', 'v', 'n', '/home')"
    )
    old.execute(
        "INSERT INTO console_sessions (session_id, organization_id, expires_at) "
        "VALUES ('raw', 'ORG-DEFAULT-001', '2099-01-01+00')"
    )
    old.execute("UPDATE tenant_memberships SET left_at = statement_timestamp()")
    assert migrate() == ""
    newest = schema_dump(database)
    assert old.execute(f"SELECT session_id FROM sessions WHERE user_id = '{BOB}' ORDER BY 1").fetchall() == sorted(
        [(already,), (hashlib.sha256("raw secret é".encode()).hexdigest(),)]
    )
    assert old.execute(
        "SELECT count(*) FROM sessions JOIN generate_series(1, 2500) AS n "
        "ON session_id = encode(sha256(convert_to('raw ' || n, 'UTF8')), 'hex')"
    ).fetchone() == (2500,)
    hashed = hashlib.sha256(b"raw").hexdigest()
    assert old.execute(
        "SELECT state FROM oauth_states UNION ALL SELECT session_id FROM console_sessions"
    ).fetchall() == [
        (hashed,),
        (hashed,),
    ]
    # Bob had left before leaving took anything off.
    assert old.execute("SELECT count(*) FROM sessions WHERE active_membership_id IS NOT NULL").fetchone() == (0,)
    # Down, and up again: no row is hashed twice, and the schema is the same.
    before = old.execute("SELECT id, session_id FROM sessions ORDER BY id").fetchall()
    assert migrate("auth_sessions", "0001") == ""
    assert old.execute("SELECT id, session_id FROM sessions ORDER BY id").fetchall() == before
    assert migrate() == ""
    assert old.execute("SELECT id, session_id FROM sessions ORDER BY id").fetchall() == before
    assert schema_dump(database) == newest


def test_hashing_goes_on_where_a_killed_run_has_ended(old, migrate):
    for number in range(3):
        session(old, f"raw {number}")
    assert migrate("auth_sessions", "0012") == ""
    # What a killed run leaves: some rows are done, and the migration is not recorded.
    old.execute(
        "UPDATE sessions SET session_id = encode(sha256(convert_to(session_id, 'UTF8')), 'hex') "
        "WHERE session_id = 'raw 1'"
    )
    assert migrate() == ""
    wanted = sorted(hashlib.sha256(f"raw {number}".encode()).hexdigest() for number in range(3))
    assert old.execute("SELECT session_id FROM sessions ORDER BY 1").fetchall() == [(digest,) for digest in wanted]


def test_a_service_of_before_writes_on_until_the_rows_are_turned_over(old, migrate):
    session(old, "from before")
    assert migrate("auth_sessions", "0012") == ""
    old.execute("UPDATE sessions SET last_accessed_at = statement_timestamp()")
    session(old, "meanwhile")
    old.execute("INSERT INTO oauth_states (state, code_verifier, nonce) VALUES ('meanwhile', 'v', 'n')")
    old.execute(
        "INSERT INTO console_sessions (session_id, organization_id, expires_at) "
        "VALUES ('meanwhile', 'ORG-DEFAULT-001', '2099-01-01+00')"
    )
    hashed = {hashlib.sha256(token).hexdigest() for token in (b"from before", b"meanwhile")}
    assert {digest for (digest,) in old.execute("SELECT session_id FROM sessions")} == hashed
    assert migrate() == ""
    assert {digest for (digest,) in old.execute("SELECT session_id FROM sessions")} == hashed
    with pytest.raises(psycopg.errors.CheckViolation):
        session(old, "afterwards")
