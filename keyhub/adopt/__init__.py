"""Taking over a database that golang-migrate made from the source's files.

recognition  whether it is one, and which versions are there
source       what the source's files made
catalogue    tables and functions of a schema as values
reference    the same of our own migrations, run and rolled back
comparison   the two against each other: differences, refusals, what is somebody's own
rules        the rules that old rows may break
conversion   from one to the other, online
rebuild      for tables whose new shape only a copy can have
steps        how a step is run
record       what says in the end that the database is adopted
"""

from collections.abc import Callable

from django.db.backends.base.base import BaseDatabaseWrapper

from keyhub.adopt import comparison, conversion, rules, source
from keyhub.adopt.catalogue import Catalogue, read
from keyhub.adopt.rebuild import hindrances
from keyhub.adopt.recognition import recognise, refusal_without_adoption, versions_there
from keyhub.adopt.record import record
from keyhub.adopt.reference import reference_catalogue
from keyhub.adopt.steps import Steps
from keyhub.dbversion.version_list import Version
from keyhub.migrate.executor import LockPolicy, RefusedError

__all__ = ["adopt", "recognise", "refusal_without_adoption"]


def adopt(
    connection: BaseDatabaseWrapper, versions: list[Version], tell: Callable[[str], None], policy: LockPolicy
) -> None:
    """Convert and record what golang-migrate made; `migrate` then runs the versions that are left.

    Call it as the only runner. `tell` gets a sentence for each step. Killed, it is run again and goes on; on a database
    that is adopted it does nothing. Raises RefusedError, with everything that hinders it, before anything is changed
    (or where rows that came meanwhile break a rule), and LockNotGotError.
    """
    steps = Steps(connection, policy=policy, tell=tell, versions=versions)
    found = recognise(connection)
    if found is None:
        if not steps.loader.applied_migrations:
            raise RefusedError(
                "there is no table schema_migrations (version bigint, dirty boolean) of golang-migrate, so there is "
                "nothing to adopt. Run migrate without --adopt."
            )
        tell("Nothing to adopt: the database is migrate's own already.")
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        (schema,) = cursor.fetchone()
    live = read(connection, schema)
    there = versions_there(found, live, versions)
    if there:
        reference = reference_catalogue(connection, there)
        _refuse_what_hinders(steps, live, reference)
        for note in _notes(steps, live, reference):
            tell(f"Left alone: {note}.")
        tell(f"{len(list(comparison.differences(live, reference)))} objects differ from {there[-1]}.")
        with steps.at_work():
            conversion.convert(steps, schema, reference, there)
            left = list(comparison.differences(read(connection, schema), reference))
            if left:
                raise RefusedError("these differences are left, and nothing is recorded:\n" + "\n".join(left))
    with steps.at_work():
        record(steps, found, there)


def _refuse_what_hinders(steps: Steps, live: Catalogue, reference: Catalogue) -> None:
    sentences = list(comparison.refusals(live, reference))
    strange_tables = {sentence.partition(":")[0] for sentence in sentences}
    for name, expected in reference.tables.items():
        if name not in live.tables or not comparison.needs_rebuild(live.tables[name], expected):
            continue
        found = hindrances(steps, name, [*reference.tables], is_partitioned=expected.partition_key is not None)
        sentences += [f"{name}: is made anew, but {what}. Drop it, and make it again afterwards." for what in found]
    sentences += rules.broken(
        steps.connection, (rule for rule in rules.new_rules(live, reference) if rule.table not in strange_tables)
    )
    if sentences:
        raise RefusedError("the database cannot be adopted as it is; nothing was changed.\n" + "\n".join(sentences))


def _notes(steps: Steps, live: Catalogue, reference: Catalogue) -> list[str]:
    notes = list(comparison.own_objects(live, reference))
    if steps.rows("SELECT FROM pg_extension WHERE extname = 'uuid-ossp'"):
        notes.append("the extension uuid-ossp is not needed any more")
    codes = "SELECT FROM tenant_join_codes WHERE code = %s"
    if "tenant_join_codes" in live.tables and steps.rows(codes, source.DEMO_JOIN_CODE):
        notes.append(
            f"the join code {source.DEMO_JOIN_CODE} is printed in the design, so anybody may enter its tenant with it"
        )
    return notes
