"""Where everything lives, and who may know whom: each rule of docs/layout.md, and a tree in which it fires.

A rule is a function that gets the root of a checkout and returns its complaints.
"""

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands

REPOSITORY = Path(__file__).parent.parent

# app: the apps that it may import.
MAY_IMPORT = {
    "accounts": set(),
    "tenancy": {"accounts"},
    "auth_sessions": {"accounts", "tenancy"},
    "audit": set(),
    "orgs": {"tenancy"},
    "keyhub": set(),
}
# What keyhub offers to every app: words for models, migrations and admins, what clients send, and where an app
# registers what it knows.
OFFERED_BY_KEYHUB = {
    "keyhub.admin",
    "keyhub.client_input",
    "keyhub.dbhealth",
    "keyhub.foreign_keys",
    "keyhub.migration_operations",
    "keyhub.placement",
    "keyhub.replicas",
    "keyhub.statements",
    "keyhub.store",
    "keyhub.transaction_ids",
}
# A command of Django's, and the command of KeyHub's that it is a part of: one module, test and page serve both.
PART_OF = {"makemigrations": "dbversion"}
NAMES_THAT_SAY_NOTHING = {"common", "helpers", "utils"}
MACHINE_PATH = re.compile(r"""(?:^|[\s"'`=(:])/+(?:home|root|tmp|work|Users)/[\w.-]+""")
FIRST_SCREEN_LINES = 40


def files(root: Path, *patterns: str) -> list[Path]:
    """The files of a checkout that match one of the patterns, relative to its root; what git ignores is left out."""
    # A checkout that belongs to somebody else, as in a container, is read all the same.
    git = "git -c safe.directory=* ls-files --cached --others --exclude-standard --deduplicate -z"
    output = subprocess.run(git.split(), cwd=root, capture_output=True, text=True, check=True).stdout
    paths = [Path(name) for name in output.split("\0") if name and (root / name).is_file()]
    return sorted(path for path in paths if any(path.match(pattern) for pattern in patterns or ("*",)))


def tree_of(root: Path, path: Path) -> ast.Module:
    return ast.parse((root / path).read_text(encoding="utf-8"), filename=str(path))


# Four names


def command_has_four_names(root: Path) -> Iterator[str]:
    for path in files(root, "*/management/commands/*.py"):
        app, name = path.parts[0], PART_OF.get(path.stem, path.stem)
        if name == "__init__":
            continue
        page = root / f"docs/operations/{name}.md"
        if path.stem != name and page.is_file() and path.stem not in page.read_text(encoding="utf-8"):
            yield f"docs/operations/{name}.md does not tell of the command {path.stem}"
            continue
        if not files(root, f"{app}/{name}.py", f"{app}/{name}/__init__.py"):
            yield f"the command {name} has no module {app}/{name}.py"
        if not files(root, f"tests/test_{name}.py", f"tests/*/test_{name}.py"):
            yield f"the command {name} has no test tests/test_{name}.py"
        if not files(root, f"docs/operations/{name}.md"):
            yield f"the command {name} has no page docs/operations/{name}.md"


def page_has_its_command(root: Path) -> Iterator[str]:
    for path in files(root, "docs/operations/*.md"):
        if path.stem not in get_commands():
            yield f"{path} describes a command that does not exist"


def named_command_exists(root: Path) -> Iterator[str]:
    """What people are told to run is there. Decisions and the changelog may name what is gone."""
    for path in files(root, "Makefile", "Dockerfile", "*.md", "*.yml", "*.yaml", ".ci/run"):
        if path.name == "CHANGELOG.md" or path.match("docs/decisions/*"):
            continue
        text = (root / path).read_text(encoding="utf-8")
        for name in sorted(set(re.findall(r"(?:manage\.py|\$\(MANAGE\)) +([a-z]\w*)", text)) - set(get_commands())):
            yield f"{path} names the command {name}, which does not exist"


# Names of modules, migrations and SQL files


def module_name_says_something(root: Path) -> Iterator[str]:
    for path in files(root, "*.py"):
        for part in NAMES_THAT_SAY_NOTHING & {*path.parts[:-1], path.stem}:
            yield f"{path}: {part} says nothing about what is in it"


