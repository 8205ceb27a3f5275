# ruff: noqa: S608 every name in these queries comes from our own migrations
"""The rules that rows of the old database may break, each with the query that lists the rows that do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.adopt.catalogue import Catalogue, Constraint, Table
from keyhub.adopt.comparison import needs_rebuild

DEEPEST_GROUP = 31


@dataclass(frozen=True)
class Rule:
    table: str
    name: str
    says: str
    query: str


def new_rules(live: Catalogue, reference: Catalogue) -> Iterator[Rule]:
    """The rules of the reference that the live catalogue does not keep yet, and that its rows could break."""
    for name, expected in reference.tables.items():
        table = live.tables.get(name)
        if table is None:
            continue
        kept = {constraint.definition for constraint in table.constraints.values() if constraint.is_valid}
        for constraint in expected.constraints.values():
            # What a new column is to hold is not the old rows' fault; the tree of groups has its own rules below.
            if constraint.definition in kept or not set(constraint.columns) <= set(table.columns):
                continue
            if constraint.target and constraint.target not in live.tables:
                continue  # an adoption was interrupted between two of Django's tables
            if rule := _rule(table, constraint):
                yield rule
        for index in expected.indexes.values():
            found = table.indexes.get(index.name)
            if index.is_unique and not (found and found.definition == index.definition and found.is_valid):
                yield _unique(table, index.name, index.definition, index.keys, index.predicate)
    yield from _rules_of_the_design(live, reference)


def _rule(table: Table, constraint: Constraint) -> Rule | None:
    name, says = constraint.name, constraint.definition
    if constraint.kind == "c":
        condition = says.removeprefix("CHECK ")
        return Rule(table.name, name, says, f"SELECT * FROM {table.name} WHERE NOT {condition}")
    if constraint.kind == "u":
        return _unique(table, name, says, constraint.columns, None)
    if constraint.kind == "f" and constraint.target == "organizations":
        return None  # organizations are made for all ids that are not empty
    if constraint.kind == "f":
        pairs = zip(constraint.columns, constraint.target_columns, strict=True)
        same = " AND ".join(f"target.{there} = {table.name}.{here}" for here, there in pairs)
        given = " AND ".join(f"{column} IS NOT NULL" for column in constraint.columns)
        missing = f"NOT EXISTS (SELECT FROM {constraint.target} AS target WHERE {same})"
        return Rule(table.name, name, says, f"SELECT * FROM {table.name} WHERE {given} AND {missing}")
    return None


def _unique(table: Table, name: str, says: str, keys: Iterable[str], predicate: str | None) -> Rule:
    conditions = [f"{key} IS NOT NULL" for key in keys] + ([predicate] if predicate else [])
    columns = ", ".join(keys)
    return Rule(
        table.name,
        name,
        says,
        f"SELECT {columns}, count(*) FROM {table.name} WHERE {' AND '.join(conditions)} "
        f"GROUP BY {columns} HAVING count(*) > 1",
    )


def _rules_of_the_design(live: Catalogue, reference: Catalogue) -> Iterator[Rule]:
    # Also before the organizations' version, which would refuse them later on.
    for table in ("tenants", "console_sessions"):
        if table in live.tables:
            says = "an organization's id is not empty"
            yield Rule(table, "check_organization_id", says, f"SELECT * FROM {table} WHERE organization_id = ''")
    if _is_to_be_rebuilt("groups", live, reference):
        yield Rule(
            "groups",
            "groups_tenant_id_parent_group_id_parent_depth_fkey",
            "a parent group is of the same tenant",
            "SELECT child.* FROM groups AS child JOIN groups AS parent ON parent.id = child.parent_group_id "
            "WHERE parent.tenant_id <> child.tenant_id",
        )
        yield Rule(
            "groups",
            "check_group_depth",
            f"groups make no cycle, and no more than {DEEPEST_GROUP} levels below a root",
            "WITH RECURSIVE tree (id, depth) AS (SELECT id, 0 FROM groups WHERE parent_group_id IS NULL UNION ALL "
            "SELECT groups.id, depth + 1 FROM tree JOIN groups ON groups.parent_group_id = tree.id "
            f"WHERE depth < {DEEPEST_GROUP}) "
            "SELECT * FROM groups WHERE NOT EXISTS (SELECT FROM tree WHERE tree.id = groups.id)",
        )
    if _is_to_be_rebuilt("audit_logs", live, reference):
        yield Rule(
            "audit_logs",
            "partitions",
            "a row belongs to a month of the years 1 to 9999",
            "SELECT * FROM audit_logs WHERE created_at NOT BETWEEN '0001-01-01 00:00:00+00' "
            "AND '9999-11-30 00:00:00+00'",
        )


def _is_to_be_rebuilt(name: str, live: Catalogue, reference: Catalogue) -> bool:
    known = name in live.tables and name in reference.tables
    return known and needs_rebuild(live.tables[name], reference.tables[name])


def broken(connection: BaseDatabaseWrapper, rules: Iterable[Rule]) -> list[str]:
    """One sentence for each rule that rows break: the rule, how many, and the query that lists them."""
    sentences = []
    for rule in rules:
        with connection.cursor() as cursor:
            # No parameters, so that % means itself.
            cursor.execute(f"SELECT count(*) FROM ({rule.query}) AS offending")
            (count,) = cursor.fetchone()
        if count:
            sentences.append(
                f"{rule.table}: {count} {'breaks' if count == 1 else 'break'} the rule {rule.name} ({rule.says}). "
                f"List with: {rule.query};"
            )
    return sentences
