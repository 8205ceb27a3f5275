"""System checks of the project as a whole."""

from django.conf import settings
from django.core.checks import Error, Tags, register
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from keyhub.dbversion import version_list

OLDEST_SERVER = (15, 0)


@register(Tags.compatibility)
def time_zone_is_utc(app_configs, **kwargs) -> list[Error]:
    """keyhub.E001: months of audit_logs are UTC months, and every timestamp is read as UTC."""
    if settings.TIME_ZONE == "UTC" and settings.USE_TZ:
        return []
    return [
        Error(
            "KeyHub runs in UTC, but TIME_ZONE or USE_TZ says otherwise.",
            hint="Leave TIME_ZONE = 'UTC' and USE_TZ = True; show local times in templates.",
            id="keyhub.E001",
        )
    ]


@register(Tags.database)
def server_is_supported(app_configs, databases, **kwargs) -> list[Error]:
    """keyhub.E002: PostgreSQL 15 or newer, for ON DELETE SET NULL (column) among others."""
    return [
        Error(
            f"The server of the database {alias!r} is older than PostgreSQL {OLDEST_SERVER[0]}.",
            hint="KeyHub runs on PostgreSQL 15 to 18: upgrade the server, or point DATABASE_URL at another one.",
            id="keyhub.E002",
        )
        for alias in databases or ()
        if connections[alias].get_database_version() < OLDEST_SERVER
    ]


@register("migrations")
def versions_are_listed(app_configs, **kwargs) -> list[Error]:
    """keyhub.E009 to E015: the list of versions can be read, is whole, in order, and says what the migrations say."""
    try:
        versions = version_list.read()
    except version_list.VersionListError as error:
        hint = "Take the file, or the line, from the repository."
        return [Error(str(error), hint=hint, id="keyhub.E009")]
    graph = MigrationLoader(connection=None, ignore_no_migrations=True).graph
    return [
        Error(problem.message, hint=problem.hint, id=problem.id) for problem in version_list.problems(versions, graph)
    ]
