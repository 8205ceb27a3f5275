"""The site's lists and exports, read from standbys of the primary: docs/replicas.md.

router     where a query goes
standing   what a standby says of itself, beside what the primary says
patience   how long a standby is waited for
reading    which standby is read, and what is done where it fails
written    what a browser has written, as a place in the primary's log
"""

from keyhub.replicas.reading import read, read_for
from keyhub.replicas.router import ReplicaRouter
from keyhub.replicas.written import WrittenMiddleware, remember_writes

__all__ = ["ReplicaRouter", "WrittenMiddleware", "read", "read_for", "remember_writes"]
