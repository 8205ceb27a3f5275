"""Recording what happened, in the transaction in which it happens, and whatever the client has sent."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from psycopg import sql
from psycopg.types.json import Jsonb

from keyhub.client_input import first_address, storable_text
from keyhub.statements import StatementQuerySet

if TYPE_CHECKING:
    from audit.models import AuditLog

ROWS_A_COPY = 10_000
DETAILS_DEPTH = 8
DETAILS_ITEMS = 1_000  # of all levels together
DETAILS_TEXT_CHARACTERS = 2_000
DETAILS_CHARACTERS = 60_000  # of all texts together
LARGEST_INTEGER = 10**30
CUT = "…"
RECORD = """
    INSERT INTO audit_logs (organization_id, tenant_id, tenant_label, user_id, actor_label, action, resource_type,
        resource_id, outcome, details, ip_address, user_agent, request_id)
    VALUES (%(organization_id)s, %(tenant_id)s, %(tenant_label)s, %(user_id)s, %(actor_label)s, %(action)s,
        %(resource_type)s, %(resource_id)s, %(outcome)s, %(details)s, %(ip_address)s, %(user_agent)s, %(request_id)s)
    RETURNING id, created_at, transaction_id
"""
OF_THE_DATABASE = ("id", "transaction_id")  # columns whose values are its defaults


class RecordingQuerySet(StatementQuerySet):
    def record(self, action: str, resource_type: str, resource_id: object = None, **about: object) -> AuditLog:
        """Add one event, as a part of the caller's transaction: it stays or goes with what it tells.

        `about` is what storable_event() takes: organization_id, and tenant, user, outcome, details, ip_address,
        user_agent, request_id.

        `tenant` and `user` are rows, or anything with a UUID for `pk`; their names of the day are kept as labels.
        `outcome` is one of AuditLog.Outcome. What a client has sent may be anything: details, address, agent and
        request id are made fit to be stored, cut where they are huge, and never raise. What to record: OWASP ASVS
        16.2.1, 16.3.
        """
        event = storable_event(action, resource_type, resource_id, **about)
        details = event["details"]
        database = self.writer
        with transaction.mark_for_rollback_on_error(using=database), connections[database].cursor() as cursor:
            cursor.execute(RECORD, event | {"details": None if details is None else Jsonb(details)})
            key, created_at, transaction_id = cursor.fetchone()
        row = self.model(**event, id=key, created_at=created_at, transaction_id=int(transaction_id))
        row._state.adding, row._state.db = False, database
        return row

    def ingest(self, events: Iterable[Mapping[str, object]]) -> int:
        """Add many events by COPY, all of them or none; return how many.

        Each is a mapping of the arguments of record(), and `created_at`, an aware datetime, where it happened before.
        Raises EventError where an event is none, and IntegrityError as record() does.
        """
        connection = connections[self.writer]
        numbered = enumerate(events, 1)
        names = [field.attname for field in self.model._meta.concrete_fields if field.attname not in OF_THE_DATABASE]
        statement = sql.SQL("COPY audit_logs ({}) FROM STDIN").format(sql.SQL(", ").join(map(sql.Identifier, names)))
        added = 0
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            (now,) = cursor.fetchone()
            # What may ask the database is done before the COPY begins, which keeps the connection busy; the rest while
            # the server is at work on the rows before.
            while some := [(number, _taken(number, event)) for number, event in islice(numbered, ROWS_A_COPY)]:
                with connection.wrap_database_errors, cursor.copy(statement) as copy:
                    for number, arguments in some:
                        row = _row(number, arguments, now)
                        copy.write_row([row[name] for name in names])
                added += len(some)
        return added

    async def arecord(self, *args, **kwargs):
        return await sync_to_async(self.record)(*args, **kwargs)

    async def aingest(self, events: Iterable[Mapping[str, object]]) -> int:
        return await sync_to_async(self.ingest)(events)


class EventError(ValueError):
    """An event cannot be recorded; the text is one sentence that says which one and why."""


def storable_event(
    action: str,
    resource_type: str,
    resource_id: object = None,
    *,
    organization_id: str,
    tenant: object = None,
    user: object = None,
    outcome: str = "success",
    details: Mapping | None = None,
    ip_address: object = None,
    user_agent: object = None,
    request_id: object = None,
) -> dict[str, object]:
    """The columns of an event, fit to be stored, from the arguments of RecordingQuerySet.record()."""
    return {
        "organization_id": storable_text(organization_id),
        "tenant_id": _uuid_of(tenant),
        "tenant_label": storable_text(tenant),
        "user_id": _uuid_of(user),
        "actor_label": storable_text(user),
        "action": storable_text(action),
        "resource_type": storable_text(resource_type),
        "resource_id": storable_text(resource_id),
        "outcome": outcome,
        "details": None if details is None else storable_json(details),
        "ip_address": first_address(ip_address),
        "user_agent": storable_text(user_agent),
        "request_id": storable_text(request_id),
    }


def _uuid_of(subject: object) -> uuid.UUID | None:
    """The id of a user or a tenant; of others, such as an operator, the label says who it was."""
    key = getattr(subject, "pk", None)
    return key if isinstance(key, uuid.UUID) else None


def _taken(number: int, event: Mapping[str, object]) -> dict[str, object]:
    """The arguments of an event that is ingested as the `number`th, in which nothing is left to ask the database."""
    if not isinstance(event, Mapping) or not all(isinstance(name, str) for name in event):
        raise EventError(f"Event {number}: it is no mapping of names. Give what record() takes. Nothing was added.")
    arguments = dict(event)
    for name in ("tenant", "user"):
        if arguments.get(name) is not None:
            arguments[name] = _Subject(_uuid_of(arguments[name]), storable_text(arguments[name]))
    return arguments


class _Subject(NamedTuple):
    pk: uuid.UUID | None
    label: str

    def __str__(self) -> str:
        return self.label


def _row(number: int, arguments: dict[str, object], now: datetime) -> dict[str, object]:
    """The columns of an event that is ingested as the `number`th."""
    created_at = arguments.pop("created_at", None) or now
    if not isinstance(created_at, datetime) or created_at.tzinfo is None:
        raise EventError(f"Event {number}: created_at is no aware datetime but {created_at!r}. Nothing was added.")
    try:
        row = storable_event(**arguments)
    except TypeError as error:
        reason = str(error).partition("() ")[2]
        raise EventError(f"Event {number}: {reason}. Give what record() takes. Nothing was added.") from error
    details = row["details"]
    return row | {"created_at": created_at, "details": details if details is None else json.dumps(details)}


def storable_json(value: object) -> object:
    """A copy that jsonb can hold, whatever was given: cut in depth, number of items and length of texts.

    Other types than JSON's become texts; NaN and the infinities, which JSON lacks, too.
    """
    return _Copy().of(value, DETAILS_DEPTH)


class _Copy:
    """One copy, with what is left of the bounds of the whole."""

    def __init__(self):
        self.items_left = DETAILS_ITEMS
        self.characters_left = DETAILS_CHARACTERS

    def of(self, value: object, depth_left: int) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if abs(value) <= LARGEST_INTEGER else CUT  # str() of a huge one raises
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth_left)
        if isinstance(value, list | tuple | set | frozenset):
            return self._list(value, depth_left)
        return self._text(value)

    def _mapping(self, value: Mapping, depth_left: int) -> object:
        copy = {}
        if depth_left:
            for key, item in value.items():
                if not self._takes_another():
                    copy[CUT] = CUT
                    break
                copy[self._text(key)] = self.of(item, depth_left - 1)
        return copy if depth_left else CUT

    def _list(self, value: list | tuple | set | frozenset, depth_left: int) -> object:
        copy = []
        if depth_left:
            for item in value:
                if not self._takes_another():
                    copy.append(CUT)
                    break
                copy.append(self.of(item, depth_left - 1))
        return copy if depth_left else CUT

    def _takes_another(self) -> bool:
        self.items_left -= 1
        return self.items_left >= 0

    def _text(self, value: object) -> str:
        text = storable_text("" if value is None else value, min(DETAILS_TEXT_CHARACTERS, self.characters_left))
        self.characters_left -= len(text)
        return text
