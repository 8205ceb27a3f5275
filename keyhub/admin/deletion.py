"""What happens to the rows that refer to others when those are deleted, told before it is done.

PostgreSQL deletes along, empties or refuses, by the actions of its foreign keys (keyhub.foreign_keys); Django knows of
none of it.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db import DEFAULT_DB_ALIAS, connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext

from keyhub import placement

MOST_DEPENDENTS_COUNTED = 1000

# Of pg_constraint.confdeltype.
CASCADE = "c"
EMPTYING = ("n", "d")

KEYS_TO = """
    SELECT conrelid::regclass::text, relname, confdeltype::text, join_condition, emptied
    FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid
    CROSS JOIN LATERAL (
        SELECT string_agg(format('child.%%I = parent.%%I', child.attname, parent.attname), ' AND '),
               string_agg(child.attname, ', ') FILTER (WHERE child.attnum = ANY (coalesce(confdelsetcols, conkey)))
        FROM unnest(conkey, confkey) AS pair (child_number, parent_number)
        JOIN pg_attribute AS child ON child.attrelid = conrelid AND child.attnum = child_number
        JOIN pg_attribute AS parent ON parent.attrelid = confrelid AND parent.attnum = parent_number
    ) AS columns (join_condition, emptied)
    WHERE contype = 'f' AND confrelid = %s::regclass AND conparentid = 0
    ORDER BY conname
"""


@dataclass
class Rows:
    """Rows of a table by ctid, the place where each lies: every table has it, and it holds while a page is made."""

    places: set[str] = field(default_factory=set)
    there_may_be_more: bool = False

    def __str__(self) -> str:
        number = intcomma(len(self.places))
        return gettext("at least %(number)s") % {"number": number} if self.there_may_be_more else number


def fates_of_dependents(model: type[models.Model], pks: list) -> dict[tuple[str, str, str], Rows]:
    """Follow the keys of the catalogue from some rows of a model: (table, action, emptied columns) -> rows.

    Also from their copies in the tenant database, where it has some. The rows themselves come first. Each key is
    followed by one query per level, which reads no more than MOST_DEPENDENTS_COUNTED rows.
    """
    home = router.db_for_write(model)
    found = _fates_in(connections[home], model, pks)
    if home != DEFAULT_DB_ALIAS and model._meta.db_table in placement.followed_tables():
        for fate, rows in _fates_in(connections[DEFAULT_DB_ALIAS], model, pks).items():
            found.setdefault(fate, rows)
    return found


def _fates_in(
    connection: BaseDatabaseWrapper, model: type[models.Model], pks: list
) -> dict[tuple[str, str, str], Rows]:
    quote_name = connection.ops.quote_name
    table = model._meta.db_table
    found: defaultdict[tuple[str, str, str], Rows] = defaultdict(Rows)
    with connection.cursor() as cursor:

        def places(statement: str, *params) -> set[str]:
            cursor.execute(statement, params)
            return {place for (place,) in cursor.fetchall()}

        itself = f"SELECT ctid::text FROM {quote_name(table)} WHERE {quote_name(model._meta.pk.column)} = ANY (%s)"  # noqa: S608
        chosen = places(itself, pks)
        found[table, CASCADE, ""].places |= chosen
        # (table as SQL writes it, rows that go, there may be more of them)
        going = [(quote_name(table), chosen, False)]
        for parent, parents, there_may_be_more in going:
            cursor.execute(KEYS_TO, [parent])
            for child, name, action, join_condition, emptied in cursor.fetchall():
                rows = found[name, action, "" if action == CASCADE else emptied]
                room = max(0, MOST_DEPENDENTS_COUNTED - len(rows.places))
                new = places(
                    f"SELECT child.ctid::text FROM {child} AS child JOIN {parent} AS parent ON {join_condition} "  # noqa: S608
                    "WHERE parent.ctid = ANY (%s::tid[]) AND NOT child.ctid = ANY (%s::tid[]) LIMIT %s",
                    list(parents),
                    list(rows.places),
                    room,
                )
                rows.places |= new
                rows.there_may_be_more |= there_may_be_more or len(new) == room
                if action == CASCADE and new:
                    going.append((child, new, rows.there_may_be_more))
    for (name, action, _), rows in found.items():
        if action != CASCADE and (name, CASCADE, "") in found:
            rows.places -= found[name, CASCADE, ""].places
    return {fate: rows for fate, rows in found.items() if rows.places}
