"""The SQL that brings one object back to what the catalogue says, in the form that holds no strong lock for long.

Indexes are built CONCURRENTLY, constraints come NOT VALID and are validated afterwards, NOT NULL follows a validated
CHECK: https://www.postgresql.org/docs/current/sql-altertable.html. What cannot be had online says so in a comment.
"""

from collections.abc import Callable

from keyhub.dbhealth.drift import Difference, Drift
from keyhub.dbhealth.mends import columns, constraints, grants, indexes, others, renames, tables, triggers

WRITERS: dict[str, Callable[[Difference, Drift], list[str]]] = {
    "table": tables.table,
    "column": columns.column,
    "constraint": constraints.constraint,
    "index": indexes.index,
    "trigger": triggers.trigger,
    "key-trigger": triggers.key_trigger,
    "function": triggers.function,
    "procedure": triggers.function,
    "aggregate": triggers.function,
    "sequence": others.sequence,
    "view": others.view,
    "matview": others.view,
    "foreign-table": others.foreign_table,
    "type": others.type_,
    "policy": others.policy,
    "rule": others.rule,
    "statistics": others.statistics,
    "extension": others.extension,
    "schema": others.schema,
    "other": others.other,
    "grant": grants.grant,
}


def mend(difference: Difference, drift: Drift) -> str:
    """One statement or more that end a difference, each on lines of its own."""
    if difference.old_name is not None:
        return renames.rename(difference)
    return "\n".join(WRITERS[difference.subject.kind](difference, drift))
