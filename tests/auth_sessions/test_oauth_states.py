"""A sign-in is begun for one browser and one provider, and finished once, within ten minutes."""

import base64
import hashlib
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction

from auth_sessions.models import OAuthState
from auth_sessions.oauth_states import RefusedStateError, UnsafeRedirectError, s256
from auth_sessions.tokens import digest
from tests.factories import OAuthStateFactory

pytestmark = pytest.mark.django_db

GOOGLE, OTHER = "https://accounts.google.com", "https://login.example.com"
REFUSED = "The sign-in cannot be finished, because it is unknown, used, or too old. Begin it again."
UNSAFE = "The page to go to after signing in is not a path of this site. Give a path such as /home, without a host."


def refusal(state, browser, provider) -> str:
    with pytest.raises(RefusedStateError) as refused:
        OAuthState.objects.consume(state, browser, provider)
    return str(refused.value)


def age(row: OAuthState, **by: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE oauth_states SET created_at = created_at - %s WHERE id = %s", [timedelta(**by), row.pk])


def test_what_the_browser_and_the_provider_get():
    begun = OAuthState.objects.begin(GOOGLE, "/home?tab=1")
    row = OAuthState.objects.get(pk=begun.row.pk)
    assert (row.state, row.browser_digest) == (digest(begun.state), digest(begun.browser))
    assert (row.provider, row.redirect_uri, row.nonce) == (GOOGLE, "/home?tab=1", begun.nonce)
    assert row.code_verifier == begun.code_verifier
    challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.code_verifier.encode()).digest()).decode().rstrip("=")
    assert begun.code_challenge == challenge
    assert len({begun.state, begun.browser, begun.code_verifier, begun.nonce}) == 4
    # Logs get nothing of it.
    assert [secret for secret in (begun.state, begun.browser, begun.code_verifier) if secret in repr(begun)] == []


def test_the_example_of_rfc_7636():
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert s256(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_it_is_consumed_once(django_assert_num_queries):
    begun = OAuthState.objects.begin(GOOGLE, "/home")
    with django_assert_num_queries(1):
        row = OAuthState.objects.consume(begun.state, begun.browser, GOOGLE)
    assert (row.pk, row.code_verifier, row.redirect_uri) == (begun.row.pk, begun.code_verifier, "/home")
    assert row.consumed_at is not None
    assert refusal(begun.state, begun.browser, GOOGLE) == REFUSED


def test_every_refusal_says_the_same_and_uses_nothing_up():
    begun = OAuthState.objects.begin(GOOGLE)
    other = OAuthState.objects.begin(GOOGLE)
    for attempt in [
        ("nobody's", begun.browser, GOOGLE),
        (begun.state, other.browser, GOOGLE),
        (begun.state, begun.browser, OTHER),
        (digest(begun.state), begun.browser, GOOGLE),
        (begun.state, digest(begun.browser), GOOGLE),
        (None, None, None),
        ("\0", "\ud800", "\0"),
        (begun.state, begun.browser, f"{GOOGLE}\0"),
        (begun.state, begun.browser, "\ud800"),
        ("x" * 100_000, begun.browser, GOOGLE),
    ]:
        assert refusal(*attempt) == REFUSED
    assert OAuthState.objects.consume(begun.state, begun.browser, GOOGLE)


def test_it_lives_ten_minutes():
    begun, late = OAuthState.objects.begin(GOOGLE), OAuthState.objects.begin(GOOGLE)
    age(begun.row, minutes=9, seconds=55)
    age(late.row, minutes=10)
    assert OAuthState.objects.consume(begun.state, begun.browser, GOOGLE)
    assert refusal(late.state, late.browser, GOOGLE) == REFUSED


def test_a_row_of_an_old_service_is_never_consumed():
    OAuthStateFactory(state=digest("state"))
    for browser, provider in [("", ""), (None, None), ("", None)]:
        assert refusal("state", browser, provider) == REFUSED


LOCAL = ["/", "/home", "/home?next=//example.com#top", "/日本", "/a//b", "/a%2f%5c", "/a b"]
ELSEWHERE = [
    "",
    "home",
    "//example.com",
    "/\\example.com",
    "/a\\b",
    "https://example.com/",
    "javascript:alert(1)",
    " /home",
    "/\t/example.com",
    "/\n/example.com",
    "/home\n",
    "/home\r\nSet-Cookie: a=b",
    "/\x7f/example.com",
    "/\x85/example.com",
    "\t//example.com",
]


@pytest.mark.parametrize("path", LOCAL)
def test_a_path_of_this_site(path):
    assert OAuthState.objects.begin(GOOGLE, path).row.redirect_uri == path


@pytest.mark.parametrize("path", ELSEWHERE, ids=ascii)
def test_a_place_elsewhere_is_refused_by_the_code_and_by_the_database(path):
    with pytest.raises(UnsafeRedirectError) as refused:
        OAuthState.objects.begin(GOOGLE, path)
    assert str(refused.value) == UNSAFE
    with pytest.raises(IntegrityError) as violation, transaction.atomic():
        OAuthStateFactory(redirect_uri=path)
    assert violation.value.__cause__.diag.constraint_name == "check_oauth_redirect_uri"


@pytest.mark.parametrize("path", ["/\0", "/\ud800"], ids=ascii)
def test_what_postgresql_cannot_hold_is_refused_kindly(path):
    with pytest.raises(UnsafeRedirectError):
        OAuthState.objects.begin(GOOGLE, path)


def test_asynchronous_twins():
    async def sign_in():
        begun = await OAuthState.objects.abegin(GOOGLE)
        return await OAuthState.objects.aconsume(begun.state, begun.browser, GOOGLE)

    assert async_to_sync(sign_in)().consumed_at is not None
