"""docs/departures.md gives each departure its four lines, and names only tests that exist."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
LINES = ["Source", "Here", "Why", "Proof"]
NO_PROOF = "no test here, "


def departures(page: str) -> dict[str, dict[str, str]]:
    """The departures by title, each with its lines by label."""
    sections = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    return {
        section.partition("\n")[0]: dict(
            re.findall(r"^- (\w+): (.*?)(?=\n- |\n\n|\n*\Z)", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
        )
        for section in sections
    }


def defined_in(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def complaints(page: str, root: Path = REPOSITORY) -> list[str]:
    found = []
    for title, lines in departures(page).items():
        if list(lines) != LINES:
            found.append(f"{title}: has the lines {', '.join(lines)}")
        proof = lines.get("Proof", "")
        named = re.findall(r"`([^`]+)`", proof)
        if not named and not proof.startswith(NO_PROOF):
            found.append(f"{title}: names no test")
        for name in named:
            path, _, test = name.partition("::")
            if test not in defined_in(root / path):
                found.append(f"{title}: {name} does not exist")
    return found


def test_every_departure_is_whole_and_its_tests_exist():
    page = (REPOSITORY / "docs" / "departures.md").read_text(encoding="utf-8")
    assert len(departures(page)) > 30
    assert "\n".join(complaints(page)) == ""


WHOLE = """# Departures

## Every table

### One

- Source: this
  and that.
- Here: `x`.
- Why: because.
- Proof: `tests/test_schema.py::test_x`,
  `tests/test_schema.py::test_y`

## Others

### Two

- Source: this.
- Here: that.
- Why: because.
- Proof: no test here, since nothing runs.
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "", []),
        ("::test_y", "::test_z", ["One: tests/test_schema.py::test_z does not exist"]),
        ("test_schema.py::test_y", "test_gone.py::test_y", ["One: tests/test_gone.py::test_y does not exist"]),
        ("::test_y", "::test_…", ["One: tests/test_schema.py::test_… does not exist"]),
        ("::test_y", "::row", ["One: tests/test_schema.py::row does not exist"]),
        ("- Why: because.\n- Proof: no", "- Proof: no", ["Two: has the lines Source, Here, Proof"]),
        ("no test here, since nothing runs.", "look at it.", ["Two: names no test"]),
    ],
)
def test_a_page_that_is_not_whole_is_noticed(before, after, expected, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_schema.py").write_text("def test_x(): ...\ndef test_y(): ...\ndef row(): ...\n")
    assert complaints(WHOLE.replace(before, after), tmp_path) == expected
