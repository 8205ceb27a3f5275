"""Django's PostgreSQL backend for an embedded server: whoever connects first starts it."""

import os

import psycopg
from django.db.backends.postgresql import base, client

from keyhub.embedded import PORT, EmbeddedServer

# What a shell tells libpq about other servers leads astray: PGHOSTADDR to one of them, PGSERVICE to a file.
for name in [name for name in os.environ if name.startswith("PG")]:
    del os.environ[name]


class DatabaseClient(client.DatabaseClient):
    """`manage.py dbshell`, with the server's own psql."""

    def settings_to_cmd_args_env(self, settings_dict, parameters):
        server = self.connection.server
        server.start()
        place = {"HOST": str(server.socket_directory), "PORT": str(PORT)}
        (_, *arguments), environment = super().settings_to_cmd_args_env({**settings_dict, **place}, parameters)
        return [server.program("psql"), *arguments], environment


class DatabaseWrapper(base.DatabaseWrapper):
    client_class = DatabaseClient

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
