"""How long a standby is waited for: a frozen one is known by its silence alone, which no setting of the server ends."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

ANSWER_S = 1.0  # of a SELECT without a table


def answering(alias: str) -> BaseDatabaseWrapper:
    """The thread's connection to a replica, made anew where the kept one is silent or dead. Raises django.db.Error.

    A new one is waited for as `connect_timeout` says.
    """
    connection = connections[alias]
    if connection.connection is not None:
        with cut_after(ANSWER_S, connection):
            is_usable = connection.is_usable()
        if not is_usable:
            connection.close()
    connection.ensure_connection()
    connection.health_check_done = True  # of CONN_HEALTH_CHECKS, which would wait for ever
    return connection


@contextmanager
def one_transaction(connection: BaseDatabaseWrapper, patience_s: float) -> Iterator[None]:
    """A transaction, cut after the patience; after an error nothing more is asked by this connection."""
    with cut_after(patience_s, connection), transaction.atomic(using=connection.alias):
        try:
            yield
        except Error:
            # Where the ROLLBACK fails, Django connects anew at once: to a frozen server, and waits again.
            connection.close()
            raise


@contextmanager
def cut_after(seconds: float, connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let what waits for the server fail with a django.db.Error when the time is over."""
    # One of our own: libpq's may be closed, and its number be another's, when it is cut.
    own = socket.socket(fileno=os.dup(connection.connection.fileno()))

    def cut() -> None:
        with suppress(OSError):
            own.shutdown(socket.SHUT_RDWR)

    timer = Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        own.close()
