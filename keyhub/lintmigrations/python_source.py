"""The text of a migration: what it imports and asks for, and where its operations stand."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from keyhub.lintmigrations.findings import LintError

FOR_PEOPLE = {"help_text", "verbose_name", "verbose_name_plural", "violation_error_message", "db_comment"}
IMPORTING_CALLS = {"__import__", "import_module", "importlib.import_module"}


class Named(NamedTuple):
    """A dotted name as the text uses it, aliases resolved: `os.environ` also after `from os import environ`."""

    name: str
    line: int


@dataclass(frozen=True)
class PythonSource:
    path: Path
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> "PythonSource":
        try:
            text = path.read_text(encoding="utf-8")
            return cls(path, text, ast.parse(text))
        except SyntaxError as error:
            raise LintError(f"{path}:{error.lineno} cannot be read as Python: {error.msg}.") from error

    @cached_property
    def _nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def imports(self) -> list[Named]:
        """Modules and the names taken from them; a relative import begins with a dot."""
        found = []
        for node in self._nodes:
            if isinstance(node, ast.Import):
                found += [Named(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [Named(_imported(node, alias), node.lineno) for alias in node.names]
            elif isinstance(node, ast.Call) and _dotted(node.func) in IMPORTING_CALLS:
                found += [Named(argument.value, node.lineno) for argument in node.args[:1] if _is_text(argument)]
        return found

    @cached_property
    def uses(self) -> list[Named]:
        """Every dotted name that begins with something imported, as long as it is written."""
        aliases = self._aliases
        found = []
        inner = {node.value for node in self._nodes if isinstance(node, ast.Attribute)}
        for node in self._nodes:
            if isinstance(node, ast.Attribute | ast.Name) and node not in inner:
                first, _, rest = _dotted(node).partition(".")
                if first in aliases:
                    found.append(Named(f"{aliases[first]}.{rest}".rstrip("."), node.lineno))
        return found

    @cached_property
    def _aliases(self) -> dict[str, str]:
        aliases = {}
        for node in self._nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    aliases[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom):
                aliases |= {alias.asname or alias.name: _imported(node, alias) for alias in node.names}
        return aliases

    @cached_property
    def operation_lines(self) -> list[int]:
        """The lines of the elements of `operations`, where that is a plain list."""
        for node in self._nodes:
            is_list = isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
            if is_list and [_dotted(target) for target in node.targets] == ["operations"]:
                return [element.lineno for element in node.value.elts]
        return []

    @property
    def class_line(self) -> int:
        return next((node.lineno for node in self.tree.body if isinstance(node, ast.ClassDef)), 1)

    @cached_property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}

    def defines(self, function: Callable) -> bool:
        return _name(function) in self._functions

    def calls(self, function: Callable) -> Iterator[ast.Call]:
        """The calls that a function of this file makes, and those of the functions here that it calls."""
        pending = [_name(function)]
        seen = set()
        while pending:
            name = pending.pop()
            if name in seen or name not in self._functions:
                continue
            seen.add(name)
            for node in ast.walk(self._functions[name]):
                if isinstance(node, ast.Call):
                    yield node
                    pending.append(_dotted(node.func))

    def sql(self, function: Callable) -> Iterator[tuple[str, int]]:
        """The constant texts that a function hands to something's `execute`, each with its line."""
        constants = {
            target.id: node.value
            for node in self._nodes
            if isinstance(node, ast.Assign) and _is_text(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in self.calls(function):
            if not (isinstance(call.func, ast.Attribute) and call.func.attr == "execute" and call.args):
                continue
            argument = call.args[0]
            constant = constants.get(argument.id) if isinstance(argument, ast.Name) else argument
            if constant is not None and _is_text(constant):
                yield constant.value, constant.lineno

    def texts(self) -> Iterator[tuple[str, int]]:
        """All string constants but documentation: docstrings, help_text, names and messages for people."""
        skipped: set[int] = set()
        for node in self._nodes:
            if isinstance(node, ast.Expr) and _is_text(node.value):
                skipped.add(id(node.value))
            elif isinstance(node, ast.keyword) and node.arg in FOR_PEOPLE:
                skipped |= {id(inner) for inner in ast.walk(node.value)}
        for node in self._nodes:
            if _is_text(node) and id(node) not in skipped:
                yield node.value, node.lineno


def _name(function: Callable) -> str:
    return getattr(function, "__name__", "")


def _imported(node: ast.ImportFrom, alias: ast.alias) -> str:
    return "." * node.level + ".".join(filter(None, [node.module, alias.name]))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _dotted(node: ast.AST) -> str:
    """The name that an expression writes, `a.b.c`; nothing where it is more than a name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join(reversed([*parts, node.id]))
