"""What says that a database is adopted: Django's and the runner's records, and golang-migrate's table put away."""

from keyhub.adopt.recognition import GolangMigrate
from keyhub.adopt.steps import Steps
from keyhub.dbversion.database import current_digest
from keyhub.dbversion.version_list import Version

PUT_AWAY_SCHEMA = "golang_migrate"
# golang-migrate takes the view for its table, reads "dirty" and refuses to run; it cannot write to it either.
PUT_AWAY = (
    f"CREATE SCHEMA IF NOT EXISTS {PUT_AWAY_SCHEMA}",
    f"ALTER TABLE schema_migrations SET SCHEMA {PUT_AWAY_SCHEMA}",
    "CREATE VIEW schema_migrations AS "  # noqa: S608 the name is above
    f"SELECT coalesce((SELECT version FROM {PUT_AWAY_SCHEMA}.schema_migrations), 0) AS version, true AS dirty",
    "COMMENT ON VIEW schema_migrations IS "
    f"'Adopted by KeyHub: run manage.py migrate. golang-migrate''s table is {PUT_AWAY_SCHEMA}.schema_migrations.'",
)
# What stays behind for good, as dbhealth's catalogue names it.
LEFT_BEHIND = (("schema", "", PUT_AWAY_SCHEMA), ("view", "", "schema_migrations"))


def record(steps: Steps, found: GolangMigrate, versions: list[Version]) -> None:
    """Record all migrations of these versions as applied, in one transaction: before it nothing is, after it all."""

    def write():
        steps.history.ensure_table()
        steps.history.record_seen(steps.loader.graph.nodes)
        for version in versions:
            for key in version.migrations:
                steps.recorder.record_applied(*key)
                steps.history.record_applied(*key, current_digest(steps.loader.graph.nodes[key]))
        for statement in PUT_AWAY:
            steps.execute(statement)

    steps.in_transaction("recording", write)
    place = str(versions[-1]) if versions else "none of the versions"
    steps.tell(f"Recorded: the database is at {place}. schema_migrations is in the schema {PUT_AWAY_SCHEMA} now.")
