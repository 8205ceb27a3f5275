"""Runs `auditpartitions retire` again and again, each time killed (SIGKILL) one step later, to its end.

    python -m tests.audit.retirement_killer OPTIONS      kills; after each kill no row is missing, and none there twice

A step is a statement, or something that is asked of the store. Django is loaded once; each run is a fork of this
process, which has no connection. Prints, as JSON, the steps before which a run was killed.
"""

import gc
import json
import os
import signal
import sys
from functools import partial

import django
from django.db import connection

from tests.forks import forked


def main(*arguments: str) -> int:
    django.setup()
    from audit import archives, retirement  # noqa: F401 what each fork would load anew
    from audit.management.commands import auditpartitions  # noqa: F401

    gc.collect()
    _, everything = forked(_tell_ids)
    killed: list[str] = []
    while True:
        ended, step = forked(partial(_run, arguments, killed))
        if ended:
            break
        killed.append(step.decode())
        _, found = forked(_tell_ids)
        assert found == everything, f"rows are missing, or there twice, after {killed[-1]}"
    print(json.dumps(killed))  # noqa: T201
    return 0


def _run(arguments, killed: list[str], pipe: int) -> None:
    from django.core.management import call_command

    from keyhub import store

    def step(name: str) -> None:
        if name not in killed:
            os.write(pipe, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def before(execute, sql, params, many, context):
        step(sql if isinstance(sql, str) else sql.as_string())
        return execute(sql, params, many, context)

    def counted(method):
        def asked(self, *args):
            path = self.path if isinstance(self, store.Writer) else args[0]
            # A new name each time, and many megabytes in many writes.
            step(f"{method.__name__} {path.partition('names-')[0]}")
            return method(self, *args)

        return asked

    for owner, name in (
        (store.Store, "put"), (store.Store, "chunks"), (store.Store, "_sync"), (store.Writer, "write"),
    ):  # fmt: skip
        setattr(owner, name, counted(getattr(owner, name)))
    connection.execute_wrappers.append(before)
    with open(os.devnull, "w") as nowhere:
        call_command("auditpartitions", "retire", *arguments, stdout=nowhere)


def _tell_ids(pipe: int) -> None:
    """Tell the ids of all rows: in audit_logs, in months that were detached, in the archives of those dropped."""
    import pyarrow.parquet as pq
    from django.conf import settings

    from audit.models import AuditArchive, AuditLog
    from keyhub.store import Store

    ids = [str(key) for key in AuditLog.objects.values_list("pk", flat=True)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname ~ '_retired$' AND relkind = 'r'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT id FROM {table}")
            ids += [str(key) for (key,) in cursor.fetchall()]
    store = Store(settings.AUDIT_ARCHIVE_URL)
    for archive in AuditArchive.objects.filter(dropped_at__isnull=False):
        content = b"".join(store.chunks(f"{archive.folder}/rows.parquet"))
        with open(os.memfd_create("rows"), "w+b") as file:
            file.write(content)
            file.flush()
            ids += pq.read_table(file, columns=["id"])["id"].to_pylist()
    os.write(pipe, json.dumps(sorted(ids)).encode())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
