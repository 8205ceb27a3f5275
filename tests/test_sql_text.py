"""SQL cut into statements as PostgreSQL itself cuts it."""

import pytest
from django.db.migrations.loader import MigrationLoader

from keyhub.sql_text import normalized, statements, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ;; -- nothing\n", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT 2", ["SELECT ';'", "SELECT 2"]),
        ("SELECT 'it''s;'; SELECT 2", ["SELECT 'it''s;'", "SELECT 2"]),
        (r"SELECT E'\';'; SELECT 2", [r"SELECT E'\';'", "SELECT 2"]),
        (r"SELECT '\'; SELECT 2", [r"SELECT '\'", "SELECT 2"]),
        ('SELECT ";" FROM "a""b;"; SELECT 2', ['SELECT ";" FROM "a""b;"', "SELECT 2"]),
        ("SELECT $$;$$; SELECT 2", ["SELECT $$;$$", "SELECT 2"]),
        ("SELECT $a$ $$;$$ ; $a$; SELECT 2", ["SELECT $a$ $$;$$ ; $a$", "SELECT 2"]),
        ("SELECT a$b$c; SELECT 2", ["SELECT a$b$c", "SELECT 2"]),
        ("SELECT $1; SELECT 2", ["SELECT $1", "SELECT 2"]),
        ("SELECT 1 -- ;\n+ 1; SELECT 2", ["SELECT 1 -- ;\n+ 1", "SELECT 2"]),
        ("/* ; /* ; */ ; */ SELECT 1 /* ; */; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT 'unfinished; SELECT 2", ["SELECT 'unfinished", "SELECT 2"]),
    ],
)
def test_statements(text, expected):
    assert statements(text) == expected


def test_normalized_leaves_out_comments_and_layout_and_nothing_else():
    one = "CREATE  TABLE t ( -- the table\n  name text /* a */ DEFAULT 'A  B' );"
    assert normalized(one) == normalized("create table T (name text default 'A  B');")
    assert normalized(one) != normalized("create table t (name text default 'A B');")
    assert normalized(one) != normalized("create table t (name text default 'a  B');")
    assert normalized('SELECT "A"') != normalized('SELECT "a"')
    assert normalized("SELECT a b") != normalized("SELECT ab")


def test_kinds_of_tokens():
    text = """SELECT "A", 'b', $$c$$, 12.5 FROM d;"""
    assert [(token.lastgroup, token[0]) for token in tokens(text) if token.lastgroup != "other"] == [
        ("word", "SELECT"),
        ("identifier", '"A"'),
        ("string", "'b'"),
        ("dollar", "$$c$$"),
        ("number", "12.5"),
        ("word", "FROM"),
        ("word", "d"),
        ("end", ";"),
    ]


def test_every_sql_file_of_the_project_runs_statement_by_statement(server, empty_database):
    """The cut is right where PostgreSQL takes each piece: the whole schema, up and down."""
    loader = MigrationLoader(connection=None)
    files = [
        operation.path(app_label, direction)
        for (app_label, _), migration in loader.graph.nodes.items()
        for operation in migration.operations
        if type(operation).__name__ == "RunSQLFile"
        for direction in ("up", "down")
    ]
    assert len(files) >= 16
    with server.connect(empty_database, "keyhub") as client:
        for path in files:
            for statement in statements(path.read_text()):
                # PL/pgSQL parses the statements of a function when it is made, and runs none.
                client.execute(
                    "CREATE OR REPLACE FUNCTION parsed() RETURNS void LANGUAGE plpgsql AS "
                    f"$parsed$BEGIN {statement}; END$parsed$"
                )
