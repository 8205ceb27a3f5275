"""Real servers in temporary folders: made, killed, crowded, and refused with one sentence."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import psutil
import psycopg
import pytest

from keyhub import embedded
from keyhub.embedded import EmbeddedServer, EmbeddedServerError, as_root
from keyhub.embedded.as_root import SYSTEM_USER

# The server of the tests on the oldest PostgreSQL is itself one of these.
pytestmark = [pytest.mark.database, pytest.mark.once]

Value = TypeVar("Value")

REPOSITORY = Path(__file__).parent.parent
BIN_DIRECTORY = os.environ.get("KEYHUB_TEST_POSTGRES_BIN")
NOBODY = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")

START = "import sys; from pathlib import Path; from keyhub.embedded import EmbeddedServer; "
START += f"EmbeddedServer(Path(sys.argv[1]), {BIN_DIRECTORY!r} and Path({BIN_DIRECTORY!r})).start()"


def server_in(folder: Path) -> EmbeddedServer:
    return EmbeddedServer(folder, Path(BIN_DIRECTORY) if BIN_DIRECTORY else None)


@pytest.fixture
def parent() -> Iterator[Path]:
    with temporary_folder() as parent:
        yield parent


@pytest.fixture
def server(parent) -> EmbeddedServer:
    """A server that nobody has made yet."""
    return server_in(parent / "server")


@pytest.fixture(scope="module")
def made_server() -> Iterator[EmbeddedServer]:
    """A server that has run before, for tests that only start it again."""
    with temporary_folder() as parent:
        server = server_in(parent / "server")
        server.start()
        server.stop()
        yield server


@contextlib.contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """A folder that everybody may pass through, removed with all servers in it."""
    folder = Path(tempfile.mkdtemp(prefix="keyhub-embedded-", dir=place))
    folder.chmod(0o755)
    yield folder
    # Whoever is still dying may write, and a postmaster may just have started somebody.
    while left := postgres_in(folder):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    shutil.rmtree(folder)


def postgres_in(folder: Path) -> list[psutil.Process]:
    """The living processes of the servers in a folder."""
    found = []
    for process in psutil.process_iter():
        # It may be gone between two looks at it, or a zombie; a process without a cwd gives a FileNotFoundError.
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            if process.name() == "postgres" and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def start_process(server: EmbeddedServer, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", START, server.folder], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **options
    )


def manage_embedded(*arguments: str, **options) -> subprocess.CompletedProcess:
    return manage("embedded", *arguments, **options)


def manage(
    *arguments: str, url: str | None = None, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess:
    if folder is not None:
        url = f"embedded://{quote(str(folder))}" + (f"?bin={BIN_DIRECTORY}" if BIN_DIRECTORY else "")
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": url, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def postmaster_pid(server: EmbeddedServer) -> int:
    return int((server.folder / "data/postmaster.pid").read_text().splitlines()[0])


def owner_of_server() -> dict:
    """Arguments for subprocess: run as the user that PostgreSQL runs as."""
    return {"user": SYSTEM_USER, "group": SYSTEM_USER} if os.geteuid() == 0 else {}


def wait_for(condition: Callable[[], Value], timeout_s: float = 30) -> Value:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


def refusal(server: EmbeddedServer) -> str:
    with pytest.raises(EmbeddedServerError) as excinfo:
        server.start()
    return str(excinfo.value)


def cannot_run(server: EmbeddedServer, reason: str) -> str:
    return (
        f"the embedded PostgreSQL cannot run in {server.folder} ({reason}). "
        "Mend that, or name another folder in DATABASE_URL (embedded:///folder)."
    )


# Making it


def test_a_new_folder_gets_a_server_with_an_ordinary_role(server):
    assert server.start() is True
    with server.connect("keyhub", user="keyhub") as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreatedb, pg_encoding_to_char(encoding), current_setting('listen_addresses') "
            "FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"
        ).fetchone()
    assert row == (False, True, "UTF8", "")
    assert sorted(path.name for path in server.folder.iterdir()) == [
        ".s.PGSQL.5432",
        ".s.PGSQL.5432.lock",
        "data",
        "server.log",
    ]


def test_starting_and_stopping_say_whether_they_did_anything(server):
    assert server.stop() is False
    assert server.start() is True
    assert server.start() is False
    assert server.stop() is True
    assert server.stop() is False


def test_eight_processes_at_once_make_one_server(server):
    processes = [start_process(server) for _ in range(8)]
    assert [process.communicate()[1] for process in processes] == [""] * 8
    assert [process.returncode for process in processes] == [0] * 8
    log = (server.folder / "server.log").read_text()
    assert log.count("database system is ready to accept connections") == 1


@pytest.mark.parametrize("delay_s", [0, 0.1, 0.3])
def test_killed_in_the_middle_of_initdb(server, delay_s):
    killed = start_process(server)
    wait_for(lambda: server.folder.exists() and any(server.folder.glob("data.*")))
    time.sleep(delay_s)
    killed.kill()
    killed.communicate()
    server.start()
    server.connect("keyhub", user="keyhub").close()
    assert not list(server.folder.glob("data.*"))


def test_interrupted_by_ctrl_c(server, parent):
    command = subprocess.Popen(
        [sys.executable, "manage.py", "embedded", "start"],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": f"embedded://{server.folder}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: server.folder.exists() and any(server.folder.glob("data.*")))
    os.killpg(command.pid, signal.SIGINT)
    assert command.communicate() == ("", "keyhub: interrupted\n")
    assert command.returncode == 130
    assert list(server.folder.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        'sp ace \'single" \\ double " back`slash $HOME %41 日本語-é, #?;&|*',
        "deep/" * 60 + "folder",
    ],
    ids=["characters", "length"],
)
def test_any_name_of_a_folder_will_do(parent, name, monkeypatch):
    server = server_in(parent / name)
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    started = manage_embedded("start", folder=server.folder, TMPDIR=str(parent))
    assert (started.returncode, started.stderr) == (0, "")
    with server.connect("keyhub", user="keyhub") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("keyhub",)
    stopped = manage_embedded("stop", folder=server.folder, TMPDIR=str(parent))
    assert (stopped.returncode, stopped.stderr) == (0, "")


def test_the_alias_of_a_long_path_must_be_our_own(parent, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    server = server_in(parent / ("deep/" * 60) / "folder")
    alias = server.socket_directory.parent
    assert alias.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(alias)
    alias.symlink_to("/usr")  # in the way that another user would: a thing of the same name
    if os.geteuid() == 0:
        os.lchown(alias, pwd.getpwnam(NOBODY).pw_uid, -1)
        with pytest.raises(EmbeddedServerError) as excinfo:
            _ = server.socket_directory
        assert str(excinfo.value) == cannot_run(server, f"{alias}, where its socket must go, belongs to somebody else")


def test_an_empty_folder_is_closed_to_others(server):
    server.folder.mkdir(mode=0o755)
    server.start()
    assert server.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("foreign", ["notes.txt", "data/notes.txt", "data.new/notes.txt"])
def test_foreign_files_are_left_alone(server, foreign):
    path = server.folder / foreign
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    before = server.folder.stat()
    assert refusal(server) == (
        f"{server.folder} is not empty and holds no server of KeyHub's ({foreign.split('/')[0]} is in the way). "
        "Name an empty or a new folder in DATABASE_URL."
    )
    assert path.read_text() == "mine"
    assert [path.name for path in server.folder.iterdir()] == [foreign.split("/")[0]]
    after = server.folder.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_a_file_in_place_of_the_folder(server):
    server.folder.write_text("mine")
    assert refusal(server) == cannot_run(server, "File exists")
    assert server.folder.read_text() == "mine"


@pytest.mark.parametrize("version", ["14", "9.6", ""])
def test_data_of_another_major_version_is_left_alone(server, version):
    (server.folder / "data").mkdir(parents=True)
    (server.folder / "data/PG_VERSION").write_text(f"{version}\n")
    ours = "15" if BIN_DIRECTORY else "18"
    assert refusal(server) == (
        f"{server.folder} was made by PostgreSQL {version}, and the programs here are PostgreSQL {ours}. "
        "Name another folder in DATABASE_URL, or give the old programs by `?bin=`."
    )


def test_bin_without_programs(server, parent):
    with pytest.raises(EmbeddedServerError) as excinfo:
        EmbeddedServer(server.folder, parent).start()
    assert str(excinfo.value) == (
        f"PostgreSQL's program {parent}/postgres does not exist. Correct `?bin=` in DATABASE_URL, or leave it out."
    )
    assert not server.folder.exists()


@pytest.mark.parametrize(("script", "mode"), [("#!/bin/sh\necho hello\n", 0o755), ("nonsense", 0o755), ("", 0o644)])
def test_bin_with_other_programs(server, parent, script, mode):
    (parent / "postgres").write_text(script)
    (parent / "postgres").chmod(mode)
    with pytest.raises(EmbeddedServerError) as excinfo:
        EmbeddedServer(server.folder, parent).start()
    assert str(excinfo.value) == (
        f"{parent}/postgres is no PostgreSQL that runs here. Correct `?bin=` in DATABASE_URL, or leave it out."
    )
    assert not server.folder.exists()


# Killed


@pytest.mark.once
def test_postmaster_killed_while_a_backend_is_busy(server):
    server.start()
    with server.connect("keyhub", user="keyhub") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
    busy = server.connect()
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000000)")
    with server.connect() as watch:
        state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
        wait_for(lambda: watch.execute(state, [busy.info.backend_pid]).fetchone() == ("active",))
    os.kill(postmaster_pid(server), signal.SIGKILL)
    assert server.start() is True  # the query would run for days
    busy.close()
    with server.connect("keyhub", user="keyhub") as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (1,)


def test_a_backend_that_does_not_heed_the_end_of_its_server(made_server, monkeypatch):
    monkeypatch.setattr(embedded, "QUIT_TIMEOUT_S", 0.1)
    made_server.start()
    with made_server.connect() as connection:
        backend = psutil.Process(connection.info.backend_pid)
        backend.suspend()
        os.kill(postmaster_pid(made_server), signal.SIGKILL)
        assert made_server.start() is True
        assert backend.pid not in [process.pid for process in postgres_in(made_server.folder)]
    made_server.stop()


@pytest.mark.parametrize("content", ["", "\n", "nonsense\n", "12", "-1\n", "999999999\n", "99999999999999999999\n"])
def test_broken_lock_files(made_server, content):
    _write_lock_files(made_server, content)
    (made_server.folder / ".s.PGSQL.5432").touch()
    assert made_server.start() is True
    made_server.stop()


def test_lock_files_with_the_number_of_another_program(made_server):
    made_server.start()
    numbers = (made_server.folder / "data/postmaster.pid").read_text().splitlines(keepends=True)
    os.kill(postmaster_pid(made_server), signal.SIGKILL)
    wait_for(lambda: not postgres_in(made_server.folder))
    # One that would die of the signal by which a server is stopped.
    innocent = subprocess.Popen(["sleep", "60"], **owner_of_server())
    _write_lock_files(made_server, "".join([f"{innocent.pid}\n", *numbers[1:]]))
    assert made_server.stop() is False
    assert made_server.start() is True
    made_server.stop()
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def _write_lock_files(server: EmbeddedServer, content: str) -> None:
    for lock_file in (server.folder / "data/postmaster.pid", server.folder / ".s.PGSQL.5432.lock"):
        lock_file.write_text(content)
        shutil.chown(lock_file, server.folder.stat().st_uid)


def test_started_while_an_abandoned_server_is_still_starting(made_server):
    for _ in range(5):
        killed = start_process(made_server)
        wait_for((made_server.folder / "data/postmaster.pid").exists)
        killed.kill()
        killed.communicate()
        made_server.start()
        made_server.connect("keyhub", user="keyhub").close()
        made_server.stop()


def test_killed_while_it_is_awaited(server):
    server.start()
    server.stop()
    (server.folder / "data/recovery.signal").touch()  # a start that takes its time
    with (server.folder / "data/postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'sleep 10'\n")
    starter = start_process(server)
    wait_for(lambda: server.postmaster() is not None)
    os.kill(postmaster_pid(server), signal.SIGKILL)
    assert starter.communicate()[1].splitlines()[-1] == (
        f"keyhub.embedded.EmbeddedServerError: the embedded PostgreSQL in {server.folder} does not start "
        f"(it was ended by SIGKILL). Its log is {server.folder}/server.log."
    )


def child_with_title(postmaster: psutil.Process, word: str) -> psutil.Process | None:
    for child in postmaster.children():
        with contextlib.suppress(psutil.Error):  # a backend that has just ended
            if word in "".join(child.cmdline()):
                return child
    return None


@pytest.mark.once
def test_started_while_a_shutdown_hangs(made_server, monkeypatch):
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 7)  # PostgreSQL's own "immediate" end takes 5
    made_server.start()
    postmaster = psutil.Process(postmaster_pid(made_server))
    checkpointer = wait_for(lambda: child_with_title(postmaster, "checkpointer"))
    checkpointer.suspend()
    postmaster.send_signal(signal.SIGINT)
    wait_for(lambda: "stopping" in (made_server.folder / "data/postmaster.pid").read_text())
    assert made_server.start() is True
    assert postmaster_pid(made_server) != postmaster.pid
    made_server.stop()


# No room, no right


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def can_mount() -> bool:
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        mount = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if mount.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return mount.returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="only root, where it may mount, can do this")
NO_ROOM = (
    r"the embedded PostgreSQL (cannot run in|in) /\S+ (does not start )?\([^\n]*No space left on device\)\. [^\n]+"
)


@needs_mount
@pytest.mark.parametrize("size", ["4k", "1m", "20m", "38m", "40m"])
def test_full_filesystem_while_it_is_made(parent, size):
    server = server_in(parent / "disk/server")
    with mounted(parent / "disk", f"size={size}"):
        assert re.fullmatch(NO_ROOM, refusal(server))
        server.stop()
        assert not list(server.folder.glob("data.*"))
        subprocess.run(["mount", "-o", "remount,size=200m", parent / "disk"], check=True)
        server.start()
        server.connect("keyhub", user="keyhub").close()
        server.stop()


@needs_mount
def test_full_filesystem_when_it_is_started_again(parent):
    server = server_in(parent / "disk/server")
    with mounted(parent / "disk", "size=100m"):
        server.start()
        server.stop()
        filler = parent / "disk/filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert re.fullmatch(NO_ROOM, refusal(server))
        filler.unlink()
        server.start()
        server.stop()


@needs_mount
def test_read_only_filesystem(parent):
    server = server_in(parent / "disk/server")
    with mounted(parent / "disk", "size=100m"):
        subprocess.run(["mount", "-o", "remount,ro", parent / "disk"], check=True)
        assert refusal(server) == cannot_run(server, "Read-only file system")
        subprocess.run(["mount", "-o", "remount,rw", parent / "disk"], check=True)
        server.start()
        server.stop()
        subprocess.run(["mount", "-o", "remount,ro", parent / "disk"], check=True)
        assert refusal(server) == cannot_run(server, "Read-only file system")


# Whose it is


class Ordinary:
    """An ordinary user: the one who runs the tests or, where that is root, nobody."""

    def __init__(self):
        self.is_somebody_else = os.geteuid() == 0
        self.name = NOBODY if self.is_somebody_else else pwd.getpwuid(os.geteuid()).pw_name
        user = pwd.getpwnam(self.name)
        self.user_id = user.pw_uid
        self.options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if self.is_somebody_else else {}
        self.python = next(filter(self._runs, (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")), None)

    def run_python(self, *arguments, python: str | None = None) -> subprocess.CompletedProcess:
        packages = Path(psycopg.__file__).parents[1]
        return subprocess.run(
            [python or self.python, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            **self.options,
        )

    def _runs(self, python: str) -> bool:
        with contextlib.suppress(OSError):
            return self.run_python("-c", "import psutil, keyhub.embedded", python=python).returncode == 0
        return False


@pytest.fixture(scope="module")
def ordinary() -> Ordinary:
    ordinary = Ordinary()
    if ordinary.python is None:
        pytest.skip(f"no Python of this machine lets the user {ordinary.name} run this checkout")
    return ordinary


def test_a_folder_of_another_user(ordinary):
    result = ordinary.run_python("-c", START, "/usr")
    assert result.stderr.splitlines()[-1] == (
        "keyhub.embedded.EmbeddedServerError: the embedded PostgreSQL cannot run in /usr (it belongs to root). "
        "Mend that, or name another folder in DATABASE_URL (embedded:///folder)."
    )


def test_a_folder_that_may_not_be_made(ordinary):
    result = ordinary.run_python("-c", START, "/usr/keyhub")
    assert result.stderr.splitlines()[-1] == (
        "keyhub.embedded.EmbeddedServerError: the embedded PostgreSQL cannot run in /usr/keyhub (Permission denied). "
        "Mend that, or name another folder in DATABASE_URL (embedded:///folder)."
    )


@needs_root
def test_root_serves_by_a_system_user_and_opens_only_what_stops_it(server, parent, capfd):
    parent.chmod(0o700)
    server.start()
    assert capfd.readouterr().err == (
        f"keyhub: other users may now pass through {parent} (chmod o+x), because the embedded PostgreSQL must not run "
        f"as root and runs as {SYSTEM_USER}.\n"
    )
    assert parent.stat().st_mode & 0o777 == 0o701
    assert psutil.Process(postmaster_pid(server)).username() == SYSTEM_USER
    assert {path.owner() for path in server.folder.rglob("*")} == {SYSTEM_USER}
    server.stop()
    server.start()
    assert capfd.readouterr().err == ""


@needs_root
@pytest.mark.once
def test_root_and_the_owner_take_turns(parent, ordinary, capfd):
    parent.chmod(0o700)
    os.chown(parent, ordinary.user_id, -1)
    server = server_in(parent / "server")
    server.folder.mkdir(mode=0o700)
    os.chown(server.folder, ordinary.user_id, -1)
    server.start()  # root
    assert capfd.readouterr().err == ""
    assert parent.stat().st_mode & 0o777 == 0o700
    assert psutil.Process(postmaster_pid(server)).username() == ordinary.name
    for action in ("stop", "start", "start"):
        result = ordinary.run_python("-c", START.replace("start()", f"{action}()"), server.folder)
        assert (result.returncode, result.stderr) == (0, "")
    server.stop()  # root
    result = ordinary.run_python("-c", START, server.folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert {path.owner() for path in server.folder.rglob("*")} == {ordinary.name}


@needs_root
def test_other_users_cannot_reach_the_server(server, ordinary):
    server.start()
    code = f"import psycopg; psycopg.connect(host={str(server.socket_directory)!r}, user='postgres')"
    assert "Permission denied" in ordinary.run_python("-c", code).stderr
    server.folder.chmod(0o755)  # the socket has a lock of its own
    assert "Permission denied" in ordinary.run_python("-c", code).stderr


@needs_root
def test_a_folder_of_a_user_without_a_name(server):
    server.folder.mkdir()
    os.chown(server.folder, 54321, -1)
    assert refusal(server) == cannot_run(server, "it belongs to the user id 54321, which has no name on this machine")


@needs_root
def test_eight_processes_at_once_make_one_system_user():
    name = f"keyhub-test-{os.getpid()}"
    code = (
        f"from keyhub.embedded import as_root; as_root.SYSTEM_USER = {name!r}; "
        "print('ready', flush=True); input(); print(as_root.system_user_id())"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, **pipes) for _ in range(8)]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate()[0] for process in processes]
        assert outputs == [f"{pwd.getpwnam(name).pw_uid}\n"] * 8
    finally:
        subprocess.run(["userdel", name], check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})


@needs_root
def test_the_system_user_cannot_be_made(server, monkeypatch):
    monkeypatch.setattr(as_root, "SYSTEM_USER", "no:name")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")  # as after `su`
    reason = "PostgreSQL must not run as root, and the user no:name cannot be made: useradd: invalid user name"
    assert refusal(server).startswith(cannot_run(server, reason).partition(")")[0])
    assert list(server.folder.iterdir()) == []


# The command


@pytest.mark.once
def test_command(server, monkeypatch):
    folder = server.folder

    def told(result: subprocess.CompletedProcess) -> tuple[int, str, str]:
        return result.returncode, result.stdout, result.stderr

    stopped = f"The embedded PostgreSQL in {folder} is stopped.\n"
    assert told(manage_embedded("status", folder=folder)) == (3, stopped, "")
    assert not folder.exists()
    assert told(manage_embedded("start", folder=folder)) == (
        0,
        f"The embedded PostgreSQL in {folder} has started.\n",
        "",
    )
    running = f"The embedded PostgreSQL in {folder} runs: psql -h {folder} -U keyhub keyhub\n"
    assert told(manage_embedded("status", folder=folder)) == (0, running, "")
    assert told(manage_embedded("start", folder=folder)) == (0, running, "")
    assert told(manage_embedded("stop", folder=folder)) == (
        0,
        f"The embedded PostgreSQL in {folder} has stopped.\n",
        "",
    )
    assert told(manage_embedded("stop", folder=folder)) == (0, stopped, "")


@pytest.mark.parametrize(
    "variable",
    [
        {"PGHOSTADDR": "127.0.0.1"},
        {"PGSERVICE": "nowhere"},
        {"PGTARGETSESSIONATTRS": "read-only"},
        {"PGREQUIREAUTH": "scram-sha-256"},
    ],
    ids=lambda variable: next(iter(variable)),
)
def test_what_a_shell_tells_libpq_does_not_lead_astray(made_server, variable):
    result = manage_embedded("start", folder=made_server.folder, **variable)
    assert (result.returncode, result.stderr) == (0, "")
    assert made_server.stop() is True


def test_dbshell_starts_the_server_and_asks_it(made_server):
    result = manage("dbshell", "--", "-AtXc", "SELECT current_user", folder=made_server.folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, "keyhub\n", "")
    assert made_server.stop() is True


def test_command_without_an_embedded_server():
    result = manage_embedded("stop", url="postgres://keyhub@db.example.com/keyhub")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "CommandError: DATABASE_URL names a server of your own, not an embedded one: start and stop it by its own "
        "means, or set DATABASE_URL to embedded:///folder.\n"
    )


def test_command_with_a_fault(parent):
    (parent / "notes.txt").touch()
    result = manage_embedded("start", folder=parent)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == (
        f"keyhub: the database cannot be reached: {parent} is not empty and holds no server of KeyHub's (notes.txt is "
        "in the way). Name an empty or a new folder in DATABASE_URL.\n"
    )
