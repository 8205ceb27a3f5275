"""Django's PostgreSQL backend for an embedded server: whoever connects first starts it."""

import psycopg
from django.db.backends.postgresql import base

from keyhub.embedded import PORT, EmbeddedServer


class DatabaseWrapper(base.DatabaseWrapper):
    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(**self.settings_dict["EMBEDDED"])

    def get_connection_params(self) -> dict:
        socket_directory = str(self.server.socket_directory)
        return {**super().get_connection_params(), "host": socket_directory, "port": PORT}

    def get_new_connection(self, conn_params: dict) -> psycopg.Connection:
        try:
            return super().get_new_connection(conn_params)
        except psycopg.OperationalError:
            self.server.start()
            return super().get_new_connection(conn_params)
