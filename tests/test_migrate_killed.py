"""kill -9 before every statement of every migration, up and down: the reruns come to the same end."""

import json
import os
import subprocess
import sys
from collections import Counter

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
def killer(server):
    def run(database: str, *arguments: str) -> list[list[str]]:
        """Run tests.migrate_killer to its end; the migrations and statements that it tells."""
        environment = {**os.environ, "DATABASE_URL": database_url(server, database)}
        command = [sys.executable, "-W", "error", "-m", "tests.migrate_killer", *arguments]
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


# A setting of the session, which is gone with it. After an index that is not made again, a rerun has no use for it.
OF_THE_SESSION = "SELECT set_config(%s, %s, false)"


@pytest.mark.once
@pytest.mark.long
def test_killed_before_every_statement_up_and_down(killer, server, empty_database, migrated_database, schema_dump):
    killed_up = killer(empty_database, "up")
    assert schema_dump(empty_database) == schema_dump(migrated_database)
    with server.connect(empty_database, "keyhub") as killed, server.connect(migrated_database, "keyhub") as unharmed:
        for query in CONTENTS:
            assert killed.execute(query).fetchall() == unharmed.execute(query).fetchall()
    killed_down = killer(empty_database, "down")
    unharmed_down = killer(migrated_database, "watch", "down")
    assert schema_dump(empty_database) == schema_dump(migrated_database)
    with server.connect(empty_database, "keyhub") as client:
        assert client.execute("SELECT count(*) FROM django_migrations").fetchone() == (0,)
    unharmed_up = killer(migrated_database, "watch", "up")
    assert len(unharmed_up) > 500
    assert len(unharmed_down) > 300
    for unharmed, killed in ((unharmed_up, killed_up), (unharmed_down, killed_down)):
        # No migration was left out, and with KEYHUB_ALL_KILLS no statement of any.
        assert {migration for migration, _ in killed} == {migration for migration, _ in unharmed}
        if os.environ.get("KEYHUB_ALL_KILLS"):
            left_out = Counter(map(tuple, unharmed)) - Counter(map(tuple, killed))
            assert {sql for _, sql in left_out} <= {OF_THE_SESSION}
