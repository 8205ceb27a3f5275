"""An S3-compatible server over HTTP, and a network that can be cut on the way to it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import requests
from moto.server import ThreadedMotoServer

BUCKET = "keyhub-backups"


@dataclass(frozen=True)
class ObjectStore:
    """One server with one bucket."""

    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What obstore reads, as every client of S3 does."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    @property
    def client(self):
        return boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def paths(self) -> list[str]:
        return [item["Key"] for item in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def ask_for_credentials(self) -> None:
        """From now on a client must be known, and none is."""
        requests.post(f"http://127.0.0.1:{self.port}/moto-api/reset-auth", data=b"0", timeout=10)


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        store = ObjectStore(server.get_host_and_port()[1])
        store.client.create_bucket(Bucket=BUCKET)
        yield store
    finally:
        requests.post(f"http://127.0.0.1:{store.port}/moto-api/reset-auth", data=b"inf", timeout=10)
        requests.post(f"http://127.0.0.1:{store.port}/moto-api/reset", timeout=10)
        server.stop()


class Wire:
    """A port of its own that leads to another one, until so many bytes went through: then everything is cut."""

    def __init__(self, port: int, cut_after_bytes: int):
        self._port, self._left = port, cut_after_bytes
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.is_cut:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                with self._lock:
                    self._left -= len(content)
                if self._left < 0:
                    self.cut()
                    return
                sink.sendall(content)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        self.is_cut = True
        for end in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
