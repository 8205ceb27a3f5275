"""Django's records of migrations against the code: keyhub.H001 and H005 to H008."""

from collections.abc import Iterator

from django.apps import apps
from django.db import router

from keyhub.dbhealth.examination import Examination
from keyhub.dbhealth.findings import Finding, Severity, Unreadable
from keyhub.dbversion import version_list
from keyhub.dbversion.database import DatabaseVersion


def pending(examination: Examination) -> Iterator[Finding]:
    """keyhub.H001: migrations that are not applied. Before migrate they are no finding."""
    if examination.records is None:
        return
    missing = [key for key in _in_order(examination) if key not in examination.records]
    if missing:
        names = ", ".join(".".join(key) for key in missing)
        are = "migration is" if len(missing) == 1 else "migrations are"
        yield Finding(
            "keyhub.H001", Severity.CRITICAL, "django_migrations", f"{len(missing)} {are} pending: {names}",
            "manage.py migrate",
        )  # fmt: skip


def _in_order(examination: Examination) -> list[tuple[str, str]]:
    listed = [key for version in version_list.read() for key in version.migrations]
    here = examination.migrations
    return [key for key in listed if key in here] + sorted(set(here) - set(listed))


def recorded(examination: Examination) -> Iterator[Finding | Unreadable]:
    """keyhub.H001: there are no records, although there are tables."""
    if examination.records is not None:
        return
    if examination.lacks_records:
        yield Unreadable("keyhub.H001", "django_migrations")
    else:
        yield Finding(
            "keyhub.H001", Severity.CRITICAL, "django_migrations",
            "nothing is recorded as applied, although there are tables",
            "restore django_migrations from a backup",
        )  # fmt: skip


def applied(examination: Examination) -> Iterator[Finding | Unreadable]:
    """keyhub.H005 unknown to the code, keyhub.H006 edited since, keyhub.H007 applied more than once."""
    records = examination.records
    if records is None:
        return
    for key, count in sorted(records.items()):
        if count > 1:
            yield Finding(
                "keyhub.H007", Severity.CRITICAL, ".".join(key),
                f"the migration is recorded {count} times: two runs made it at once, or somebody wrote the record",
                "look whether its data is there twice, then:\n"
                f"DELETE FROM django_migrations a USING django_migrations b WHERE a.app = '{key[0]}' AND "
                f"a.name = '{key[1]}' AND b.app = a.app AND b.name = a.name AND b.id < a.id;",
            )  # fmt: skip
    loader = examination.loader
    loader.applied_migrations = dict.fromkeys(records)
    version = DatabaseVersion(examination.connection, version_list.read(), loader)
    for key in version.unknown:
        yield Finding(
            "keyhub.H005", Severity.CRITICAL, ".".join(key), "the migration is applied, and unknown to this code",
            "deploy the code that has it, or take it back with that code",
        )  # fmt: skip
    for key in sorted(key for key in records if key[0] not in loader.migrated_apps):
        yield Finding(
            "keyhub.H005", Severity.WARNING, ".".join(key),
            f"the migration is applied, and this code has no app {key[0]}",
            "deploy the code that has it; if the app and its tables are gone for good:\n"
            f"DELETE FROM django_migrations WHERE app = '{key[0]}' AND name = '{key[1]}';",
        )  # fmt: skip
    if examination.lacks_digests:
        yield Unreadable("keyhub.H006", "keyhub_migrations")
        return
    for key in version.edited() if examination.has_digests else []:
        yield Finding(
            "keyhub.H006", Severity.CRITICAL, ".".join(key), "the migration was edited after this database ran it",
            "take the edit back, and write a new migration for the change",
        )  # fmt: skip


def elsewhere(examination: Examination) -> Iterator[Finding]:
    """keyhub.H008: tables that are here although the router puts them into another database."""
    models = {
        model._meta.db_table: model._meta.label
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not router.allow_migrate_model(examination.place, model)
    }
    if not models:
        return
    query = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NOT NULL ORDER BY name"
    for (table,) in examination.rows(query, [list(models)]):
        yield Finding(
            "keyhub.H008", Severity.WARNING, table,
            f"the table of {models[table]} is here, and the router puts it into another database",
            f"-- Compare its rows with those of the other database first.\nDROP TABLE {table};",
        )  # fmt: skip
