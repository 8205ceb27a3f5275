"""Restoring: what comes back is what was backed up, or nothing comes back at all."""

import dataclasses
import json
import random
import re
import threading
import time

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

from accounts.models import Operator
from keyhub.dbbackup import manifest, measure
from keyhub.dbbackup.errors import BackupError
from keyhub.dbrestore import restore as restoring
from keyhub.dbrestore.load import ScriptLoader
from keyhub.store import Store
from tests.backups import PASSWORD, Runs, backed_up, fill, new_key, refusal
from tests.backups.object_store import BUCKET
from tests.conftest import database_url

FLIPS = 60


@pytest.fixture
def copy(database, server):
    """A name for a new database, which is dropped at the end."""
    name = f"{database}_copy"
    yield name
    with server.connect() as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def databases(server, like: str) -> list[str]:
    with server.connect() as admin:
        rows = admin.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", [like])
        return [name for (name,) in rows]


def measured() -> tuple:
    with transaction.atomic():
        return measure.catalogue_lines(connection), measure.rows_of_tables(connection.connection)


# What comes back


def test_the_same_catalogue_rows_login_and_months(database, copy, url, connected_to, schema_dump, capsys):
    with connection.cursor() as cursor:
        cursor.execute('CREATE TABLE strange (a json, b bytea, "C d" text[], e float8, f interval)')
        cursor.execute(
            "INSERT INTO strange VALUES ('{\"a\":  1}', '\\x00ff5c2e0a', '{\"\\\\.\",NULL,\"\\n\"}', 0.1, '1 mon'), "
            "(NULL, NULL, '{}', 'NaN', '-1 day')"
        )
        cursor.execute(
            "INSERT INTO users (email, name) VALUES (E'\\\\.@example.com', E'\\\\.\\n\\\\.\\n'), "
            "('big@example.com', repeat('x', 700000))"
        )
    backed_up(url)
    call_command("dbrestore", "latest", "--from", url, "--database", copy, "--jobs", "3", "--format", "json")
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    before = measured()
    assert told["rows"] == sum(table.rows for table in before[1].values())
    # PostgreSQL prints "a OR b OR c" of a trigger with fewer brackets when it has read it once more.
    assert re.sub(r"[()]", "", schema_dump(copy)) == re.sub(r"[()]", "", schema_dump(database))
    with connected_to(copy):
        assert measured() == before
        assert Operator.objects.get(email="alice@keyhub.test").check_password(PASSWORD)
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM audit_logs")
            assert [name.startswith("audit_logs_2") for (name,) in cursor.fetchall()] == [True]
            cursor.execute("SELECT name FROM users WHERE email = E'\\\\.@example.com'")
            assert cursor.fetchone() == ("\\.\n\\.\n",)
            cursor.execute("SELECT count(*) FROM pg_stats WHERE tablename = 'users'")
            assert cursor.fetchone()[0] > 0


def test_owner_settings_and_grants_of_the_database(database, copy, url, server):
    with server.connect() as admin:
        admin.execute(f'ALTER DATABASE {database} SET search_path TO public, "$user"')
        admin.execute(f"ALTER DATABASE {database} SET statement_timeout TO '7s'")
        admin.execute(f"ALTER ROLE keyhub IN DATABASE {database} SET work_mem TO '5MB'")
        admin.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 77")
        admin.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        admin.execute(f"GRANT CONNECT ON DATABASE {database} TO pg_monitor")
    connection.close()
    made = backed_up(url)
    connection.close()
    # A superuser's rights for the settings of a role.
    connection.settings_dict["USER"] = "postgres"
    try:
        call_command("dbrestore", "latest", "--from", url, "--database", copy)
    finally:
        connection.close()
        connection.settings_dict["USER"] = "keyhub"
    with server.connect(copy, "postgres") as client:
        restored = measure.properties(client)
    assert restored["settings"]
    assert {**restored, "grants": sorted(restored["grants"])} == {
        **made.properties, "grants": sorted(made.properties["grants"]), "settings": restored["settings"],
    }  # fmt: skip
    assert sorted(map(str, restored["settings"])) == sorted(map(str, made.properties["settings"]))


