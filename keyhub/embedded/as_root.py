"""What root does so that an embedded server can run as somebody else, since PostgreSQL refuses to run as root."""

import contextlib
import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

SYSTEM_USER = "keyhub-postgres"


def system_user_id() -> int:
    """Return the id of the system user that serves root's folders; make the user where it is missing."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER).pw_uid
    # `su` without a dash leaves root with a PATH that lacks it.
    useradd = shutil.which("useradd", path=f"{os.defpath}:/usr/sbin:/sbin")
    if useradd is None:
        raise OSError(f"PostgreSQL must not run as root, and there is no useradd to make the user {SYSTEM_USER}")
    with open(useradd, "rb") as lock:
        # Two useradd at once both succeed, and the second gives the user of the first another id.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER).pw_uid
        command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0:
        reason = " ".join(result.stderr.split())
        raise OSError(f"PostgreSQL must not run as root, and the user {SYSTEM_USER} cannot be made: {reason}")
    return pwd.getpwnam(SYSTEM_USER).pw_uid


def user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"the user id {user_id}"


def identity(user_id: int) -> dict:
    """Return the arguments by which subprocess runs a program as a user."""
    try:
        user = pwd.getpwuid(user_id)
    except KeyError:
        raise OSError(f"it belongs to the user id {user_id}, which has no name on this machine") from None
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return {"user": user_id, "group": user.pw_gid, "extra_groups": groups}


def let_pass(directories: list[Path], user_id: int) -> None:
    """Let a user pass through to `directories`: o+x on those folders above them that stop the user, and no others."""
    opened = []
    for directory in directories:
        for ancestor in reversed(directory.resolve().parents):
            mode = ancestor.stat().st_mode
            if not mode & stat.S_IXOTH and not _may_pass(ancestor, user_id):
                ancestor.chmod(mode | stat.S_IXOTH)
                opened.append(str(ancestor))
    if opened:
        print(  # noqa: T201
            f"keyhub: other users may now pass through {', '.join(opened)} (chmod o+x), because the embedded "
            f"PostgreSQL must not run as root and runs as {user_name(user_id)}.",
            file=sys.stderr,
        )


def _may_pass(directory: Path, user_id: int) -> bool:
    return subprocess.run(["test", "-x", directory], check=False, **identity(user_id)).returncode == 0  # noqa: S603, S607


def open_to_all(directory: Path) -> None:
    """Let everybody read what a strict umask has installed for root alone."""
    if not directory.is_dir() or directory.stat().st_mode & stat.S_IROTH:
        return
    # The folder itself last: an interruption must not leave the rest closed behind an open door.
    for path in (*directory.rglob("*"), directory):
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
