"""The pictures of docs/site.md: `make screenshots`. No test: pytest takes it only by its name."""

from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from audit.models import AuditLog
from keyhub.admin import page_of_list, page_of_row
from tenancy.models import TenantJoinCode
from tests.browser.conftest import NARROW

FOLDER = Path(__file__).parent.parent.parent / "docs" / "screenshots"
WIDE = {"width": 1280, "height": 800}
MOST_BYTES = 150_000


def take(page: Page, name: str, **options) -> None:
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path, **options)
    assert path.stat().st_size < MOST_BYTES, f"{name}.png is too large for a repository."


@pytest.fixture(autouse=True)
def _size(page):
    FOLDER.mkdir(exist_ok=True)
    page.set_viewport_size(WIDE)


def test_start_page_in_three_looks(page, context):
    page.goto("/admin/")
    expect(page.locator("#look-again")).to_be_attached()
    take(page, "start")
    page.emulate_media(color_scheme="dark")
    page.reload()
    expect(page.locator("#look-again")).to_be_attached()
    take(page, "start-dark")
    page.emulate_media(color_scheme="light")
    context.add_cookies([{"name": "django_language", "value": "ja", "url": page.url}])
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    expect(page.locator("#look-again")).to_be_attached()
    take(page, "start-japanese")


def test_tenant(page, scene):
    page.goto(page_of_row(scene.laboratory))
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("heading", name="Join codes").evaluate("heading => heading.parentElement.scrollIntoView()")
    take(page, "tenant")


def test_join_codes(page, scene):
    page.goto(page_of_list(TenantJoinCode))
    take(page, "join-codes", clip={"x": 0, "y": 0, "width": 1280, "height": 480})
    page.goto(reverse("admin:tenancy_tenantjoincode_operation", args=[scene.leaked.pk, "revoke"]))
    page.get_by_label("Revoke everything it gave").check()
    take(page, "revoke", clip={"x": 0, "y": 0, "width": 1280, "height": 420})
    page.set_viewport_size(NARROW)
    page.goto(page_of_row(scene.leaked))
    take(page, "telephone")


def test_audit_log(page):
    page.goto(page_of_list(AuditLog))
    take(page, "audit-log", clip={"x": 0, "y": 0, "width": 1280, "height": 560})
