"""What must outlive the rows that it speaks of."""

import re
from collections.abc import Iterator

from keyhub.lintmigrations.findings import Complaint
from keyhub.lintmigrations.rules.registry import History, on_history

_EVIDENCE = re.compile(r"(?:^|_)(?:audit|logs?|ledger|history)(?:_|$)")


@on_history("keyhub.M026")
def evidence_cascades(history: History) -> Iterator[tuple[int, Complaint]]:
    """https://www.postgresql.org/docs/current/ddl-constraints.html#DDL-CONSTRAINTS-FK"""
    for table in history.catalogue.tables.values():
        is_evidence = bool(table.partition_key or table.partitions or _EVIDENCE.search(table.name))
        for key in table.foreign_keys:
            if is_evidence and key.on_delete == "CASCADE":
                columns = ", ".join(key.columns)
                yield (
                    key.moment,
                    Complaint(
                        key.place,
                        f"{history.title(key.moment)} lets {table.name} ({columns}) follow {key.references} ON DELETE "
                        f"CASCADE: whoever deletes a row there deletes the evidence about it, in every partition.",
                        f"Keep {columns} without a foreign key, and beside it a label with the name of the day.",
                    ),
                )
