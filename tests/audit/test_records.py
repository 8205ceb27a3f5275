"""An event is recorded whatever the client has sent, in the transaction of what it tells."""

from datetime import UTC, datetime

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction

from audit import records
from audit.models import AuditLog
from audit.records import EventError
from tests.factories import OperatorFactory, TenantFactory, UserFactory

pytestmark = pytest.mark.django_db


def recorded(**fields) -> AuditLog:
    row = AuditLog.objects.record("user.login", "session", organization_id="ORG-DEFAULT-001", **fields)
    return AuditLog.objects.get(pk=row.pk)


def test_an_event_keeps_the_ids_and_the_names_of_the_day():
    alice, research = UserFactory(email="alice@example.com"), TenantFactory(name="Research")
    row = recorded(
        resource_id=7, tenant=research, user=alice, outcome="denied", details={"a": [1, None, True, 2.5]},
        ip_address="203.0.113.7", user_agent="Firefox", request_id="r-1",
    )  # fmt: skip
    assert (row.action, row.resource_type, row.resource_id) == ("user.login", "session", "7")
    assert (row.tenant_id, row.tenant_label) == (research.pk, "Research")
    assert (row.user_id, row.actor_label) == (alice.pk, "alice@example.com")
    assert (row.outcome, row.details, row.request_id) == ("denied", {"a": [1, None, True, 2.5]}, "r-1")
    assert (row.ip_address, row.user_agent) == ("203.0.113.7", "Firefox")


def test_little_is_enough():
    row = recorded()
    assert (row.outcome, row.tenant_id, row.user_id, row.details, row.ip_address) == ("success", None, None, None, None)


def test_it_goes_with_what_it_tells():
    with transaction.atomic():
        recorded()
        transaction.set_rollback(True)
    assert AuditLog.objects.count() == 0


def nested(levels: int, kind: type) -> object:
    value: object = "bottom"
    for _ in range(levels):
        value = [value] if kind is list else {"k": value}
    return value


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"a\0b": "c\0d"}, {"a�b": "c�d"}),
        ({"deep": [{"x": ["\ud800"]}]}, {"deep": [{"x": ["�"]}]}),
        ({1: 2, None: 3, (4, 5): 6}, {"1": 2, "": 3, "(4, 5)": 6}),
        ({"n": float("nan"), "i": float("inf")}, {"n": "nan", "i": "inf"}),
        ({"t": datetime(2026, 1, 1, tzinfo=UTC)}, {"t": "2026-01-01 00:00:00+00:00"}),
        ({"s": {1}, "b": b"\xff\0", "tuple": (1, 2)}, {"s": [1], "b": "��", "tuple": [1, 2]}),
        ({"huge": 10**5000, "small": -(10**5000)}, {"huge": "…", "small": "…"}),
        ({"long": "x" * 100_000}, {"long": "x" * 2_000}),
    ],
    ids=["NUL", "surrogates", "keys", "NaN", "time", "other types", "integers", "long"],
)
def test_hostile_details(given, stored):
    assert recorded(details=given).details == stored


@pytest.mark.parametrize("kind", [list, dict])
def test_details_are_bounded_in_depth(kind):
    row = recorded(details={"k": nested(100_000, kind)})
    assert str(row.details).count("{") + str(row.details).count("[") == 8


def test_details_are_bounded_in_size():
    row = recorded(details={"list": list(range(100_000)), "later": 1})
    assert len(row.details["list"]) == 1_000
    assert row.details["list"][-1] == "…"
    row = recorded(details={str(number): "x" * 2_000 for number in range(900)})
    assert len(str(row.details)) < 80_000


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("unknown, 2001:db8::1", "2001:db8::1"),
        ("203.0.113.7:8080", "203.0.113.7"),
        ("[2001:db8::1]:8080", "2001:db8::1"),
        ("nonsense", None),
        ("1.2.3.4\0", None),
        ("\ud800", None),
        ("," * 100_000, None),
        ("", None),
    ],
    ids=ascii,
)
def test_addresses(given, stored):
    assert recorded(ip_address=given).ip_address == stored


@pytest.mark.parametrize("field", ["user_agent", "request_id", "resource_id"])
@pytest.mark.parametrize(("given", "stored"), [("a\0\ud800", "a��"), ("x" * 100_000, "x" * 1_000), (b"\xffa", "�a")])
def test_hostile_texts(field, given, stored):
    assert getattr(recorded(**{field: given}), field) == stored