def migration_name_is_its_change(root: Path) -> Iterator[str]:
    for path in files(root, "*/migrations/*.py"):
        if path.stem == "__init__":
            continue
        if not re.fullmatch(r"\d{4}_[a-z0-9_]+", path.stem) or re.search(r"\d{4}_auto_|_and_more$", path.stem):
            yield f"{path}: name the migration after what it changes"


def sql_file_has_its_way_back(root: Path) -> Iterator[str]:
    names = {str(path) for path in files(root, "*/sql/*.sql")}
    for name in sorted(names):
        stem, _, direction = name.removesuffix(".sql").rpartition(".")
        if direction not in ("up", "down"):
            yield f"{name} ends in neither .up.sql nor .down.sql"
        else:
            other = f"{stem}.{'down' if direction == 'up' else 'up'}.sql"
            if other not in names:
                yield f"{name} has no {other}"


def sql_file_is_run_by_the_migration_of_its_name(root: Path) -> Iterator[str]:
    run = set()
    for path in files(root, "*/migrations/*.py"):
        for name in _names_of_sql_files(tree_of(root, path)):
            if name != path.stem:
                yield f"{path} runs {name}.up.sql: give both the same name"
            run.add(path.parent.parent / "sql" / f"{name}.up.sql")
    existing = set(files(root, "*/sql/*.up.sql"))
    yield from (f"{path} is run by no migration" for path in sorted(existing - run))
    yield from (f"{path} is run by a migration, but does not exist" for path in sorted(run - existing))


