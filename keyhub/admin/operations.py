"""What operators do to rows beyond changing columns: each asks for confirmation, does it, and tells the audit log.

An app offers an operation on a model with offer(), also on a model of an app below: sessions of a user are ended on the
user's page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from django import forms
from django.contrib.admin.options import ModelAdmin
from django.db import models
from django.http import HttpRequest


class NoOptions(forms.Form):
    pass


def always(row: models.Model) -> bool:
    return True


def nothing_more(done: list[dict]) -> str:
    return ""


@dataclass(frozen=True)
class Operation:
    """An operation on rows of a model.

    `verb` names it in addresses and in the audit log, `permission` is the one that it takes. `run` does it to one row
    and returns what the audit log is to tell, or None where there was nothing to do; one of `refusals` undoes it, and
    is shown. `options` are asked beside the question; `done` is the sentence afterwards, with %(done)d and
    %(selected)d, and `summary` says more.
    """

    verb: str
    label: str
    question: str
    permission: str
    run: Callable[[models.Model, dict], dict | None]
    done: str
    icon: str = "bolt"
    options: type[forms.Form] = NoOptions
    applies: Callable[[models.Model], bool] = always
    refusals: tuple[type[Exception], ...] = ()
    summary: Callable[[list[dict]], str] = nothing_more
    is_for_many: bool = True
    takes_the_row_away: bool = False
    is_dangerous: bool = True

    def is_permitted(self, request: HttpRequest, model_admin: ModelAdmin) -> bool:
        return request.user.has_perm(self.permission) and model_admin.has_view_permission(request)


_offered: defaultdict[type[models.Model], list[Operation]] = defaultdict(list)


def offer(model: type[models.Model], operation: Operation) -> None:
    """Put an operation on the pages of a model."""
    _offered[model] = [known for known in _offered[model] if known.verb != operation.verb] + [operation]


def offered(model: type[models.Model]) -> list[Operation]:
    return _offered[model]