def test_encrypted_and_only_with_the_right_key(database, copy, url, tmp_path, settings, server):
    settings.BACKUP_RECIPIENTS = [new_key(tmp_path / "key")]
    backed_up(url)
    arguments = ["dbrestore", "latest", "--from", url, "--database", copy]
    assert refusal(*arguments).startswith("the backup is encrypted, and BACKUP_IDENTITY_FILE is not set.")
    new_key(tmp_path / "other")
    settings.BACKUP_IDENTITY_FILE = tmp_path / "other"
    assert refusal(*arguments) == (
        "the backup is encrypted to other keys than that of BACKUP_IDENTITY_FILE. Set it to the file of the "
        "right private key."
    )
    (tmp_path / "empty").write_text("# nothing\n")
    settings.BACKUP_IDENTITY_FILE = tmp_path / "empty"
    assert "holds no private key of age" in refusal(*arguments)
    assert databases(server, copy) == []
    settings.BACKUP_IDENTITY_FILE = tmp_path / "key"
    call_command(*arguments)
    assert databases(server, copy) == [copy]


def test_a_role_that_the_server_lacks(database, copy, url, server):
    role = f"Role {database}"
    with server.connect(database, "postgres") as admin:
        admin.execute(f'CREATE ROLE "{role}" NOLOGIN CONNECTION LIMIT 3')
        admin.execute(f'GRANT pg_monitor TO "{role}"')
        admin.execute(f'GRANT SELECT ON users TO "{role}"')
        try:
            made = backed_up(url)
            assert made.roles == [role, "keyhub"]
            admin.execute(f'DROP OWNED BY "{role}"')
            admin.execute(f'DROP ROLE "{role}"')
            arguments = ["dbrestore", "latest", "--from", url, "--database", copy]
            assert refusal(*arguments) == (
                f"the backup {made.backup} names the role {role}, which this server does not have. "
                "Create what is missing from the backup itself: dbrestore --create-roles"
            )
            assert "could not be created" in refusal(*arguments, "--create-roles")
            assert databases(server, copy) == []
            connection.close()
            connection.settings_dict["USER"] = "postgres"
            call_command(*arguments, "--create-roles")
            row = admin.execute("SELECT rolcanlogin, rolconnlimit FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            assert row == (False, 3)
            assert admin.execute("SELECT pg_has_role(%s, 'pg_monitor', 'MEMBER')", [role]).fetchone() == (True,)
            with server.connect(copy, "postgres") as client:
                assert client.execute("SELECT has_table_privilege(%s, 'users', 'SELECT')", [role]).fetchone() == (True,)
        finally:
            connection.close()
            connection.settings_dict["USER"] = "keyhub"
            for place in {database, *databases(server, copy)}:
                with server.connect(place, "postgres") as owner:
                    if owner.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount:
                        owner.execute(f'DROP OWNED BY "{role}"')
            admin.execute(f'DROP ROLE IF EXISTS "{role}"')


# What does not come back


@pytest.mark.parametrize("kind", ["folder", "encrypted", "object store"])
@pytest.mark.once
def test_sixty_flipped_bits_are_refused_before_a_row_is_restored(
    database, copy, url, server, tmp_path, settings, request, kind
):
    if kind == "object store":
        request.getfixturevalue("remote")
        url = f"s3://{BUCKET}/keyhub"
    if kind == "encrypted":
        settings.BACKUP_RECIPIENTS = [new_key(tmp_path / "key")]
        settings.BACKUP_IDENTITY_FILE = tmp_path / "key"
    made = backed_up(url)
    store = Store(url)
    paths = [made.path("dump"), made.path("roles"), f"{made.folder}/{manifest.FILE}"]
    contents = {path: store.read(path) for path in paths}
    seen = set()
    for number in range(FLIPS):
        # By size, so that each bit is as likely as any other; each file at least ten times.
        path = paths[number % 3] if number < 30 else random.choices(paths, map(len, contents.values()))[0]  # noqa: S311
        damaged = bytearray(contents[path])
        place, bit = random.randrange(len(damaged)), random.randrange(8)  # noqa: S311
        damaged[place] ^= 1 << bit
        store.put(path, bytes(damaged))
        words = refusal("dbrestore", made.backup, "--from", url, "--database", copy)
        assert words, (path, place, bit)
        seen.add(path)
        assert databases(server, copy) == []
        store.put(path, contents[path])
    assert seen == set(paths)
    call_command("dbrestore", made.backup, "--from", url, "--database", copy)


def test_an_old_manifest(database, copy, url):
    made = backed_up(url)
    path = f"{made.folder}/{manifest.FILE}"
    store = Store(url)
    document = json.loads(store.read(path))
    store.put(path, json.dumps({**document, "format": 0}).encode())
    assert refusal("dbrestore", made.backup, "--from", url, "--database", copy).startswith(
        f"{path} has format 0, which an older KeyHub wrote; this one reads format 1"
    )


def test_the_manifest_of_another_backup(database, copy, url):
    first, second = backed_up(url), backed_up(url)
    store = Store(url)
    store.put(f"{second.folder}/{manifest.FILE}", store.read(f"{first.folder}/{manifest.FILE}"))
    words = refusal("dbrestore", second.backup, "--from", url, "--database", copy)
    assert words.startswith(f"{second.folder}/{manifest.FILE} is the manifest of {first.folder}, not of this backup")
    # latest does not silently fall back to an older one
    assert refusal("dbrestore", "latest", "--from", url, "--database", copy) == words


def test_the_archive_of_another_backup(database, copy, url):
    first = backed_up(url)
    people_again = "INSERT INTO users (email) VALUES ('later@example.com')"
    with connection.cursor() as cursor:
        cursor.execute(people_again)
    second = backed_up(url)
    store = Store(url)
    store.put(second.path("dump"), store.read(first.path("dump")))
    words = refusal("dbrestore", "latest", "--from", url, "--database", copy)
    assert words.startswith(second.path("dump"))
    assert "damaged" in words


def test_a_backup_of_a_newer_postgresql_or_of_newer_code(database, copy, url):
    made = backed_up(url)
    manifest.write(Store(url), dataclasses.replace(made, server_version="99.1"))
    major = connection.pg_version // 10_000
    assert refusal("dbrestore", "latest", "--from", url, "--database", copy) == (
        f"the backup {made.backup} is of PostgreSQL 99, and the server is PostgreSQL {major}. "
        "Restore it on PostgreSQL 99 or newer."
    )
    manifest.write(Store(url), dataclasses.replace(made, migrations=[*made.migrations, "tenancy.0099_from_tomorrow"]))
    assert "which has tenancy.0099_from_tomorrow; this code has not." in refusal(
        "dbrestore", "latest", "--from", url, "--database", copy
    )


def test_never_into_a_database_that_exists(database, copy, url, server):
    backed_up(url)
    with server.connect() as admin:
        admin.execute(f"CREATE DATABASE {copy}")
    for name in (database, copy):
        assert refusal("dbrestore", "latest", "--from", url, "--database", name) == (
            f"the database {name} exists already, and a backup is restored into a new one. Name another one; with "
            "--swap it takes the place of the one in use."
        )


@pytest.mark.parametrize("name", ["", "x" * 53, "ü" * 27])
def test_a_name_that_no_database_can_have(database, url, name):
    backed_up(url)
    assert "can be no name of a database" in refusal("dbrestore", "latest", "--from", url, "--database", name)


@pytest.mark.parametrize("lie", ["rows", "digest", "table", "catalogue"])
def test_a_copy_that_is_not_what_was_backed_up_is_dropped(database, copy, url, server, lie):
    """As if pg_dump, or COPY, had lost something in silence."""
    made = backed_up(url)
    tables = dict(made.tables)
    users = tables["public.users"]
    if lie == "rows":
        tables["public.users"] = dataclasses.replace(users, rows=users.rows + 1)
    if lie == "digest":
        tables["public.users"] = dataclasses.replace(users, digest="1")
    if lie == "table":
        tables["public.gone"] = users
    catalogue = "0" * 64 if lie == "catalogue" else made.catalogue_sha256
    manifest.write(Store(url), dataclasses.replace(made, tables=tables, catalogue_sha256=catalogue))
    words = {
        "rows": f"public.users has {users.rows} rows in the copy, and had {users.rows + 1} when the backup was made.",
        "digest": "the rows of public.users are not those that the backup was made of.",
        "table": "the table public.gone is in the backup alone. Do not use it.",
        "catalogue": "the copy's catalogue is not that of the database that the backup was made of.",
    }
    assert refusal("dbrestore", "latest", "--from", url, "--database", copy) == words[lie]
    assert databases(server, copy) == []


def test_no_backup(database, url, copy):
    assert refusal("dbrestore", "latest", "--from", url, "--database", copy) == (
        f"{url} has no backup of the database {database}. Make one: manage.py dbbackup"
    )
    assert "has no backup 20200101T000000Z-abcdef" in refusal(
        "dbrestore", "20200101T000000Z-abcdef", "--from", url, "--database", copy
    )


@pytest.mark.once
def test_killed_at_any_moment_nothing_has_the_name(database, copy, url, server):
    fill(megabytes=4)
    backed_up(url)
    arguments = ["dbrestore", "latest", "--database", copy]
    runs = Runs(arguments, DATABASE_URL=database_url(server, database), BACKUP_URL=url)
    for _ in range(6):
        with server.connect() as admin:
            for name in databases(server, copy):
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        runs.kill_one(0.3, 0.9)
        if copy in databases(server, copy):
            with server.connect(copy, "keyhub") as client:
                assert client.execute("SELECT count(*) FROM organizations WHERE id LIKE 'FILL%'").fetchone() == (184,)


# Swapping


def test_the_swap_is_one_step_for_those_who_connect(database, copy, url, server):
    backed_up(url)
    with connection.cursor() as cursor:
        # Its owner alone can: rows of the audit log are not deleted.
        cursor.execute("ALTER TABLE audit_logs DISABLE TRIGGER refuse_audit_logs_change; DELETE FROM audit_logs")
        cursor.execute("ALTER TABLE audit_logs ENABLE TRIGGER refuse_audit_logs_change")
    stop, counts, errors = threading.Event(), [], []

    def reader() -> None:
        while not stop.is_set():
            try:
                with server.connect(database, "keyhub") as client:
                    counts.append(client.execute("SELECT count(*) FROM audit_logs").fetchone()[0])
            except psycopg.Error as error:
                errors.append(error.sqlstate or str(error))

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        call_command("dbrestore", "latest", "--from", url, "--database", copy, "--swap")
    finally:
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join()
    # Who was connected was disconnected; who came in that moment was told what had happened.
    assert not [error for error in errors if "does not exist" in error and "just been dropped or renamed" not in error]
    assert set(counts) == {0, 3}
    kept = [name for name in databases(server, database) if "_replaced_" in name]
    assert len(kept) == 1
    assert copy not in databases(server, database)
    with server.connect(kept[0], "keyhub") as client:
        assert client.execute("SELECT count(*) FROM audit_logs").fetchone() == (0,)
    with server.connect() as admin:
        admin.execute(f"DROP DATABASE {kept[0]} WITH (FORCE)")


@pytest.mark.once
def test_somebody_whom_nobody_may_disconnect(database, copy, url, server, monkeypatch):
    monkeypatch.setattr("keyhub.dbrestore.database.SWAP_TRIES", 1)
    backed_up(url)
    with server.connect(database, "postgres"):
        words = refusal("dbrestore", "latest", "--from", url, "--database", copy, "--swap")
    assert words.startswith(f"the database {database} is still in use (")
    assert words.endswith("End its prepared transactions and replication slots, then swap by renaming.")
    assert databases(server, database) == [database, copy]


def test_no_swap_with_what_is_not_there(connected_to, database, url, copy):
    backed_up(url)
    with connected_to(f"{database}_nowhere"):
        words = refusal("dbrestore", "latest", "--from", url, "--database", copy, "--swap")
    assert words == f"{url} has no backup of the database {database}_nowhere. Make one: manage.py dbbackup"


# The loader of rows


class Script:
    def __init__(self, content: bytes, size: int):
        self._content, self._size = content, size

    def read(self, size: int) -> bytes:
        content, self._content = self._content[: self._size], self._content[self._size :]
        return content


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
def test_the_script_is_cut_anywhere(empty_database, server, size, monkeypatch):
    monkeypatch.setattr("keyhub.dbrestore.load.DEAL_BYTES", 16)
    script = (
        b"\\restrict x\nSET client_encoding = 'UTF8';\nCREATE TABLE t (a int, b text);\nCREATE TABLE u (a int);\n"
        b"COPY public.t (a, b) FROM stdin;\n1\tx\\\\.\n2\t\\N\n3\tCOPY t FROM stdin;\n"
        b"4\ta very long row, longer than a deal\n"
        b"\\.\n\nCOPY public.u (a) FROM stdin;\n\\.\n\nSELECT 1;\n\\unrestrict x\n"
    )
    with ScriptLoader(lambda: server.connect(empty_database, "keyhub"), 3) as loader:
        loader.run(Script(script, size))
    with server.connect(empty_database, "keyhub") as client:
        assert client.execute("SELECT * FROM t ORDER BY a").fetchall() == [
            (1, "x\\."), (2, None), (3, "COPY t FROM stdin;"), (4, "a very long row, longer than a deal"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (b"CREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n1\nx\n\\.\n", 'invalid input syntax for type integer: "x"'),
        (b"SELECT nonsense;\n", 'column "nonsense" does not exist'),
        (b"CREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n1\n2\n", "the archive ends within a table"),
    ],
)
def test_the_first_error_ends_it(empty_database, server, script, words):
    with (
        pytest.raises(BackupError, match=words),
        ScriptLoader(lambda: server.connect(empty_database, "keyhub"), 2) as loader,
    ):
        loader.run(Script(script, 1000))


def test_interrupted(database, copy, url, server, monkeypatch):
    backed_up(url)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring._Work, "compare", interrupt)
    with pytest.raises(CommandError) as caught:
        call_command("dbrestore", "latest", "--from", url, "--database", copy)
    assert (str(caught.value), caught.value.returncode) == ("interrupted; nothing half done was kept.", 130)
    assert databases(server, copy) == []
    assert "restored" not in connections.settings
