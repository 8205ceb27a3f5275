"""splitadmin as a role that is no superuser, on a server that asks for passwords."""

import time

import pytest

from keyhub.embedded import EmbeddedServer
from tests.test_embedded import temporary_folder

PASSWORD = "p@ss word"
OLDEST = 160000  # before it superusers alone make subscriptions
RIGHTS = """
    ALTER ROLE keyhub PASSWORD '{password}' REPLICATION;
    GRANT pg_monitor, pg_create_subscription TO keyhub;
    GRANT CREATE ON DATABASE keyhub TO keyhub;
    CREATE DATABASE admin OWNER keyhub;
"""


@pytest.fixture
def strict_server(server):
    """A server that lets the role `keyhub` in by its password alone."""
    with temporary_folder() as folder:
        strict = EmbeddedServer(folder / "server", server.bin_directory)
        strict.start()
        try:
            rules = strict.data_directory / "pg_hba.conf"
            rules.write_text("local all,replication keyhub scram-sha-256\n" + rules.read_text())
            with strict.connect() as admin:
                if admin.info.server_version < OLDEST:
                    pytest.skip("Before PostgreSQL 16 superusers alone make subscriptions.")
                for statement in RIGHTS.format(password=PASSWORD).split(";"):
                    admin.execute(statement)
                admin.execute("SELECT pg_reload_conf()")
            yield strict
        finally:
            strict.stop()


@pytest.mark.database
@pytest.mark.once
def test_as_a_role_that_owns_the_tables(strict_server, manage):
    environment = {
        variable: f"postgres:///{name}?host={strict_server.socket_directory}&user=keyhub&password=p%40ss%20word"
        for variable, name in (("DATABASE_URL", "keyhub"), ("ADMIN_DATABASE_URL", "admin"))
    }
    result = manage("migrate", "-v0", **{**environment, "ADMIN_DATABASE_URL": ""})
    assert (result.returncode, result.stderr) == (0, "")
    for way in ([], ["--finish"]):
        result = manage("splitadmin", *way, **environment)
        assert result.returncode == 0, result.stderr
    with strict_server.connect("admin") as admin, strict_server.connect("keyhub") as tenant:
        admin.execute("INSERT INTO organizations (id, name, slug) VALUES ('ORG-ACME', 'Acme', 'acme')")
        deadline = time.monotonic() + 30
        while not tenant.execute("SELECT FROM organizations WHERE id = 'ORG-ACME'").rowcount:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        assert admin.execute(owners).fetchall() == [("keyhub",)]
        # The password is where superusers alone may look.
        assert tenant.execute(
            "SELECT has_column_privilege('keyhub', 'pg_subscription', 'subconninfo', 'SELECT')"
        ).fetchone() == (False,)
        tenant.execute("ALTER SUBSCRIPTION keyhub_to_default DISABLE")
    result = manage("splitadmin", "--repair", **environment)
    assert (result.returncode, result.stderr.splitlines()[0]) == (
        0, "The tenant database follows anew: the subscription is disabled.",
    )  # fmt: skip
    result = manage("splitadmin", "--back", **environment)
    assert result.returncode == 0, result.stderr
