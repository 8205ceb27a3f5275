"""squawk's findings as the linter's own."""

from pathlib import Path

import pytest

from keyhub.lintmigrations import linter, squawk
from keyhub.lintmigrations.findings import LintError
from keyhub.lintmigrations.sql_files import file_steps


def told(text: str, folder: Path) -> list[tuple[str, int]]:
    (folder / "it.sql").write_text(text)
    findings = squawk.findings(file_steps([folder / "it.sql"]), squawk.program())
    return [(finding.id, finding.place.line) for finding in findings]


def test_lines_are_those_of_the_file(tmp_path):
    text = "-- one\nSELECT 1;\n\nCREATE TABLE a (\n    b char(3),\n    c serial\n);\n"
    assert told(text, tmp_path) == [("squawk.ban-char-field", 5), ("squawk.prefer-identity", 6)]


def test_the_transaction_state_is_told(tmp_path):
    """Several statements are sent in one transaction, so there must not be another one in it."""
    assert told("BEGIN;\nANALYZE;\nCOMMIT;\n", tmp_path) == [
        ("squawk.transaction-nesting", 1),
        ("squawk.transaction-nesting", 3),
    ]
    assert told("BEGIN", tmp_path) == [("squawk.ban-uncommitted-transaction", 1)]


def test_what_is_a_rule_here_too_is_told_once(tmp_path):
    text = """
        CREATE INDEX idx_a_b ON a (b);
        ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0);
        ALTER TABLE a ADD CONSTRAINT d FOREIGN KEY (b) REFERENCES e (f);
        ALTER TABLE a ADD CONSTRAINT g UNIQUE (b);
        ALTER TABLE a ALTER COLUMN b TYPE bigint;
        ALTER TABLE a ALTER COLUMN b SET NOT NULL;
        ALTER TABLE a ADD COLUMN h uuid DEFAULT gen_random_uuid();
        ALTER TABLE a ADD COLUMN i integer NOT NULL;
        CREATE INDEX CONCURRENTLY idx_a_i ON a (i);
    """
    assert told(text, tmp_path) == []
    ids = {finding.id for finding in linter.lint_files([tmp_path / "it.sql"]).findings}
    own = {"006", "007", "008", "010", "011", "012", "014", "017"}
    assert ids - {"keyhub.M029", "keyhub.M030"} == {f"keyhub.M{number}" for number in own}


def test_a_syntax_that_only_squawk_knows_to_be_wrong(tmp_path):
    assert told("SELECT FROM WHERE 1;\n", tmp_path) == [("squawk.syntax-error", 1)]


def test_squawks_own_comments_let_nothing_through(tmp_path):
    text = "-- squawk-ignore-file\n-- squawk-ignore ban-char-field\nCREATE TABLE a (b char(3));\n"
    assert told(text, tmp_path) == [("squawk.ban-char-field", 3)]


def test_a_finding_of_squawk_can_be_let_through(tmp_path):
    (tmp_path / "it.sql").write_text(
        "-- lintmigrations: squawk.ban-char-field because the code of a country has two letters\n"
        "CREATE TABLE a (b char(2));\n"
    )
    assert linter.lint_files([tmp_path / "it.sql"]).findings == []


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("/nowhere/squawk", "squawk cannot be run: /nowhere/squawk: No such file or directory."),
        ("/bin/false", "squawk cannot be understood: it exits 1 and says nothing."),
    ],
)
def test_another_program_in_its_place(program, sentence, tmp_path):
    (tmp_path / "it.sql").write_text("SELECT 1")
    with pytest.raises(LintError) as refused:
        list(squawk.findings(file_steps([tmp_path / "it.sql"]), program))
    assert str(refused.value) == sentence
