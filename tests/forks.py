"""Runs in forks of a process that has loaded Django once, so that many can be killed (SIGKILL) on their way."""

import os
import signal
from collections.abc import Callable


def forked(run: Callable[[int], object]) -> tuple[bool, bytes]:
    """Run it in a fork, with the writing end of a pipe; whether it came to its end, and what it told by then.

    An error ends the fork as it would end any program, with its traceback; here it fails an assertion.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        run(writing)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False, told
    assert os.WEXITSTATUS(status) == 0, f"a run exited with {os.WEXITSTATUS(status)}"
    return True, told
