"""Signing in with a second factor, as an operator does it, and every page on the way as axe-core finds it."""

import base64

import pytest
from django.urls import reverse
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import Page, expect

from accounts import second_factor
from audit.models import AuditLog
from tests.browser.test_accessibility import look_at
from tests.site.scene import PASSWORD, Scene

pytestmark = [pytest.mark.long, pytest.mark.once]


def token_of(device: TOTPDevice, ahead: int = 0) -> str:
    """What the device shows, or will show after so many times 30 seconds."""
    return f"{totp(device.bin_key, drift=ahead):06}"


def give_password(page: Page, password: str = PASSWORD) -> None:
    page.goto("/admin/")
    page.get_by_label("Email").fill("olivia@keyhub.test")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="olivia@keyhub.test").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in again")).to_be_visible()


def told(scene: Scene) -> list[tuple]:
    rows = AuditLog.objects.filter(action__startswith="operator.").order_by("created_at")
    assert {row.actor_label for row in rows} == {scene.operator.email}
    return [(row.action.removeprefix("operator."), row.outcome, row.details.get("second_factor")) for row in rows]


def test_a_device_is_set_up_and_opens_the_site(visitor, scene, settings):
    settings.SECOND_FACTOR = True
    page = visitor
    give_password(page)
    expect(page).to_have_url(f"{reverse('second_factor:enrol')}?next=/admin/")
    expect(page.get_by_role("img", name="The secret as a QR code")).to_be_visible()
    found = look_at(page)
    key = page.locator("#secret").inner_text().replace(" ", "")
    device = TOTPDevice(key=_hex(key))

    page.get_by_label("Token").fill("000000")
    page.get_by_role("button", name="Set up").click()
    expect(page.get_by_text("This is not the token of this secret.")).to_be_visible()
    page.get_by_label("Token").fill(token_of(device))
    page.get_by_role("button", name="Set up").click()
    expect(page.locator("li code")).to_have_count(second_factor.RECOVERY_CODES)
    code = page.locator("li code").first.inner_text()
    found += look_at(page)
    page.get_by_role("link", name="I have kept them: go on").click()
    expect(page).to_have_url("/admin/")

    # The next time a token is asked for, and one that was used opens nothing.
    sign_out(page)
    give_password(page)
    expect(page).to_have_url(f"{reverse('second_factor:verify')}?next=/admin/")
    found += look_at(page)
    page.get_by_label("Token").fill(token_of(TOTPDevice.objects.get(), ahead=1))
    page.get_by_role("button", name="Go on").click()
    expect(page).to_have_url("/admin/")

    # The telephone is lost: a recovery code opens, once.
    sign_out(page)
    give_password(page)
    page.get_by_role("link", name="The device is not at hand: use a recovery code").click()
    found += look_at(page)
    page.get_by_label("Recovery code").fill(code.upper())
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("You have used a recovery code. 9 are left.")).to_be_visible()
    page.goto(reverse("second_factor:status"))
    found += look_at(page)
    page.goto(reverse("second_factor:remove"))
    found += look_at(page)
    assert not found, "\n".join(found)
    assert told(scene) == [
        ("sign_in", "success", "none"),
        ("second_factor_enrolled", "success", None),
        ("sign_out", "success", None),
        ("sign_in", "success", "totp"),
        ("sign_out", "success", None),
        ("sign_in", "success", "recovery_code"),
    ]


def test_who_has_tried_too_often_is_told_how_long_to_wait(visitor, complaints, settings):
    for _ in range(settings.AXES_FAILURE_LIMIT):
        give_password(visitor, "wrong")
    expect(visitor.get_by_role("alert")).to_have_text(
        "There were too many wrong passwords for this e-mail from your address: try again in 15 minutes."
    )
    assert look_at(visitor) == []
    give_password(visitor)  # even the right one
    expect(visitor.get_by_role("alert")).to_be_visible()
    assert {"429" in complaint for complaint in complaints} == {True}
    complaints.clear()


def _hex(base32: str) -> str:
    return base64.b32decode(base32).hex()
