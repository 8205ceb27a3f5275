"""docs/schema.md says what the live database says, and a change on either side is noticed."""

import re

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import translation

from accounts.models import Operator, User
from keyhub import schemadoc

STALE = "CommandError: docs/schema.md is not what the database says. Run `manage.py schemadoc` and commit the page.\n"


def run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def row(table: str, column: str) -> str:
    """The line of a column in the page, in the section of its table."""
    section = schemadoc.text("default").partition(f"### {table}\n")[2].partition("### ")[0]
    return next(line for line in section.splitlines() if line.startswith(f"| `{column}` "))


@pytest.mark.django_db
def test_the_page_is_current():
    assert schemadoc.DOCUMENT.read_text(encoding="utf-8") == schemadoc.text("default")


@pytest.mark.django_db
def test_check_says_so_in_one_line(capsys):
    call_command("schemadoc", "--check")
    assert capsys.readouterr().out == "docs/schema.md is current.\n"


def test_check_exits_1_where_the_page_is_stale(server, migrated_database, manage):
    with server.connect(migrated_database) as client:
        client.execute("ALTER TABLE users ADD COLUMN nickname text")
    before = schemadoc.DOCUMENT.read_bytes()
    result = manage("schemadoc", "--check", database=migrated_database)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", STALE)
    assert schemadoc.DOCUMENT.read_bytes() == before


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE users ADD COLUMN nickname text",
        "ALTER TABLE users ALTER COLUMN name SET NOT NULL",
        "ALTER TABLE users ALTER COLUMN name TYPE varchar(50)",
        "ALTER TABLE users ALTER COLUMN created_at SET DEFAULT CURRENT_TIMESTAMP",
        "ALTER TABLE tenants DROP CONSTRAINT tenants_organization_id_fkey",
        "ALTER TABLE tenants ADD CONSTRAINT check_name CHECK (name <> '') NOT VALID",
        "DROP INDEX idx_users_created_at",
        "CREATE UNIQUE INDEX idx_users_name ON users (name)",
        "DROP TRIGGER update_users_updated_at ON users",
        "CREATE TABLE visitors (id integer)",
    ],
)
def test_a_changed_database_is_noticed(statement):
    before = schemadoc.text("default")
    run(statement)
    assert schemadoc.text("default") != before


@pytest.mark.django_db
def test_a_changed_model_is_noticed(monkeypatch):
    monkeypatch.setattr(User._meta.get_field("name"), "help_text", "First, last | or\nany name.")
    monkeypatch.setattr(User._meta.get_field("name"), "choices", [("alice", "Alice"), ("bob", "Bob")])
    monkeypatch.setattr(User, "__doc__", "Somebody.")
    assert row("users", "name") == (
        "| `name` | `text` | null |  |  | First, last \\| or any name. One of `alice`, `bob`. |"
    )
    assert "### users\n\nSomebody.\n" in schemadoc.text("default")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "column", "marks"),
    [
        ("users", "id", "PK"),
        ("users", "email", ""),
        ("sessions", "session_id", "UK"),
        ("users", "name", ""),
        ("user_identities", "user_id", "FK"),
        ("user_identities", "provider_sub", ""),
        ("audit_logs", "created_at", "PK"),
    ],
)
def test_keys_are_marked(table, column, marks):
    assert row(table, column).split(" | ")[4].strip() == marks


@pytest.mark.django_db
@pytest.mark.parametrize("condition", ["", "WHERE left_at IS NULL"])
def test_only_a_whole_unique_index_makes_a_unique_key(condition):
    run("ALTER TABLE tenant_memberships DROP CONSTRAINT tenant_memberships_tenant_id_user_id_key CASCADE")
    run(f"CREATE UNIQUE INDEX only_once ON tenant_memberships (user_id) {condition}")
    is_unique = condition == ""
    assert row("tenant_memberships", "user_id").split(" | ")[4] == ("FK, UK" if is_unique else "FK")
    line = f'users ||--{"o|" if is_unique else "o{"} tenant_memberships : "user_id"'
    assert line in schemadoc.text("default")


@pytest.mark.django_db
def test_the_picture_shows_every_foreign_key_of_our_tables():
    with connection.cursor() as cursor:
        cursor.execute("SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'")
        others = ("auth_", "axes_", "django_", "operators", "otp_")
        keys = [table for (table,) in cursor.fetchall() if not table.startswith(others)]
    picture = schemadoc.text("default").partition("```mermaid\n")[2].partition("```")[0]
    relations = re.findall(r"^    \w+ \S+--\S+ (\w+) : ", picture, re.MULTILINE)
    assert sorted(relations) == sorted(keys)
    assert len(re.findall(r"^    \w+ \{$", picture, re.MULTILINE)) == 16
    # Neither has a relation in Django: orgs, the app above, adds the keys.
    assert '    organizations ||--o{ tenants : "organization_id"\n' in picture
    assert '    organizations ||--o{ console_sessions : "organization_id"\n' in picture
    assert '    tenant_memberships |o--o{ sessions : "active_membership_id, user_id"\n' in picture


@pytest.mark.django_db
def test_tables_outside_the_design_are_named_alone():
    text = schemadoc.text("default")
    assert f"\n- `{Operator._meta.db_table}`\n" in text
    assert f"### {Operator._meta.db_table}\n" not in text


@pytest.mark.django_db
def test_the_text_depends_on_neither_calendar_language_nor_time_zone():
    before = schemadoc.text("default")
    run(
        "CREATE TABLE audit_logs_2099_01 PARTITION OF audit_logs FOR VALUES FROM ('2099-01-01+00') TO ('2099-02-01+00')"
    )
    run("SET LOCAL TIME ZONE 'Asia/Tokyo'")
    with translation.override("ja"):
        assert schemadoc.text("default") == before
    assert not re.search(r"audit_logs_\d{4}", before)


@pytest.mark.django_db
def test_writing_twice_writes_once(tmp_path):
    page = tmp_path / "schema.md"
    assert schemadoc.write("default", page) is True
    assert page.read_text(encoding="utf-8") == schemadoc.text("default")
    assert schemadoc.write("default", page) is False
    assert [path.name for path in tmp_path.iterdir()] == ["schema.md"]


@pytest.mark.django_db
def test_a_missing_page_is_not_current(tmp_path):
    assert schemadoc.is_current("default", tmp_path / "schema.md") is False


def test_a_database_without_tables_is_refused(empty_database, manage):
    result = manage("schemadoc", "--check", database=empty_database)
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        "CommandError: the database 'default' is not at the newest version: keyhub.0001_updated_at_function "
        "is not applied. Run `manage.py migrate`, then this again.\n",
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            "DROP TABLE organization_domains",
            "the table organization_domains of the model orgs.OrganizationDomain does not exist. "
            "`manage.py dbhealth` tells more.",
        ),
        (
            "ALTER TABLE users DROP COLUMN icon",
            "the table users has no column icon, which the model accounts.User has. "
            "Add a migration and run `manage.py migrate`, then this again.",
        ),
    ],
)
def test_a_table_that_is_not_the_models_is_refused_and_the_page_stays(statement, sentence, tmp_path):
    page = tmp_path / "schema.md"
    page.write_text("as it was")
    run(statement)
    with pytest.raises(schemadoc.SchemaDocError) as refusal:
        schemadoc.write("default", page)
    assert str(refusal.value) == sentence
    assert page.read_text() == "as it was"
