"""What a rule is, what it sees, and the list of all rules."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keyhub.lintmigrations.catalogue import Catalogue
from keyhub.lintmigrations.findings import Complaint
from keyhub.lintmigrations.statements import Statement
from keyhub.lintmigrations.steps import Step


@dataclass(frozen=True)
class Scene:
    """A step, and the tables as they stand: before the statement, or after all statements of the step."""

    step: Step
    moment: int
    catalogue: Catalogue
    history: "History"
    is_way_back: bool = False

    @property
    def title(self) -> str:
        return f"{self.step.title}, on its way back," if self.is_way_back else self.step.title

    def existed(self, table: str) -> bool:
        """Say whether a table was there before this step, perhaps with a million rows."""
        return self.catalogue.table(table).born != self.moment


@dataclass(frozen=True)
class History:
    """All steps, and the tables after the last one."""

    steps: list[Step]
    catalogue: Catalogue
    live_columns: dict[str, set[str]]
    """By table, the columns of the models in the code."""

    def title(self, moment: int) -> str:
        return self.steps[moment].title


StatementRule = Callable[[Statement, Scene], Iterable[Complaint]]
StepRule = Callable[[Scene], Iterable[Complaint]]
HistoryRule = Callable[[History], Iterable[tuple[int, Complaint]]]


@dataclass(frozen=True)
class Rule:
    id: str
    check: Callable
    also_down: bool = False


ON_STATEMENTS: list[Rule] = []
ON_STEPS: list[Rule] = []
ON_HISTORY: list[Rule] = []


def on_statement(rule_id: str, *, also_down: bool = False) -> Callable[[StatementRule], StatementRule]:
    """Register a rule that is asked about every statement, with the tables as the statement finds them."""

    def register(check: StatementRule) -> StatementRule:
        ON_STATEMENTS.append(Rule(rule_id, check, also_down))
        return check

    return register


def on_step(rule_id: str) -> Callable[[StepRule], StepRule]:
    """Register a rule that is asked about every step, with the tables as the step leaves them."""

    def register(check: StepRule) -> StepRule:
        ON_STEPS.append(Rule(rule_id, check))
        return check

    return register


def on_history(rule_id: str) -> Callable[[HistoryRule], HistoryRule]:
    """Register a rule that is asked once, at the end; it tells the moment of the step that each complaint is about."""

    def register(check: HistoryRule) -> HistoryRule:
        ON_HISTORY.append(Rule(rule_id, check))
        return check

    return register


def all_ids() -> set[str]:
    return {rule.id for rule in ON_STATEMENTS + ON_STEPS + ON_HISTORY}
