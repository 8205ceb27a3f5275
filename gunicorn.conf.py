"""How gunicorn serves the site: run `gunicorn` in this folder. docs/serving.md explains it; the command line wins.

gunicorn itself reads WEB_CONCURRENCY (workers) and PORT.
"""

import os
import signal
import sys
from pathlib import Path

wsgi_app = "keyhub.wsgi"

# Pages wait for the database most of the time, so threads serve them in little memory; a second process goes on while
# the first is replaced or killed, and uses the second core. 2 * 4 requests at once, and as many connections.
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
threads = 4
# Once, before the workers: they share its memory, and a setting at fault ends the start, not one worker after another.
preload_app = True

# What a library leaks goes with its worker; the jitter keeps the workers from going at once.
max_requests = 10_000
max_requests_jitter = 1_000
# A request may take this long when its worker is told to end. Docker and systemd must wait longer before they kill.
graceful_timeout = 30
# Longer than the 60 s for which proxies keep idle connections: who closes first must not be the one who is written to.
keepalive = 75
# Heartbeats are written to a file: in memory, where no slow disk holds them up and kills the worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
# An interface for gunicornc in the home folder, which nobody uses and a read-only container does not have.
control_socket_disable = True

# Whom to believe about HTTPS is said in one place, Django's settings: BEHIND_TLS_PROXY.
forwarded_allow_ips = ""

errorlog = "-"
accesslog = "-"
# The path without its query, where a search for a person would stand.
access_log_format = '%(h)s %({x-forwarded-for}i)s "%(m)s %(U)s %(H)s" %(s)s %(B)s %(M)sms'

if not (Path(__file__).parent / "staticfiles" / "staticfiles.json").exists():
    sys.exit("keyhub: the static files are not collected. Run manage.py collectstatic first.")


def post_worker_init(worker) -> None:
    """Let Ctrl-C end a worker at once. SIGTERM, the graceful end, stays gunicorn's.

    A terminal's Ctrl-C reaches the workers too, and the master passes it on as SIGQUIT: gunicorn's handler, interrupted
    by itself, can wait for its own lock. And Python would wait for the threads, a thread for the idle connections that
    browsers open ahead: half a minute, until the master kills it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, lambda *_: os._exit(0))
