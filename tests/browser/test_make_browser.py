"""`make browser`: brings Chromium where it can, and stops nobody where it cannot."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.once

SKIPPED = "There is no Chromium here, and it could not be installed: the tests of the site in a browser are skipped.\n"
INSTALLING = "Installing Chromium, for the tests of the site …\n"
APT_GET = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
[ "$1" != install ] || {install}
"""


def make_browser(programs: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [shutil.which("make"), "browser"],
        cwd=REPOSITORY,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def programs(tmp_path) -> Path:
    """All programs that there are: those of a shell, and an `id` that says root."""
    for name in ("sh", "dirname", "cp", "chmod"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return write(tmp_path / "id", "#!/bin/sh\necho 0\n").parent


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_browser_that_runs_is_enough(programs):
    write(programs / "apt-get", APT_GET.format(install="false"))
    write(programs / "google-chrome", "#!/bin/sh\n")
    result = make_browser(programs)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not (programs / "asked").exists()


def test_where_there_is_none_it_is_installed(programs):
    write(programs / "chromium-browser", "#!/bin/sh\nexit 1\n")  # the stub that asks for snap
    install = 'cp "$(dirname "$0")/id" "$(dirname "$0")/chromium"'
    write(programs / "apt-get", APT_GET.format(install=install))
    result = make_browser(programs)
    assert (result.returncode, result.stdout, result.stderr) == (0, INSTALLING, "")
    assert (programs / "asked").read_text() == "update -qq\ninstall -y -qq --no-install-recommends chromium\n"


def test_where_it_cannot_be_installed_the_tests_go_on_without(programs):
    write(programs / "apt-get", APT_GET.format(install="false"))
    result = make_browser(programs)
    assert (result.returncode, result.stdout, result.stderr) == (0, INSTALLING + SKIPPED, "")


def test_who_is_not_root_is_told(programs):
    write(programs / "apt-get", APT_GET.format(install="false"))
    write(programs / "id", "#!/bin/sh\necho 1000\n")
    result = make_browser(programs)
    assert (result.returncode, result.stdout, result.stderr) == (0, SKIPPED, "")
    assert not (programs / "asked").exists()