def _names_of_sql_files(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RunSQLFile":
            values = node.args[:1] + [keyword.value for keyword in node.keywords if keyword.arg == "name"]
            yield from (value.value for value in values if isinstance(value, ast.Constant))


# Who may know whom


def app_says_whom_it_knows(root: Path) -> Iterator[str]:
    for path in files(root, "*/apps.py"):
        if len(path.parts) == 2 and path.parts[0] not in MAY_IMPORT:
            yield f"the app {path.parts[0]} is not in MAY_IMPORT: say which apps it may import"


def app_imports_only_apps_below(root: Path) -> Iterator[str]:
    for path in files(root, "*.py"):
        app = path.parts[0]
        if app not in MAY_IMPORT:
            continue
        for module in sorted(set(_imported_modules(root, tree_of(root, path)))):
            other = module.partition(".")[0]
            if other not in MAY_IMPORT or other in MAY_IMPORT[app] | {app}:
                continue
            if other == "keyhub" and module in OFFERED_BY_KEYHUB:
                continue
            yield f"{path} imports {module}, but {app} may not know {'it' if other == 'keyhub' else other}"


def _imported_modules(root: Path, tree: ast.Module) -> Iterator[str]:
    """Absolute names; relative imports stay inside their app. In `from package import name`, name may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                place = root.joinpath(*node.module.split("."), alias.name)
                is_module = place.is_dir() or place.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


# What a reader and a fresh clone find


def lock_pins_hashes_and_names_no_address(root: Path) -> Iterator[str]:
    for path in files(root, "requirements*.lock"):
        for line in (root / path).read_text(encoding="utf-8").splitlines():
            if "://" in line or line.startswith("-"):
                yield f"{path}: {line!r} is an address or an option"
        for head, requirement in requirements(root / path).items():
            if not head.startswith("-") and ("==" not in head or "--hash=sha256:" not in requirement):
                yield f"{path}: {head} lacks its version or its hashes"


def production_lock_is_the_production_part_of_the_lock(root: Path) -> Iterator[str]:
    """What is served is what was tested, and nothing that is for tests alone."""
    path = root / "requirements-production.lock"
    if not path.exists():
        return
    whole, production = requirements(root / "requirements.lock"), requirements(path)
    for head, requirement in production.items():
        if whole.get(head) != requirement:
            yield f"requirements-production.lock: {head} is not in requirements.lock with the same hashes: make lock"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = {canonical(head) for head in production}
    wanted = {canonical(requirement) for requirement in project["dependencies"]}
    for name in sorted(wanted - locked):
        yield f"requirements-production.lock lacks {name}: make lock"
    for name in sorted(({canonical(name) for name in project["optional-dependencies"]["dev"]} - wanted) & locked):
        yield f"requirements-production.lock has {name}, a development package: make lock"


def requirements(path: Path) -> dict[str, str]:
    """name==version of each requirement in a lock file: the requirement without its comments."""
    found = {}
    for requirement in re.split(r"\n(?=[^\s#])", path.read_text(encoding="utf-8").replace("\\\n", " ")):
        text = " ".join(re.sub(r"#.*", "", requirement).split())
        if text:
            found[text.split()[0]] = text
    return found


def canonical(requirement: str) -> str:
    """The name of a requirement, as https://packaging.python.org/en/latest/specifications/name-normalization/ says."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def first_screen_names_both_commands(root: Path) -> Iterator[str]:
    screen = "\n".join((root / "README.md").read_text(encoding="utf-8").splitlines()[:FIRST_SCREEN_LINES])
    yield from (
        f"README.md does not name `{command}` in its first {FIRST_SCREEN_LINES} lines"
        for command in ("make up", "make test")
        if command not in screen
    )


def link_leads_somewhere(root: Path) -> Iterator[str]:
    for path in files(root, "*.md"):
        text = re.sub(r"`[^`\n]*`", "", (root / path).read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            name = target.partition("#")[0]
            if name and "://" not in name and not (root / path.parent / name).exists():
                yield f"{path} links to {target}, which does not exist"


def no_path_of_somebodys_machine(root: Path) -> Iterator[str]:
    for path in files(root):
        try:
            lines = (root / path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, start=1):
            yield from (f"{path}:{number}: {found.strip()}" for found in MACHINE_PATH.findall(line))


def ci_run_is_executable(root: Path) -> Iterator[str]:
    if not os.access(root / ".ci" / "run", os.X_OK):
        yield ".ci/run is not executable"


Rule = Callable[[Path], Iterator[str]]
FOUR_NAMES = {
    "keyhub/management/commands/dbhealth.py": "",
    "keyhub/dbhealth/__init__.py": "",
    "tests/test_dbhealth.py": "",
    "docs/operations/dbhealth.md": "",
}
HASH = "--hash=sha256:5965d974"


def without(path: str) -> dict[str, str]:
    return {name: text for name, text in FOUR_NAMES.items() if name != path}


# (rule, a tree that breaks it, its complaints)
FIRES: list[tuple[Rule, dict[str, str], list[str]]] = [
    (command_has_four_names, FOUR_NAMES, []),
    (
        command_has_four_names,
        without("keyhub/dbhealth/__init__.py"),
        ["the command dbhealth has no module keyhub/dbhealth.py"],
    ),
    (
        command_has_four_names,
        # The module of another app is not the command's.
        {**without("keyhub/dbhealth/__init__.py"), "audit/dbhealth.py": ""},
        ["the command dbhealth has no module keyhub/dbhealth.py"],
    ),
    (
        command_has_four_names,
        without("tests/test_dbhealth.py"),
        ["the command dbhealth has no test tests/test_dbhealth.py"],
    ),
    (
        command_has_four_names,
        without("docs/operations/dbhealth.md"),
        ["the command dbhealth has no page docs/operations/dbhealth.md"],
    ),
    (
        command_has_four_names,
        {
            "keyhub/management/commands/makemigrations.py": "",
            "keyhub/dbversion/__init__.py": "",
            "tests/test_dbversion.py": "",
            "docs/operations/dbversion.md": "Tells the version.",
        },
        ["docs/operations/dbversion.md does not tell of the command makemigrations"],
    ),
    (
        page_has_its_command,
        {"docs/operations/dbmiracle.md": "", "docs/operations/migrate.md": ""},
        ["docs/operations/dbmiracle.md describes a command that does not exist"],
    ),
    (
        named_command_exists,
        {
            "Makefile": "up:\n\t@$(MANAGE) migrate\n\t@$(MANAGE) dbwish\n",
            "docs/operations/dbhealth.md": "Run `manage.py dbmiracle` and `manage.py dbhealth`.",
            "docs/decisions/2026-11-23-x.md": "There was `manage.py dbformerly`.",
        },
        [
            "Makefile names the command dbwish, which does not exist",
            "docs/operations/dbhealth.md names the command dbmiracle, which does not exist",
        ],
    ),
    (
        module_name_says_something,
        {"audit/utils.py": "", "tests/helpers/rows.py": "", "audit/calendar.py": ""},
        [
            "audit/utils.py: utils says nothing about what is in it",
            "tests/helpers/rows.py: helpers says nothing about what is in it",
        ],
    ),
    (
        migration_name_is_its_change,
        {
            "audit/migrations/__init__.py": "",
            "audit/migrations/0001_audit_logs.py": "",
            "audit/migrations/0002_auto_20261123_1200.py": "",
            "audit/migrations/0003_alter_auditlog_action_and_more.py": "",
            "audit/migrations/labels.py": "",
        },
        [
            f"audit/migrations/{name}.py: name the migration after what it changes"
            for name in ("0002_auto_20261123_1200", "0003_alter_auditlog_action_and_more", "labels")
        ],
    ),
    (
        sql_file_has_its_way_back,
        {
            "audit/sql/0001_a.up.sql": "",
            "audit/sql/0001_a.down.sql": "",
            "audit/sql/0002_b.up.sql": "",
            "audit/sql/0003_c.down.sql": "",
            "audit/sql/0004_d.sql": "",
        },
        [
            "audit/sql/0002_b.up.sql has no audit/sql/0002_b.down.sql",
            "audit/sql/0003_c.down.sql has no audit/sql/0003_c.up.sql",
            "audit/sql/0004_d.sql ends in neither .up.sql nor .down.sql",
        ],
    ),
    (
        sql_file_is_run_by_the_migration_of_its_name,
        {
            "audit/migrations/0001_a.py": "operations = [RunSQLFile('0001_a')]",
            "audit/migrations/0002_b.py": "operations = [RunSQLFile(name='0001_a')]",
            "audit/migrations/0003_c.py": "operations = [RunSQLFile('0003_c')]",
            "audit/sql/0001_a.up.sql": "",
            "audit/sql/0004_d.up.sql": "",
        },
        [
            "audit/migrations/0002_b.py runs 0001_a.up.sql: give both the same name",
            "audit/sql/0004_d.up.sql is run by no migration",
            "audit/sql/0003_c.up.sql is run by a migration, but does not exist",
        ],
    ),
    (
        app_says_whom_it_knows,
        {"billing/apps.py": "", "accounts/apps.py": ""},
        ["the app billing is not in MAY_IMPORT: say which apps it may import"],
    ),
    (
        app_imports_only_apps_below,
        {
            "accounts/models.py": "import tenancy.models\nfrom django.db import models\nfrom . import admin",
            "accounts/health.py": "def check():\n    from orgs import models",
            "audit/apps.py": "from keyhub import dbhealth\nfrom keyhub.dbhealth import Finding, checks",
            "auth_sessions/models.py": "from accounts.models import User\nfrom tenancy.models import Tenant",
            "keyhub/checks.py": "from accounts.models import User",
            "keyhub/dbhealth/checks.py": "from keyhub.dbhealth import register",
            "keyhub/management/commands/dbhealth.py": "import audit",
            "orgs/migrations/0001_a.py": "from keyhub.settings import DEBUG\nfrom keyhub.foreign_keys import OnDelete",
        },
        [
            "accounts/health.py imports orgs, but accounts may not know orgs",
            "accounts/models.py imports tenancy.models, but accounts may not know tenancy",
            "audit/apps.py imports keyhub.dbhealth.checks, but audit may not know it",
            "keyhub/checks.py imports accounts.models, but keyhub may not know accounts",
            "keyhub/management/commands/dbhealth.py imports audit, but keyhub may not know audit",
            "orgs/migrations/0001_a.py imports keyhub.settings, but orgs may not know it",
        ],
    ),
    (
        lock_pins_hashes_and_names_no_address,
        {
            "requirements.lock": f"django==5.2.19 \\\n    {HASH} \\\n    {HASH}\n    # via keyhub\n"
            f"--index-url https://packages.example/\npsycopg==3.3.9\nruff \\\n    {HASH}\n"
        },
        [
            "requirements.lock: '--index-url https://packages.example/' is an address or an option",
            "requirements.lock: psycopg==3.3.9 lacks its version or its hashes",
            "requirements.lock: ruff lacks its version or its hashes",
        ],
    ),
    (
        lock_pins_hashes_and_names_no_address,
        {"requirements.lock": "", "requirements-production.lock": "psycopg==3.3.9\n"},
        ["requirements-production.lock: psycopg==3.3.9 lacks its version or its hashes"],
    ),
    (
        production_lock_is_the_production_part_of_the_lock,
        {
            "pyproject.toml": "[project]\ndependencies = ['Django~=5.2', 'gunicorn~=27.0']\n"
            "[project.optional-dependencies]\ndev = ['factory_boy~=3.3', 'ruff~=0.17']\n",
            "requirements.lock": f"django==5.2.19 \\\n    {HASH}\n    # via keyhub\n"
            f"factory-boy==3.3.3 \\\n    {HASH}\nasgiref==3.13.0 \\\n    {HASH}\n",
            "requirements-production.lock": f"django==5.2.19 \\\n    {HASH}\n    # via -c requirements.lock\n"
            f"factory-boy==3.3.3 \\\n    {HASH}\nasgiref==3.13.0 \\\n    {HASH}0\n",
        },
        [
            "requirements-production.lock: asgiref==3.13.0 is not in requirements.lock with the same hashes: make lock",
            "requirements-production.lock lacks gunicorn: make lock",
            "requirements-production.lock has factory-boy, a development package: make lock",
        ],
    ),
    (
        first_screen_names_both_commands,
        {"README.md": "# KeyHub\n\n    make up\n" + "\n" * FIRST_SCREEN_LINES + "    make test\n"},
        ["README.md does not name `make test` in its first 40 lines"],
    ),
    (
        link_leads_somewhere,
        {
            "docs/layout.md": "[a](../README.md) [b](operations/none.md#top) [c](https://example.com/x) [d](#here) "
            "`[a-z]([0-9])`",
            "README.md": "",
        },
        ["docs/layout.md links to operations/none.md#top, which does not exist"],
    ),
    (
        no_path_of_somebodys_machine,
        {
            "README.md": "See /usr/lib/postgresql.\nMine is in " + "/".join(["", "home", "alice", "keyhub"]),
            "keyhub/settings.py": 'HOME = "' + "/".join(["", "Users", "bob"]) + '"',
            "docs/page.md": "https://example.com/home/alice and docs/tmp/x",
        },
        ["README.md:2: /home" + "/alice", 'keyhub/settings.py:1: "/Users' + "/bob"],
    ),
    (ci_run_is_executable, {".ci/run": "#!/usr/bin/env bash\n"}, [".ci/run is not executable"]),
]
RULES = list(dict.fromkeys(rule for rule, _, _ in FIRES))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps(rule):
    assert "\n".join(rule(REPOSITORY)) == ""


@pytest.mark.parametrize(
    ("rule", "tree", "complaints"), FIRES, ids=[f"{rule.__name__}-{n}" for n, (rule, _, _) in enumerate(FIRES)]
)
def test_a_rule_fires(rule, tree, complaints, tmp_path):
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for name, text in tree.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert list(rule(tmp_path)) == complaints


def test_each_rule_is_seen_to_fire():
    assert {rule for rule, _, complaints in FIRES if complaints} == set(RULES)


def test_the_rules_find_what_they_judge():
    """An empty list of files would keep every rule."""
    assert len(files(REPOSITORY, "*/management/commands/*.py")) > 3
    assert len(files(REPOSITORY, "*/sql/*.up.sql")) > 5
    assert {path.parts[0] for path in files(REPOSITORY, "*/apps.py")} == set(MAY_IMPORT)
    assert len(files(REPOSITORY, "*/models.py")) == len(MAY_IMPORT) - 1
