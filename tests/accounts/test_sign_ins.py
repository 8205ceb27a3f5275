"""What the audit log tells of operators at the door."""

import pytest
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import gate, second_factor
from accounts.models import Operator
from audit.models import AuditLog
from tests.factories import OperatorFactory

pytestmark = [pytest.mark.django_db, pytest.mark.once]

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def quick(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice() -> Operator:
    return Operator.objects.create_superuser("alice@keyhub.test", PASSWORD)


def give(client: Client, password: str = PASSWORD, email: str = "Alice@keyhub.test"):
    return client.post("/admin/login/?next=/admin/", {"username": email, "password": password})


def token(key: str, steps: int = 0) -> str:
    return f"{totp(bytes.fromhex(key), drift=steps):06}"


def told() -> list[tuple]:
    rows = AuditLog.objects.order_by("transaction_id", "created_at").values_list(
        "action", "outcome", "resource_id", "actor_label", "details"
    )
    return [(*row[:4], row[4] or {}) for row in rows]


def test_an_event_says_who_and_from_where(client, alice):
    client.post(
        "/admin/login/?next=/admin/",
        {"username": "alice@keyhub.test", "password": PASSWORD},
        REMOTE_ADDR="192.0.2.1",
        headers={"user-agent": "browser"},
    )
    event = AuditLog.objects.get()
    assert (event.action, event.outcome, event.details) == ("operator.sign_in", "success", {"second_factor": "none"})
    assert (event.organization_id, event.tenant_id) == ("-", None)
    assert (event.resource_type, event.resource_id) == ("operator", str(alice.pk))
    assert (event.user_id, event.actor_label) == (None, "alice@keyhub.test")
    assert (str(event.ip_address), event.user_agent) == ("192.0.2.1", "browser")


def test_signing_in_and_out(client, alice):
    give(client, "wrong")
    give(client)
    client.post("/admin/logout/")
    client.post("/admin/logout/")
    who = (str(alice.pk), "alice@keyhub.test")
    assert told() == [
        ("operator.sign_in", "failure", *who, {"reason": "password"}),
        ("operator.sign_in", "success", *who, {"second_factor": "none"}),
        ("operator.sign_out", "success", *who, {}),
    ]


def test_what_was_typed_is_kept_of_nobody(client, alice):
    give(client, "x", "hunter2 in the wrong field")
    assert told() == [("operator.sign_in", "failure", None, None, {"reason": "password"})]


def test_a_lock_is_told(client, alice):
    for _ in range(7):
        give(client, "wrong")
    who = (str(alice.pk), "alice@keyhub.test")
    assert told() == [
        *[("operator.sign_in", "failure", *who, {"reason": "password"})] * 4,
        ("operator.sign_in", "failure", *who, {"reason": "password", "locked": True}),
        *[("operator.sign_in", "denied", *who, {"reason": "too many failures"})] * 2,
    ]


def test_a_sign_in_with_a_device_counts_when_the_token_was_right(client, alice):
    key = second_factor.new_key()
    TOTPDevice.objects.create(user=alice, name="TOTP", key=key)
    give(client)
    assert told() == []
    page = "/admin/second-factor/verify/"
    client.post(page, {"token": token(key, steps=100)})
    TOTPDevice.objects.update(throttling_failure_count=0)
    client.post(page, {"token": token(key)})
    who = (str(alice.pk), "alice@keyhub.test")
    assert told() == [
        ("operator.sign_in", "failure", *who, {"reason": "second factor"}),
        ("operator.sign_in", "success", *who, {"second_factor": "totp"}),
    ]
    other = Client()
    give(other)
    (code, *_) = second_factor.renew_recovery_codes(alice)
    other.post(page, {"token": code})
    assert told()[2:] == [("operator.sign_in", "success", *who, {"second_factor": "recovery_code"})]


def test_a_device_that_comes_and_goes(client, alice):
    client.force_login(alice)
    client.get("/admin/second-factor/enrol/")
    key = client.session["second_factor_key"]
    client.post("/admin/second-factor/enrol/", {"token": token(key)})
    client.post("/admin/second-factor/remove/", {"token": token(key, steps=1)})
    who = (str(alice.pk), "alice@keyhub.test")
    assert told() == [
        ("operator.second_factor_enrolled", "success", *who, {}),
        ("operator.second_factor_removed", "success", *who, {}),
    ]


def test_a_device_that_a_superuser_takes_away(client, alice):
    TOTPDevice.objects.create(user=alice, name="TOTP", key=second_factor.new_key())
    client.force_login(OperatorFactory(email="root@keyhub.test", is_superuser=True))
    data = {"action": "reset_second_factor", "_selected_action": [alice.pk], "confirmed": "yes"}
    client.post("/admin/accounts/operator/", data)
    by = {"by": "root@keyhub.test"}
    assert told() == [("operator.second_factor_removed", "success", str(alice.pk), "root@keyhub.test", by)]


def test_a_session_that_lasted_too_long_is_signed_out(client, alice):
    client.force_login(alice)
    session = client.session
    session[gate.SIGNED_IN_AT] = 0
    session.save()
    client.get("/admin/")
    assert told() == [("operator.sign_out", "success", str(alice.pk), "alice@keyhub.test", {})]


def test_a_script_comes_through_no_door(alice):
    Client().force_login(alice)
    assert told() == []
