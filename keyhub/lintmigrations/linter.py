"""Steps, in their order, against the rules."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from django.apps import apps

from keyhub.lintmigrations import (
    allowances,
    rules,  # noqa: F401 importing it registers them
    squawk,
)
from keyhub.lintmigrations.catalogue import Catalogue
from keyhub.lintmigrations.django_migrations import columns_by_table, project_steps
from keyhub.lintmigrations.findings import Complaint, Finding
from keyhub.lintmigrations.report import Report
from keyhub.lintmigrations.rules.registry import ON_HISTORY, ON_STATEMENTS, ON_STEPS, History, Scene, all_ids
from keyhub.lintmigrations.sql_files import file_steps
from keyhub.lintmigrations.statements import Statement
from keyhub.lintmigrations.steps import Step


def lint_project(*, ask_squawk: bool = True) -> Report:
    """Read the project's own migrations. Raises LintError where something cannot be read."""
    return lint(project_steps(), ask_squawk=ask_squawk)


def lint_files(paths: Iterable[Path]) -> Report:
    """Read SQL files, in the order of their names, as one history. Raises LintError where one cannot be read."""
    return lint(file_steps(paths))


def lint(steps: list[Step], *, ask_squawk: bool = True) -> Report:
    """Hold steps against the rules, and where it is installed, against squawk's."""
    program = squawk.program() if ask_squawk else None
    findings = broken_rules(steps)
    if program:
        findings += squawk.findings(steps, program)
    asked = [(step.name, allowance) for step in steps for allowance in step.allowances]
    findings = list(allowances.apply(asked, findings, all_ids(), judge_squawk=program is not None))
    order = {step.name: number for number, step in enumerate(steps)}
    findings.sort(key=lambda finding: (order[finding.migration], finding.place, finding.id))
    return Report(len(steps), findings, squawk_was_asked=program is not None)


def broken_rules(steps: list[Step]) -> list[Finding]:
    """Return what the rules say, each thing once."""
    catalogue = Catalogue()
    history = History(steps, catalogue, columns_by_table(apps.get_models(include_auto_created=True)))
    found: list[Finding] = []
    for moment, step in enumerate(steps):
        scene = Scene(step, moment, catalogue, history)
        found += _statements(step.up, scene)
        for rule in ON_STEPS:
            found += [_finding(rule.id, step, complaint) for complaint in rule.check(scene)]
        if step.down:
            # What the way back makes, it makes at a moment of its own.
            back = Scene(step, moment + len(steps), catalogue.copy(), history, is_way_back=True)
            found += _statements(step.down, back)
    for rule in ON_HISTORY:
        found += [_finding(rule.id, steps[moment], complaint) for moment, complaint in rule.check(history)]
    return list(dict.fromkeys(found))


def _statements(statements: list[Statement], scene: Scene) -> Iterator[Finding]:
    for statement in statements:
        for rule in ON_STATEMENTS:
            if rule.also_down or not scene.is_way_back:
                for complaint in rule.check(statement, scene):
                    yield _finding(rule.id, scene.step, complaint)
        scene.catalogue.apply(statement, scene.moment)


def _finding(rule_id: str, step: Step, complaint: Complaint) -> Finding:
    return Finding(rule_id, step.name, complaint.place, complaint.problem, complaint.mend)