def test_the_asynchronous_twin():
    async def record() -> AuditLog:
        return await AuditLog.objects.arecord("user.login", "session", organization_id="o")

    assert async_to_sync(record)().pk


# Many at once


EVENT = {"action": "user.login", "resource_type": "session", "organization_id": "ORG-DEFAULT-001"}


def columns(row: AuditLog) -> dict:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_what_is_ingested_is_what_would_have_been_recorded():
    alice, research = UserFactory(email="alice@example.com"), TenantFactory(name="Research")
    events = [
        EVENT,
        EVENT | {
            "resource_id": 7, "tenant": research, "user": alice, "outcome": "denied", "request_id": "r\t\\N",
            "details": {"a\0": ["\\", "\n", None, {"é": 1.5}]}, "ip_address": "203.0.113.7, 10.0.0.1",
            "user_agent": "\\N\0" * 2_000,
        },
        EVENT | {"details": {}, "user_agent": "", "resource_id": "\\."},
    ]  # fmt: skip
    assert AuditLog.objects.ingest(events) == 3
    ingested = [columns(row) for row in AuditLog.objects.order_by("resource_id")]
    for event in events:
        AuditLog.objects.record(**event)
    others = AuditLog.objects.exclude(pk__in=[row["id"] for row in ingested]).order_by("resource_id")
    generated = {"id", "created_at"}
    for row, recorded_row in zip(ingested, map(columns, others), strict=True):
        assert {k: v for k, v in row.items() if k not in generated} == {
            k: v for k, v in recorded_row.items() if k not in generated
        }


def test_an_event_of_before_lies_in_its_month():
    before = datetime(2020, 5, 1, 12, tzinfo=UTC)
    assert AuditLog.objects.ingest([EVENT | {"created_at": before}, EVENT]) == 2
    assert AuditLog.objects.order_by("created_at").first().created_at == before


def test_nothing_is_ingested():
    assert AuditLog.objects.ingest([]) == 0


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (
            {"action": "a"},
            "Event 2: missing 1 required positional argument: 'resource_type'. Give what record() takes.",
        ),
        (EVENT | {"ip": 1}, "Event 2: got an unexpected keyword argument 'ip'. Give what record() takes."),
        (
            EVENT | {"created_at": datetime(2026, 1, 1)},
            "Event 2: created_at is no aware datetime but datetime.datetime(2026, 1, 1, 0, 0).",
        ),
        (EVENT | {"created_at": "now"}, "Event 2: created_at is no aware datetime but 'now'."),
    ],
)
def test_all_or_none(event, sentence):
    with pytest.raises(EventError) as refusal:
        AuditLog.objects.ingest([EVENT, event, EVENT])
    assert str(refusal.value) == f"{sentence} Nothing was added."
    assert AuditLog.objects.count() == 0  # and the transaction goes on


def test_a_rule_of_the_database_refuses_all():
    with pytest.raises(IntegrityError):
        AuditLog.objects.ingest([EVENT, EVENT | {"outcome": "perhaps"}])
    assert AuditLog.objects.count() == 0


def test_events_that_read_the_database_on_the_way():
    users = UserFactory.create_batch(3)
    AuditLog.objects.ingest(
        EVENT | {"user": user} for user in type(users[0]).objects.only("pk").order_by("email").iterator()
    )
    labels = AuditLog.objects.order_by("actor_label").values_list("actor_label", flat=True)
    assert list(labels) == sorted(user.email for user in users)


def test_many_are_all_or_none(monkeypatch):
    monkeypatch.setattr(records, "ROWS_A_COPY", 2)
    assert AuditLog.objects.ingest([EVENT] * 5) == 5
    with pytest.raises(EventError, match=r"^Event 5: "):
        AuditLog.objects.ingest([EVENT] * 4 + [{}])
    assert AuditLog.objects.count() == 5


def test_an_operator_is_known_by_the_label_alone():
    operator = OperatorFactory(email="operator@keyhub.test")
    row = recorded(user=operator)
    assert (row.user_id, row.actor_label) == (None, "operator@keyhub.test")
    assert AuditLog.objects.ingest([EVENT | {"user": operator}]) == 1


@pytest.mark.parametrize("event", [5, None, {5: 6}])
def test_what_is_no_event(event):
    with pytest.raises(EventError, match=r"^Event 1: it is no mapping of names\."):
        AuditLog.objects.ingest([event])


def test_integers_of_thousands_of_digits():
    row = recorded(user_agent=10**5000, request_id=10**5000, ip_address=10**5000)
    assert (row.user_agent, row.request_id, row.ip_address) == ("�", "�", None)
