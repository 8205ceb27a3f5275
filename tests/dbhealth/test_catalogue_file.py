"""The committed catalogue: it is what the migrations make, on every version of PostgreSQL, and its files are whole."""

import shutil

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from audit.months import Month
from keyhub import dbhealth
from keyhub.dbhealth import catalogue, catalogue_file
from keyhub.dbhealth.catalogue import CatalogueError, CatalogueObject, parse_line


@pytest.fixture
def files(tmp_path, settings):
    """A copy of the two files that may be spoiled: the newest catalogue and the steps."""
    for path in (catalogue_file.catalogue_path(), catalogue_file.steps_path()):
        shutil.copy(path, tmp_path)
    settings.CATALOGUE = tmp_path / "catalogue.txt"
    return settings.CATALOGUE, tmp_path / "catalogue_steps.txt"


@pytest.mark.database
def test_the_committed_files_are_what_the_migrations_make(connected_to, migrated_database, files):
    committed = [path.read_text() for path in files]
    for path in files:
        path.write_text("")
    with connected_to(migrated_database):
        catalogue_file.write("default")
    assert [path.read_text() for path in files] == committed


@pytest.mark.once
@pytest.mark.database
def test_write_catalogue(manage, migrated_database):
    before = catalogue_file.catalogue_path().read_text()
    result = manage("dbhealth", "--write-catalogue", database=migrated_database)
    assert (result.returncode, result.stdout, result.stderr) == (0, "catalogue.txt: written\n", "")
    assert catalogue_file.catalogue_path().read_text() == before


def test_the_steps_lead_to_the_newest():
    steps = catalogue_file._read_steps()
    assert catalogue_file.read_at(steps) == catalogue_file.read_newest()


@pytest.mark.database
def test_the_months_of_a_day_leave_no_trace(connected_to, migrated_database, client):
    month = Month.of(client.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'").fetchone()[0]).plus(-1)
    client.execute(f"CREATE TABLE {month.partition} PARTITION OF audit_logs {month.bounds}")
    with connected_to(migrated_database), transaction.atomic():
        objects = catalogue.templated(catalogue.read(connection))
    assert objects == catalogue_file.read_newest()


@pytest.mark.database
def test_a_month_that_is_not_like_the_others_is_no_model_for_them(connected_to, migrated_database, client):
    month = Month.of(client.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'").fetchone()[0])
    client.execute(f"ALTER TABLE {month.partition} SET (fillfactor = 50)")
    with (
        connected_to(migrated_database),
        transaction.atomic(),
        pytest.raises(CatalogueError, match=r"^audit_logs_\d{4}_\d\d is not like the other months: "),
    ):
        catalogue.templated(catalogue.read(connection))


@pytest.mark.parametrize("path", [catalogue_file.catalogue_path(), catalogue_file.steps_path()])
def test_lines_are_read_as_they_are_written(path):
    for line in path.read_text().splitlines():
        if line.strip()[:2] in ("+ ", "- ") or path == catalogue_file.catalogue_path():
            line = line.strip().removeprefix("+ ").removeprefix("- ")
            assert parse_line(line, "here").line == line


@pytest.mark.parametrize(
    "item",
    [
        CatalogueObject("column", '"odd.table"', '"odd "" name"', {"type": "text", "default": "'{\"a\": 1}'::text"}),
        CatalogueObject("function", "", "f(a text, b text)", {"definition": "CREATE …\n$$\t{}$$"}),
        CatalogueObject("grant", "", 'column users.email to "a to b"', {"extra": "SELECT"}),
    ],
)
def test_odd_names_are_read_as_they_are_written(item):
    assert parse_line(item.line, "here") == item


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "here is no line of a catalogue: 'nonsense'. Take the line from the repository."),
        ("cat users", "here is no line of a catalogue: 'cat users'. Take the line from the repository."),
        ("column email", "here names no table: 'column email'. Take the line from the repository."),
        (
            'table users {"a": }',
            "here has no JSON at its end: 'table users {\"a\": }'. Take the line from the repository.",
        ),
    ],
)
def test_a_broken_line(line, message):
    with pytest.raises(CatalogueError) as error:
        parse_line(line, "here")
    assert str(error.value) == message


@pytest.mark.database
def test_a_missing_file_is_told_in_one_sentence(connected_to, migrated_database, files):
    files[0].unlink()
    with connected_to(migrated_database), pytest.raises(CommandError) as error:
        call_command("dbhealth")
    assert (error.value.returncode, str(error.value)) == (
        3,
        "catalogue.txt cannot be read (No such file or directory). Take the file from the repository.",
    )


@pytest.mark.database
def test_a_migration_that_the_catalogue_does_not_know(connected_to, migrated_database, files):
    steps = files[1]
    text = steps.read_text()
    steps.write_text("".join(line for line in text.splitlines(keepends=True) if line != "tenancy.0003_groups\n"))
    with connected_to(migrated_database):
        (finding,) = dbhealth.run("default").findings
    assert (finding.id, finding.object, finding.problem, finding.mend) == (
        "keyhub.H018",
        "catalogue.txt",
        "the catalogue does not know tenancy.0003_groups, so drift is measured without it",
        "manage.py dbhealth --write-catalogue, and commit the files",
    )
