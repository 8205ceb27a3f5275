"""What operators change is told in the audit log, in the transaction that changes it.

An operator is no user: `user_id` stays empty, `actor_label` is the operator's e-mail, and `details` hold the operator's
id. OWASP ASVS 16.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from django.apps import apps
from django.contrib.auth.models import Group as PermissionGroup
from django.db import models, router, transaction
from django.http import HttpRequest

from keyhub.client_input import client_address

if TYPE_CHECKING:
    from django.forms import BaseModelForm

NO_ORGANIZATION = "-"  # of what belongs to none, such as a user
LATEST_ROWS = 10
# Values of these are told; of texts that people have written only that they were changed, since they may be names,
# which the log could not forget.
TOLD = (models.BooleanField, models.IntegerField, models.DateTimeField)


class Place(NamedTuple):
    """Where a row belongs."""

    organization_id: str = NO_ORGANIZATION
    tenant: models.Model | None = None


def record(
    request: HttpRequest, verb: str, row: models.Model, place: Place, details: Mapping[str, object] | None = None
) -> None:
    """Add an audit row: what the operator of a request has done to a row."""
    resource_type = resource_type_of(type(row))
    apps.get_model("audit", "AuditLog").objects.record(
        f"{resource_type}.{verb}",
        resource_type,
        row.pk,
        organization_id=place.organization_id,
        tenant=place.tenant,
        user=request.user,
        details={"operator": request.user.pk, **(details or {})},
        ip_address=client_address(request),
        user_agent=request.META.get("HTTP_USER_AGENT"),
    )


def evidence_of(using: str) -> AbstractContextManager:
    """Around a change, in its transaction: where the log lies in another database, what it tells is committed before.

    So no change is without evidence; of one that then fails at its commit there is some.
    """
    log = router.db_for_write(apps.get_model("audit", "AuditLog"))
    return nullcontext() if log == using else transaction.atomic(using=log)


def latest(row: models.Model) -> list[models.Model]:
    """The newest audit rows of a tenant, of a user, or of what else a row is."""
    log = apps.get_model("audit", "AuditLog").objects
    return log.filter(**lookups_of(row)).page(rows=LATEST_ROWS).rows


def lookups_of(row: models.Model) -> dict[str, object]:
    """By which columns the audit log knows a row, each with an index of its own."""
    resource_type = resource_type_of(type(row))
    if resource_type in ("tenant", "user"):
        return {f"{resource_type}_id": row.pk}
    if resource_type == "organization":
        return {"organization_id": row.pk}
    return {"resource_type": resource_type, "resource_id": str(row.pk)}


def resource_type_of(model: type[models.Model]) -> str:
    """TenantJoinCode: tenant_join_code."""
    if model is PermissionGroup:  # a group is one of a tenant's people
        return "permission_group"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", model.__name__).lower()


def changes_of(form: BaseModelForm) -> dict[str, object]:
    """What a form has changed: {"changed": [names], "values": {name: [before, after]}}."""
    names = sorted(form.changed_data)
    values = {
        name: [_plain(form.initial.get(name)), _plain(form.cleaned_data.get(name))] for name in _told(form, names)
    }
    return {"changed": names, **({"values": values} if values else {})}


def _told(form: BaseModelForm, names: Iterable[str]) -> list[str]:
    columns = {field.name: field for field in form._meta.model._meta.get_fields() if field.concrete}
    return [
        name
        for name in names
        if name in columns and (isinstance(columns[name], TOLD) or getattr(columns[name], "choices", None))
    ]


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool | int) else str(value)
