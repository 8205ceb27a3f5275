"""How many passwords somebody gets to try, and what is left of the tries."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.test import Client

from accounts.models import Operator
from accounts.roles import RoleBackend
from keyhub.client_input import client_address

pytestmark = pytest.mark.once

PASSWORD = "correct horse battery staple"
WRONG = "hunter2hunter2"
LIMIT = 5
CLIENTS = 8
SENTENCE = "There were too many wrong passwords for this e-mail from your address: try again in 15 minutes."


@pytest.fixture(autouse=True)
def quick(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice(db) -> Operator:
    return Operator.objects.create_superuser("alice@keyhub.test", PASSWORD)


def attempt(client: Client, email: str = "alice@keyhub.test", password: str = WRONG, **headers):
    return client.post("/admin/login/?next=/admin/", {"username": email, "password": password}, **headers)


def statuses(client: Client, count: int, *arguments, **headers) -> list[int]:
    return [attempt(client, *arguments, **headers).status_code for _ in range(count)]


def test_after_five_failures_even_the_right_password_is_not_tried(client, alice):
    assert statuses(client, LIMIT) == [200, 200, 200, 200, 429]
    response = attempt(client, password=PASSWORD)
    assert (response.status_code, response["Retry-After"]) == (429, "900")
    assert SENTENCE in response.text
    assert attempt(Client(), password=PASSWORD).status_code == 429
    assert client.get("/admin/login/").status_code == 200


def test_the_next_four_after_a_success_are_free(client, alice):
    assert statuses(client, LIMIT - 1) == [200] * 4
    assert attempt(client, password=PASSWORD).status_code == 302
    client.post("/admin/logout/")
    assert statuses(client, LIMIT - 1) == [200] * 4


def test_writing_the_email_otherwise_gives_no_more_tries(client, alice):
    names = ["alice@keyhub.test", "ALICE@keyhub.test", " alice@keyhub.test", "Alice@KeyHub.test ", "alice@keyhub.test"]
    assert [attempt(client, name).status_code for name in names] == [200, 200, 200, 200, 429]


def test_neither_does_another_browser(client, alice):
    answers = [attempt(client, headers={"user-agent": f"browser {n}"}).status_code for n in range(LIMIT)]
    assert answers == [200, 200, 200, 200, 429]


def test_others_are_not_locked_along(client, alice):
    Operator.objects.create_superuser("bob@keyhub.test", PASSWORD)
    statuses(client, LIMIT)
    assert attempt(client, password=PASSWORD, REMOTE_ADDR="192.0.2.7").status_code == 302
    assert attempt(Client(), "bob@keyhub.test", PASSWORD).status_code == 302


def test_the_lock_ends_after_a_quarter_of_an_hour_whatever_is_tried_meanwhile(client, alice):
    statuses(client, LIMIT)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE axes_accessattempt SET attempt_time = attempt_time - interval '14 minutes'")
        assert statuses(client, 3) == [429] * 3
        cursor.execute("UPDATE axes_accessattempt SET attempt_time = attempt_time - interval '61 seconds'")
    assert attempt(client, password=PASSWORD).status_code == 302
    # What is over is deleted with the next try: nothing piles up.
    assert AccessAttempt.objects.count() == AccessLog.objects.count() == 0


def test_an_email_of_nobody_is_answered_alike(client, alice):
    def answers(email: str) -> list[tuple]:
        return [
            (response.status_code, response.text.replace(email, "…").partition("<body")[2].partition("csrf")[0])
            for response in (attempt(client, email) for _ in range(LIMIT + 2))
        ]

    assert answers("alice@keyhub.test") == answers("nobody@keyhub.test")


def test_nothing_that_was_typed_is_kept_or_logged(client, alice, caplog):
    caplog.set_level(logging.DEBUG)
    typed = "hunter2 in the wrong field"
    statuses(client, LIMIT + 1, typed, WRONG)
    statuses(client, 1, "alice@keyhub.test", WRONG)
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(axes_accessattempt::text, '') FROM axes_accessattempt")
        (kept,) = cursor.fetchone()
    assert "alice@keyhub.test" in kept
    for secret in (typed, WRONG):
        assert secret not in kept
        assert secret not in caplog.text


@pytest.mark.parametrize("email", ["", "x" * 255, "x" * 100_000, "\0@keyhub.test", "‮@keyhub.test"])
def test_no_email_is_an_error_of_the_server(client, alice, email):
    assert attempt(client, email).status_code == 200


# Where a request comes from


@pytest.mark.parametrize(
    ("behind_proxy", "forwarded", "address"),
    [
        (False, None, "192.0.2.1"),
        (False, "198.51.100.1", "192.0.2.1"),
        (True, None, "192.0.2.1"),
        (True, "198.51.100.1", "198.51.100.1"),
        (True, "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (True, "203.0.113.9,2001:db8::1", "2001:db8::1"),
        (True, "203.0.113.9, 198.51.100.1:4711", "198.51.100.1"),
        (True, "203.0.113.9, unknown", "192.0.2.1"),
    ],
)
def test_the_address_is_the_peers_or_what_the_proxy_has_seen(rf, settings, behind_proxy, forwarded, address):
    settings.BEHIND_TLS_PROXY = behind_proxy
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    assert client_address(rf.get("/", REMOTE_ADDR="192.0.2.1", **headers)) == address


def test_a_peer_on_a_socket_of_the_machine_has_no_address(rf, settings):
    assert client_address(rf.get("/", REMOTE_ADDR="")) is None


def test_a_client_that_invents_addresses_gets_no_more_tries(client, alice, settings):
    invented = [{"HTTP_X_FORWARDED_FOR": f"203.0.113.{n}, 198.51.100.1"} for n in range(LIMIT)]
    settings.BEHIND_TLS_PROXY = True
    assert [attempt(client, **each).status_code for each in invented] == [200, 200, 200, 200, 429]


# At once


@pytest.fixture
def alone(migrated_database, connected_to) -> Iterator[None]:
    with connected_to(migrated_database):
        yield


def at_once(call) -> list:
    """What eight threads get that call as often as they like, all beginning together."""
    barrier = Barrier(CLIENTS)

    def run(number: int) -> object:
        try:
            barrier.wait(timeout=30)
            return call(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(run, range(CLIENTS)))


def test_eight_at_once_get_no_more_tries_than_are_under_way(alone, monkeypatch):
    Operator.objects.create(email="alice@keyhub.test", password=make_password(PASSWORD), is_superuser=True)
    tried = []

    class Counting:
        authenticate = RoleBackend.authenticate

    def authenticate(self, request, username=None, password=None, **kwargs):
        tried.append(username)
        return Counting.authenticate(self, request, username, password, **kwargs)

    monkeypatch.setattr(RoleBackend, "authenticate", authenticate)
    answers = at_once(lambda number: statuses(Client(), LIMIT))
    # The limit, and one each that had begun before the last failure was counted.
    assert LIMIT <= len(tried) <= LIMIT - 1 + CLIENTS
    assert [each[-1] for each in answers] == [429] * CLIENTS
    assert attempt(Client(), password=PASSWORD).status_code == 429


def test_a_token_that_eight_bring_at_once_lets_one_in(alone):
    from django_otp.oath import totp
    from django_otp.plugins.otp_totp.models import TOTPDevice

    from accounts import second_factor

    alice = Operator.objects.create(email="alice@keyhub.test", password=make_password(PASSWORD))
    key = second_factor.new_key()
    TOTPDevice.objects.create(user=alice, name="TOTP", key=key)
    token = f"{totp(bytes.fromhex(key)):06}"

    def bring(_number: int) -> bool:
        try:
            return bool(second_factor.verify(alice, token))
        except second_factor.TokenError:
            return False

    assert sorted(at_once(bring)) == [False] * (CLIENTS - 1) + [True]
