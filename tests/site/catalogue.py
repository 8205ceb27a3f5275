"""The words of the site as Python and the templates hold them, and the catalogue in which they are translated.

Both are read without gettext's programs, which are not on every machine.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.utils.translation.template import templatize

REPOSITORY = Path(__file__).parent.parent.parent
PO = REPOSITORY / "keyhub" / "locale" / "ja" / "LC_MESSAGES" / "django.po"
FUNCTIONS = ("_", "gettext", "gettext_lazy", "gettext_noop")
PLURAL_FUNCTIONS = ("ngettext", "ngettext_lazy")
OTHERS = ("pgettext", "pgettext_lazy", "npgettext", "npgettext_lazy")  # the catalogue has no contexts yet
QUOTED = r"""'(?:\\.|[^\\'])*'|"(?:\\.|[^\\"])*\""""
CALL = re.compile(rf"""\b({"|".join([*FUNCTIONS, *PLURAL_FUNCTIONS, *OTHERS])})\((?:[^()'"]|{QUOTED})*\)""")


@dataclass(frozen=True)
class Entry:
    msgid: str
    plural: str | None
    msgstr: str
    flags: str


def words_of_python(text: str) -> Iterator[str]:
    """What calls of gettext's functions are given. Raises ValueError for what cannot be extracted."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        function = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if function in OTHERS:
            raise ValueError(f"{function}() has a context, which this reader does not know.")
        if function in FUNCTIONS + PLURAL_FUNCTIONS and node.args and not _is_looked_up(node.args[0]):
            yield ast.literal_eval(node.args[0])


def _is_looked_up(argument: ast.expr) -> bool:
    """A word that stands elsewhere, marked by gettext_noop(): gettext(sentence)."""
    return isinstance(argument, ast.Name | ast.Attribute | ast.IfExp)


def words_of_template(text: str) -> Iterator[str]:
    for call in CALL.finditer(templatize(text)):
        yield from words_of_python(call[0])


def words_of_the_site() -> dict[str, str]:
    """Each word, and a file that has it."""
    found = {}
    for app in sorted(path.parent for path in REPOSITORY.glob("*/apps.py")):
        for path in sorted(app.rglob("*.py")):
            if "migrations" not in path.parts:
                found |= dict.fromkeys(words_of_python(path.read_text(encoding="utf-8")), str(path))
        for path in sorted((app / "templates").rglob("*.html")):
            found |= dict.fromkeys(words_of_template(path.read_text(encoding="utf-8")), str(path))
    return found


def entries(text: str) -> list[Entry]:
    """What a .po file says, but for its header; a commented-out entry counts as one without a translation."""
    found = []
    for block in re.split(r"\n{2,}", text.strip())[1:]:
        lines = block.split("\n")
        parts: dict[str, str] = {}
        name = ""
        for line in (line for line in lines if not line.startswith("#")):
            keyword, quoted = re.fullmatch(r'(?:(\S+) )?(".*")', line).groups()
            name = keyword or name
            parts[name] = parts.get(name, "") + ast.literal_eval(quoted)
        flags = " ".join(line for line in lines if line.startswith("#"))
        translation = parts.get("msgstr", parts.get("msgstr[0]", ""))
        found.append(Entry(parts.get("msgid", ""), parts.get("msgid_plural"), translation, flags))
    return found
