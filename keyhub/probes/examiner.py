"""dbhealth on a connection of its own, which another thread can cut."""

import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub import dbhealth
from keyhub.dbhealth import allowances
from keyhub.dbhealth.examination import Selection, known_ids
from keyhub.placement import State

CONNECT_TIMEOUT_S = 2  # the least that libpq takes, for each address


class Examiner:
    """Runs checks of dbhealth on one database, in one thread at a time.

    Where `keeps_connection`, a healthy one stays open for the next run: with two servers in DATABASE_URL, the first of
    them switched off, each new one takes longer than a probe waits.
    """

    def __init__(self, patience_s: float, keeps_connection: bool, database: str = DEFAULT_DB_ALIAS):
        self._database = database
        self._patience_s, self._keeps_connection = patience_s, keeps_connection
        self._connection: BaseDatabaseWrapper | None = None
        self._socket: socket.socket | None = None
        self._socket_lock = Lock()
        self._asks_since_s = 0.0

    def report(self, selection: Selection, state: State | None = None) -> dbhealth.Report:
        """What dbhealth finds, but for what the allow-list beside manage.py lets pass; `state` is as of dbhealth.run().

        Raises django.db.utils.DatabaseError where the database cannot be asked.
        """
        path = settings.BASE_DIR / allowances.FILE_NAME
        allowed = allowances.read(path, known_ids()) if path.exists() else []
        keeps_connection = False
        try:
            self._connect()
            report = dbhealth.run(self._database, selection, state=state)
            # After a finding the next run begins anew: a server that was demoted stays one as long as it is asked.
            keeps_connection = self._keeps_connection and not report.findings
        finally:
            if not keeps_connection:
                self._close()
        allowances.apply(report, allowed, datetime.now(UTC).date())
        return report

    def cut(self) -> None:
        """Make a run fail that has asked the server for longer than `patience_s`.

        One that is connecting is let be: it ends by itself, after CONNECT_TIMEOUT_S, or finds the next server.
        """
        with self._socket_lock, suppress(OSError):
            if self._socket is not None and time.monotonic() - self._asks_since_s > self._patience_s:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        """Make the connection this thread's, and open it where it is not, or not any more."""
        if self._connection is None:
            self._connection = connections.create_connection(self._database)
            options = {**self._connection.settings_dict["OPTIONS"], "connect_timeout": CONNECT_TIMEOUT_S}
            self._connection.settings_dict = {
                **self._connection.settings_dict,
                "OPTIONS": {**options, "application_name": "keyhub probe"},
            }
            self._connection.inc_thread_sharing()
        connections[self._database] = self._connection
        self._asks_since_s = time.monotonic()
        if self._connection.connection is not None and not self._connection.is_usable():
            self._close()
        if self._connection.connection is None:
            self._connection.ensure_connection()
            with self._socket_lock:
                # One of our own: libpq's may be closed, and its number be another's, when it is cut.
                self._socket = socket.socket(fileno=os.dup(self._connection.connection.fileno()))
                self._asks_since_s = time.monotonic()

    def _close(self) -> None:
        with self._socket_lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        if self._connection is not None:
            self._connection.close()
