"""The server of a benchmark: an embedded PostgreSQL of its own, gone afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyhub.embedded import EmbeddedServer


@contextmanager
def own_server() -> Iterator[tuple[EmbeddedServer, Path]]:
    """A running server, and a folder for what else a benchmark writes."""
    with tempfile.TemporaryDirectory(prefix="keyhub-benchmark-") as folder:
        server = EmbeddedServer(Path(folder) / "server")
        server.start()
        try:
            yield server, Path(folder)
        finally:
            server.stop()
