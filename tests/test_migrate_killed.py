"""kill -9 before every statement of every migration, up and down: the reruns come to the same end."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, database_url

CONTENTS = (
    "SELECT app, name FROM django_migrations ORDER BY 1, 2",
    "SELECT app, name, digest, applied_at IS NOT NULL, started_at FROM keyhub_migrations ORDER BY 1, 2",
    "SELECT id, slug FROM tenants ORDER BY 1",
    "SELECT code FROM tenant_join_codes ORDER BY 1",
    "SELECT id, slug FROM organizations ORDER BY 1",
    "SELECT content_type.model, codename FROM auth_permission "
    "JOIN django_content_type AS content_type ON content_type.id = content_type_id ORDER BY 1, 2",
)


@pytest.fixture
def kill(server, empty_database):
    def run(direction: str) -> int:
        """Run migrate until it comes to its end, killed one statement later each time; how often it was killed."""
        environment = {**os.environ, "DATABASE_URL": database_url(server, empty_database)}
        command = [sys.executable, "-W", "error", "-m", "tests.migrate_killer", direction]
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return int(result.stdout)

    return run


def test_killed_before_every_statement_up_and_down(kill, server, empty_database, migrated_database, schema_dump):
    assert kill("up") > 150
    assert schema_dump(empty_database) == schema_dump(migrated_database)
    with server.connect(empty_database, "keyhub") as killed, server.connect(migrated_database, "keyhub") as unharmed:
        for query in CONTENTS:
            assert killed.execute(query).fetchall() == unharmed.execute(query).fetchall()
    assert kill("down") > 100
    left = [line for line in schema_dump(empty_database).splitlines() if line.startswith("CREATE TABLE")]
    assert left == ["CREATE TABLE public.django_migrations (", "CREATE TABLE public.keyhub_migrations ("]
    with server.connect(empty_database, "keyhub") as client:
        assert client.execute("SELECT count(*) FROM django_migrations").fetchone() == (0,)
