"""docs/guide.md runs as written: its Python in one namespace, its SQL as prepared statements of a role of its own."""

import doctest
import re

import psycopg
import pytest

from tenancy import join_codes
from tests.conftest import REPOSITORY

GUIDE = (REPOSITORY / "docs/guide.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
REDEEM, REVOKE, CONSUME, AUTHENTICATE, TOUCH, SIGN_OUT, GRANTS = [
    text for language, text in BLOCKS if language == "sql"
]


@pytest.mark.django_db
def test_its_python():
    namespace: dict = {}
    runner = doctest.DocTestRunner()
    ran = 0
    for language, text in BLOCKS:
        if language == "python":
            exec(text, namespace)  # noqa: S102 the page of this repository
        if language == "pycon":
            example = doctest.DocTestParser().get_doctest(text, namespace, "docs/guide.md", None, 0)
            told: list[str] = []
            assert runner.run(example, out=told.append, clear_globs=False).failed == 0, "".join(told)
            namespace.update(example.globs)
            ran += len(example.examples)
    assert ran > 20


def test_every_block_is_of_a_language_that_is_run():
    assert {language for language, _ in BLOCKS} == {"python", "pycon", "sql"}


@pytest.fixture
def service(server, migrated_database):
    """A connection as a role that may do what the page grants, and nothing else."""
    with server.connect() as admin:
        admin.execute("CREATE ROLE keyhub_app LOGIN")
    try:
        with server.connect(migrated_database, "keyhub") as owner:
            owner.execute(GRANTS)
        with server.connect(migrated_database, "keyhub_app") as service:
            yield service
    finally:
        with server.connect(migrated_database) as admin:
            admin.execute("DROP OWNED BY keyhub_app")
            admin.execute("DROP ROLE keyhub_app")


def execute(service, statement: str, *parameters: object) -> list[tuple]:
    """Run one of the page's statements, in which $1 and so on stand for the parameters."""
    given = {f"p{number}": value for number, value in enumerate(parameters, 1)}
    result = service.execute(re.sub(r"\$(\d)", r"%(p\1)s", statement), given)
    return result.fetchall() if result.description else [(result.rowcount,)]


def test_its_sql_does_what_the_managers_do(service):
    (alice,) = service.execute("INSERT INTO users (email) VALUES ('alice@example.com') RETURNING id").fetchone()
    (bob,) = service.execute("INSERT INTO users (email) VALUES ('bob@example.com') RETURNING id").fetchone()
    service.execute(
        "INSERT INTO tenant_memberships (tenant_id, user_id, role) SELECT id, %s, 'admin' FROM tenants", [bob]
    )
    service.execute(
        "INSERT INTO tenant_join_codes (tenant_id, code, max_uses) SELECT id, 'KH-1234-ABCD', 1 FROM tenants"
    )
    assert len(execute(service, REDEEM, " kh i234 abcd", alice)) == 1
    assert execute(service, REDEEM, "KH-1234-ABCD", bob) == []
    service.execute(
        "INSERT INTO sessions (session_id, user_id, expires_at) "
        "VALUES (encode(sha256('alice''s token'), 'hex'), %s, statement_timestamp() + interval '1 day')",
        [alice],
    )
    ((session, *_),) = execute(service, AUTHENTICATE, "alice's token", "30 minutes")
    assert execute(service, TOUCH, session) == [(1,)]
    assert execute(service, TOUCH, session) == [(0,)]
    assert execute(service, AUTHENTICATE, "alice's token", "0 minutes") == []
    assert execute(service, AUTHENTICATE, "another token", "30 minutes") == []
    assert execute(service, SIGN_OUT, alice) == [(1,)]
    assert execute(service, AUTHENTICATE, "alice's token", "30 minutes") == []
    assert execute(service, REVOKE, "kh1234abcd") == [(1,)]
    assert execute(service, REDEEM, "KH-1234-ABCD", alice) == []
    service.execute(
        "INSERT INTO oauth_states (state, browser_digest, provider, code_verifier, nonce, redirect_uri) "
        "VALUES (encode(sha256('state'), 'hex'), encode(sha256('browser'), 'hex'), 'p', 'verifier', 'nonce', '/home')"
    )
    assert execute(service, CONSUME, "state", "another", "p") == []
    assert execute(service, CONSUME, "state", "browser", "p") == [("verifier", "nonce", "/home")]
    assert execute(service, CONSUME, "state", "browser", "p") == []


def test_what_it_grants_is_no_more(service):
    service.execute("INSERT INTO audit_logs (organization_id, action, resource_type) VALUES ('o', 'a', 'r')")
    for statement in ("UPDATE audit_logs SET action = 'b'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute(statement)


def test_its_statements_are_the_managers_own():
    """Word for word, but for layout, comments and the names of parameters."""

    def words(statement: str, **names: str) -> list[str]:
        for given, name in names.items():
            statement = statement.replace(f"%({given})s", name)
        return re.sub(r"--.*", "", statement).split()

    assert words(REDEEM) == words(join_codes.REDEEM, code="$1", user="$2")
