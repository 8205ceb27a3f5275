"""The second factor: what a token opens, what stays shut without one, and how a device comes and goes."""

import re
import time

import pytest
from django.conf import settings as configured
from django.contrib import admin as django_admin
from django.contrib.admindocs.views import simplify_regex
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import gate, second_factor
from accounts.models import Operator
from tests.factories import OperatorFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.once]

PASSWORD = "correct horse battery staple"
KEY = "3132333435363738393031323334353637383930"  # RFC 6238, appendix B
NO_CODE = "This is neither six digits nor a recovery code that opens. Each of these opens once."
WRONG = "This token is wrong, or was used before. Enter the next one that your device shows."


@pytest.fixture(autouse=True)
def quick(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice() -> Operator:
    return Operator.objects.create_superuser("alice@keyhub.test", PASSWORD)


@pytest.fixture
def device(alice) -> TOTPDevice:
    return TOTPDevice.objects.create(user=alice, name="TOTP", key=KEY)


@pytest.fixture
def required(settings):
    settings.SECOND_FACTOR = True


def token(key: str = KEY, steps: int = 0) -> str:
    return f"{totp(bytes.fromhex(key), drift=steps):06}"


def wrong_token() -> str:
    return f"{(int(token()) + 500_000) % 1_000_000:06}"


def give_password(client: Client, email: str = "alice@keyhub.test", page: str = "/admin/"):
    return client.post(f"/admin/login/?next={page}", {"username": email, "password": PASSWORD})


def give_token(client: Client, text: str, page: str = "/admin/"):
    return client.post(reverse("second_factor:verify"), {"token": text, "next": page})


def signed_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def errors(response) -> dict:
    return response.context["form"].errors


# Giving a token


def test_after_the_password_comes_the_token(client, device):
    response = give_password(client, page="/admin/accounts/user/")
    response = client.get(response.url)
    assert response.url == "/admin/second-factor/verify/?next=/admin/accounts/user/"
    page = client.get(response.url)
    assert page.context["title"] == "Second factor"
    assert 'autocomplete="one-time-code"' in page.text
    assert 'inputmode="numeric"' in page.text
    assert page["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    key_before = client.session.session_key
    response = give_token(client, token(), page.context["next"])
    assert response.url == "/admin/accounts/user/"
    assert client.get(response.url).status_code == 200
    assert client.session.session_key != key_before


@pytest.mark.parametrize("form", ["{}", " {} ", "{0[0]}{0[1]}{0[2]} {0[3]}{0[4]}{0[5]}"])
def test_a_token_is_typed_in_groups_or_not(client, device, form):
    give_password(client)
    assert give_token(client, form.format(token())).url == "/admin/"


def test_a_token_is_typed_in_full_width(client, device):
    give_password(client)
    assert give_token(client, "".join(chr(ord(digit) + 0xFEE0) for digit in token())).url == "/admin/"


@pytest.mark.parametrize("text", ["", "12345", "1234567", "abcdefgh", "\0", "⑥" * 6, "x" * 64])
def test_what_is_no_token_opens_nothing(client, device, text):
    give_password(client)
    assert errors(give_token(client, text))
    assert not signed_in(client)


def test_a_wrong_token_opens_nothing_and_the_next_has_to_wait(client, device):
    give_password(client)
    assert errors(give_token(client, wrong_token())) == {"token": [WRONG]}
    sentence = "After wrong tokens the next one has to wait. Try again in 1 second."
    assert errors(give_token(client, token())) == {"token": [sentence]}
    TOTPDevice.objects.update(throttling_failure_timestamp="2026-01-01T00:00:00Z", throttling_failure_count=3)
    assert give_token(client, token()).status_code == 302
    assert TOTPDevice.objects.get().throttling_failure_count == 0


def test_a_token_opens_once(client, device):
    text = token()
    give_password(client)
    assert give_token(client, text).status_code == 302
    other = Client()
    give_password(other)
    assert errors(give_token(other, text)) == {"token": [WRONG]}
    assert not signed_in(other)


def test_the_token_of_another_operator_opens_nothing(client, alice, device):
    other = second_factor.new_key()
    TOTPDevice.objects.create(user=OperatorFactory(), name="TOTP", key=other)
    give_password(client)
    assert errors(give_token(client, token(other))) == {"token": [WRONG]}


def test_a_device_that_was_never_confirmed_is_none(client, device):
    TOTPDevice.objects.update(confirmed=False)
    give_password(client)
    assert signed_in(client)


@pytest.mark.parametrize("page", ["https://example.com/", "//example.com", "javascript:alert(1)", ""])
def test_the_way_back_stays_on_the_site(client, device, page):
    give_password(client)
    assert give_token(client, token(), page).url == "/admin/"


def test_a_session_without_a_token_ends_when_a_device_is_enrolled_elsewhere(client, alice):
    give_password(client)
    assert signed_in(client)
    TOTPDevice.objects.create(user=alice, name="TOTP", key=KEY)
    assert client.get("/admin/").url == "/admin/second-factor/verify/?next=/admin/"


# Nothing else is open before


def urls_of_the_admin(resolver: URLResolver | None = None, prefix: str = "/") -> list[str]:
    """Every URL below /admin/, with something plausible for each argument."""
    found = []
    for pattern in (resolver or get_resolver()).url_patterns:
        route = re.sub("<[^>]*>", "1", simplify_regex(str(pattern.pattern)).removeprefix("/"))
        if isinstance(pattern, URLPattern):
            found.append(prefix + route)
        else:
            found += urls_of_the_admin(pattern, prefix + route)
    return found


OF_A_LANGUAGE = "/i18n/setlang/"  # which changes nothing but a cookie
OPEN = {
    OF_A_LANGUAGE,
    "/admin/login/",
    "/admin/logout/",
    "/admin/second-factor/verify/",
    "/admin/second-factor/enrol/",
}


def test_the_list_of_urls_is_whole():
    urls = urls_of_the_admin()
    assert {
        *OPEN,
        "/admin/",
        "/admin/search/",
        "/admin/autocomplete/",
        "/admin/jsi18n/",
        "/admin/password_change/",
        "/admin/accounts/operator/1/password/",
        "/admin/accounts/user/1/history/",
        "/admin/audit/auditlog/",
        "/admin/second-factor/",
        "/admin/second-factor/remove/",
    } <= set(urls)
    assert len(urls) > 100
    assert not any(set("<>()\\?*") & set(url) for url in urls)


def test_no_url_is_open_before_the_token(client, device):
    give_password(client)
    for url in urls_of_the_admin():
        if url in OPEN:
            continue
        for response in (client.get(url), client.post(url), client.head(url), client.delete(url)):
            assert response.status_code == 302, url
            assert response.url.startswith("/admin/second-factor/verify/?next="), url


def test_no_url_is_open_before_a_device_is_enrolled(client, alice, required):
    give_password(client)
    for url in urls_of_the_admin():
        if url in OPEN:
            continue
        for response in (client.get(url), client.post(url)):
            assert response.status_code == 302, url
            assert response.url.startswith("/admin/second-factor/enrol/?next="), url


def test_no_url_is_open_to_nobody(client):
    for url in urls_of_the_admin():
        if url in {"/admin/login/", "/admin/logout/", OF_A_LANGUAGE}:
            continue
        for response in (client.get(url), client.post(url)):
            assert response.status_code == 302, url
            assert response.url.startswith("/admin/login/?next="), url


def test_the_pages_before_show_nothing_of_the_site(client, device):
    UserFactory(email="bob@example.com")
    give_password(client)
    page = client.get("/admin/second-factor/verify/")
    assert "/admin/accounts/user/" not in page.text
    assert client.post("/admin/logout/").status_code == 200
    assert client.get("/admin/second-factor/verify/").url == "/admin/login/?next=/admin/second-factor/verify/"


# Enrolling


def enrol(client: Client) -> tuple[str, list[str]]:
    """Enrol a device and return its key and the recovery codes."""
    client.get("/admin/second-factor/enrol/")
    key = client.session["second_factor_key"]
    response = client.post("/admin/second-factor/enrol/", {"token": token(key)})
    return key, response.context["codes"]


def test_who_has_no_device_is_led_to_enrol_one(client, alice, required):
    give_password(client)
    response = client.get("/admin/accounts/user/")
    page = client.get(response.url)
    assert "Nobody enters here by a password alone." in page.text
    assert "<svg" in page.text
    assert second_factor.secret_text(client.session["second_factor_key"]) in page.text
    assert "style=" not in re.search("<svg.*?</svg>", page.text, re.DOTALL)[0]

    key = client.session["second_factor_key"]
    assert f"{int(token(key)):06}" not in page.text
    response = client.post("/admin/second-factor/enrol/", {"token": "000000" if token(key) != "000000" else "1"})
    assert errors(response) == {
        "token": ["This is not the token of this secret. Look whether the clock of the device is right."]
    }
    assert TOTPDevice.objects.count() == 0
    assert client.session["second_factor_key"] == key

    response = client.post("/admin/second-factor/enrol/", {"token": token(key), "next": "/admin/accounts/user/"})
    codes = response.context["codes"]
    assert (len(codes), len(set(codes))) == (10, 10)
    assert all(re.fullmatch("([a-z2-7]{4}-){5}[a-z2-7]{4}", code) for code in codes)
    assert 'href="/admin/accounts/user/"' in response.text
    assert "second_factor_key" not in client.session
    assert signed_in(client)
    # What was shown once is shown no more, and its token was used.
    assert codes[0] not in client.get("/admin/second-factor/").text
    assert client.get("/admin/second-factor/enrol/").url == "/admin/second-factor/"
    assert client.post("/admin/second-factor/enrol/", {"token": token(key)}).url == "/admin/second-factor/"


def test_each_session_is_offered_a_secret_of_its_own(client, alice, required):
    """Else whoever knows the password could read the secret that the operator will take later."""
    other = Client()
    for each in (client, other):
        give_password(each)
        each.get("/admin/second-factor/enrol/")
    assert client.session["second_factor_key"] != other.session["second_factor_key"]


def test_a_second_device_is_refused(alice, device):
    key = second_factor.new_key()
    with pytest.raises(second_factor.TokenError, match=r"There is a device already\. Remove it first\."):
        second_factor.enrol(alice, key, token(key))


def test_the_secret_is_of_the_operator_and_the_site(alice, client, required):
    give_password(client)
    client.get("/admin/second-factor/enrol/")
    url = TOTPDevice(user=alice, key=client.session["second_factor_key"]).config_url
    assert url.startswith("otpauth://totp/KeyHub%3Aalice%40keyhub.test?secret=")
    assert url.endswith("&algorithm=SHA1&digits=6&period=30&issuer=KeyHub")


def test_where_it_is_not_required_nobody_is_led_anywhere(client, alice):
    give_password(client)
    assert signed_in(client)
    assert "You enter by your password alone." in client.get("/admin/second-factor/").text
    enrol(client)
    assert "set up on" in client.get("/admin/second-factor/").text


# Recovery codes


def test_a_recovery_code_opens_once(client, alice, required):
    give_password(client)
    _key, codes = enrol(client)
    other = Client()
    give_password(other)
    page = other.get("/admin/second-factor/verify/?by=recovery-code")
    assert "Enter one of the recovery codes" in page.text
    response = other.post("/admin/second-factor/verify/?by=recovery-code", {"token": "none"})
    assert (response.context["form"]["token"].label, errors(response)) == ("Recovery code", {"token": [NO_CODE]})
    StaticDevice.objects.update(throttling_failure_count=0)
    assert give_token(other, codes[0].upper().replace("-", " ")).url == "/admin/"
    assert "You have used a recovery code. 9 are left." in other.get("/admin/").text
    third = Client()
    give_password(third)
    assert errors(give_token(third, codes[0])) == {"token": [NO_CODE]}


def test_the_database_holds_no_recovery_code(client, alice):
    codes = second_factor.renew_recovery_codes(alice)
    kept = set(StaticToken.objects.values_list("token", flat=True))
    assert kept == {second_factor.digest(code.replace("-", "")) for code in codes}
    assert not kept & {code.replace("-", "") for code in codes}


def test_renewing_takes_a_token_and_ends_the_old_codes(client, alice, device):
    give_password(client)
    give_token(client, token())
    old = second_factor.renew_recovery_codes(alice)
    response = client.post("/admin/second-factor/recovery-codes/", {"token": token()})
    assert errors(response) == {"token": [WRONG]}  # it was used
    TOTPDevice.objects.update(throttling_failure_count=0)
    response = client.post("/admin/second-factor/recovery-codes/", {"token": token(steps=1)})
    assert len(response.context["codes"]) == 10
    with pytest.raises(second_factor.TokenError):
        second_factor.verify(alice, old[0])
    StaticDevice.objects.update(throttling_failure_count=0)
    assert second_factor.verify(alice, response.context["codes"][0])
    assert second_factor.recovery_codes_left(alice) == 9


# Removing


def test_removing_takes_a_token_and_ends_what_is_open_elsewhere(client, alice, device):
    give_password(client)
    give_token(client, token(steps=-1))
    other = Client()
    give_password(other)
    give_token(other, token())
    assert signed_in(other)
    assert errors(client.post("/admin/second-factor/remove/", {"token": token()})) == {"token": [WRONG]}
    TOTPDevice.objects.update(throttling_failure_count=0)
    response = client.post("/admin/second-factor/remove/", {"token": token(steps=1)})
    assert response.url == "/admin/second-factor/"
    assert TOTPDevice.objects.count() == StaticDevice.objects.count() == 0
    assert "The device and the recovery codes were removed." in client.get(response.url).text
    assert signed_in(client)
    assert other.get("/admin/").url == "/admin/login/?next=/admin/"
    assert client.get("/admin/second-factor/remove/").url == "/admin/second-factor/"


def test_where_it_is_required_the_next_device_comes_first(client, alice, device, required):
    give_password(client)
    give_token(client, token())
    client.post("/admin/second-factor/remove/", {"token": token(steps=1)})
    assert client.get("/admin/").url == "/admin/second-factor/enrol/?next=/admin/"


# Of other operators


def reset(client: Client, *operators: Operator, **data: str):
    data = {"action": "reset_second_factor", "_selected_action": [each.pk for each in operators], **data}
    return client.post(reverse("admin:accounts_operator_changelist"), data, follow=True)


def test_a_superuser_resets_the_second_factor_of_others(client, alice, device):
    second_factor.renew_recovery_codes(alice)
    theirs = Client()
    give_password(theirs)
    give_token(theirs, token())
    bob = OperatorFactory(email="bob@keyhub.test")
    client.force_login(OperatorFactory(is_superuser=True))
    page = reset(client, alice, bob)
    assert "These operators lose their device and their recovery codes" in page.text
    assert "alice@keyhub.test" in page.text
    assert TOTPDevice.objects.count() == 1
    assert "The second factor of 1 operator was reset." in reset(client, alice, bob, confirmed="yes").text
    assert TOTPDevice.objects.count() == StaticDevice.objects.count() == 0
    assert theirs.get("/admin/").url == "/admin/login/?next=/admin/"


def test_ones_own_goes_by_a_token_alone(client, alice, device):
    give_password(client)
    give_token(client, token())
    sentence = "Nothing was changed: remove your own device on the page of your second factor, by a token."
    assert sentence in reset(client, alice, confirmed="yes").text
    assert TOTPDevice.objects.count() == 1


def test_others_reset_nothing(client, alice, device):
    client.force_login(OperatorFactory(role="admin"))
    assert reset(client, alice, confirmed="yes").status_code == 403
    assert TOTPDevice.objects.count() == 1


def test_secrets_have_no_page_of_the_admin():
    registered = {model._meta.label for model in django_admin.site._registry}
    assert not {label for label in registered if label.startswith(("otp_", "axes."))}


# Sessions


def test_a_session_ends_after_its_lifetime(client, alice, monkeypatch):
    give_password(client)
    lifetime_seconds = configured.OPERATOR_SESSION_LIFETIME.total_seconds()
    now = time.time()
    monkeypatch.setattr(gate.time, "time", lambda: now + lifetime_seconds - 60)
    assert signed_in(client)
    monkeypatch.setattr(gate.time, "time", lambda: now + lifetime_seconds + 1)
    assert client.get("/admin/accounts/user/").url == "/admin/login/?next=/admin/accounts/user/"
    assert client.session.session_key is None


def test_a_session_of_unknown_age_has_ended(client, alice):
    give_password(client)
    session = client.session
    del session[gate.SIGNED_IN_AT]
    session.save()
    assert client.post("/admin/accounts/user/add/").url == "/admin/login/?next=/admin/"


def test_a_session_in_use_goes_on_and_is_seldom_written(client, alice, monkeypatch):
    give_password(client)
    client.get("/admin/second-factor/")
    assert client.cookies["sessionid"]["max-age"] == 30 * 60
    del client.cookies["sessionid"]["max-age"]
    assert "sessionid" not in client.get("/admin/second-factor/").cookies
    now = time.time()
    monkeypatch.setattr(gate.time, "time", lambda: now + 61)
    assert client.get("/admin/second-factor/").cookies["sessionid"]["max-age"] == 30 * 60


def test_a_new_password_ends_what_is_open_elsewhere(client, alice, device):
    give_password(client)
    give_token(client, token())
    other = Client()
    give_password(other)
    give_token(other, token(steps=1))
    changed = "staple battery horse correct"
    data = {"old_password": PASSWORD, "new_password1": changed, "new_password2": changed}
    assert client.post("/admin/password_change/", data).url == "/admin/password_change/done/"
    assert signed_in(client)
    assert not signed_in(other)
