"""The roles that a backup speaks of, which belong to a server and not to a database."""

import psycopg

from keyhub.dbbackup.errors import BackupError


def missing(connection: psycopg.Connection, names: list[str]) -> list[str]:
    rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [names]).fetchall()
    return sorted(set(names) - {name for (name,) in rows})


def refuse_missing(connection: psycopg.Connection, names: list[str], backup: str) -> None:
    """Raise BackupError where the server lacks one."""
    if lacking := missing(connection, names):
        raise BackupError(
            f"the backup {backup} names the role{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}, which this "
            "server does not have. Create what is missing from the backup itself: dbrestore --create-roles"
        )


def create_missing(connection: psycopg.Connection, names: list[str], script: str) -> list[str]:
    """Create the roles that the server lacks as `script`, the output of pg_dumpall, describes them: without passwords.

    In one transaction. Raises BackupError.
    """
    lacking = missing(connection, names)
    script_lines = script.splitlines()
    with connection.transaction():
        for kind in ("CREATE ROLE {name};", "ALTER ROLE {name} ", "GRANT "):
            for role in lacking:
                name = connection.execute("SELECT quote_ident(%s)", [role]).fetchone()[0]
                start = kind.format(name=name)
                for line in script_lines:
                    of_role = f" TO {name} " in f"{line.rstrip(';')} " if kind == "GRANT " else True
                    if line.startswith(start) and of_role:
                        _execute(connection, line, role)
    if still := missing(connection, lacking):
        raise BackupError(f"the backup does not describe the role {still[0]}. Create it by hand.")
    return lacking


def _execute(connection: psycopg.Connection, line: str, role: str) -> None:
    try:
        connection.execute(line.encode())
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise BackupError(
            f"the role {role} could not be created: {reason}. Create it by hand, or connect as a role that may."
        ) from error
