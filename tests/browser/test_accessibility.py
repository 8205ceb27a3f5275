"""Each kind of page, as axe-core and a narrow screen find it: nothing serious, nothing that scrolls sideways.

Of four looks, by width and theme, a page is taken in two, in turn, so that it is seen in both widths and both themes;
KEYHUB_ALL_LOOKS=1 takes all.
"""

import os
from itertools import cycle

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.contrib import admin
from django.test import RequestFactory
from django.urls import reverse
from playwright.sync_api import Page, expect

from accounts.models import User
from audit.models import AuditLog
from keyhub.admin import page_of_list, page_of_row
from tenancy.models import Tenant, TenantJoinCode
from tests.browser.conftest import NARROW, WIDE
from tests.site.scene import Scene

pytestmark = [pytest.mark.long, pytest.mark.once]

SERIOUS = ("serious", "critical")
# What only colours change is all that is asked of the dark ones.
ALL_RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
LOOKS = [(WIDE, "light", ALL_RULES), (WIDE, "dark", COLOURS), (NARROW, "dark", COLOURS), (NARROW, "light", ALL_RULES)]
TURNS = [LOOKS] if os.environ.get("KEYHUB_ALL_LOOKS") else [LOOKS[0::2], LOOKS[1::2]]
RUN = """async (rules) => {
    const {violations} = await axe.run({runOnly: rules, resultTypes: ["violations"]});
    return violations.flatMap(({id, impact, nodes}) => nodes.map(({html}) => [impact, id, html.slice(0, 300)]));
}"""


def lists(scene: Scene) -> list[str]:
    few = {AuditLog: {"outcome__exact": "denied"}}
    return [page_of_list(model, **few.get(model, {})) for model in admin.site._registry]


def rows(scene: Scene) -> list[str]:
    found = [scene.laboratory if model is Tenant else model.objects.first() for model in admin.site._registry]
    return [page_of_row(row) for row in found if row is not None]


def forms_and_questions(scene: Scene) -> list[str]:
    code, tenant, user = (page_of_row(row) for row in (scene.leaked, scene.laboratory, scene.charlie))
    request = RequestFactory().get("/")
    request.user = scene.operator
    added = [each.opts for each in admin.site._registry.values() if each.has_add_permission(request)]
    return [
        "/admin/",
        *(reverse(f"admin:{opts.app_label}_{opts.model_name}_add") for opts in added),
        reverse("admin:tenancy_tenantjoincode_operation", args=[scene.leaked.pk, "revoke"]),
        tenant.replace("/change/", "/delete/"),
        user.replace("/change/", "/delete/"),
        code.replace("/change/", "/history/"),
        page_of_list(TenantJoinCode, state="revoked"),
        page_of_list(User, q="nobody"),
        reverse("admin:password_change"),
        reverse("second_factor:status"),
        reverse("second_factor:enrol"),
        "/admin/tenancy/",
    ]


def look_at(page: Page, looks: list[tuple[dict, str, dict]] = LOOKS) -> list[str]:
    """What axe-core finds serious in a page, and whether it scrolls sideways, in each look."""
    page.wait_for_function("() => window.Alpine && !document.querySelector('[x-cloak]:not([x-show])')")
    page.evaluate(AXE_SCRIPT)
    found = []
    for size, theme, rules in looks:
        page.set_viewport_size(size)
        page.evaluate("theme => document.documentElement.className = theme", theme)
        for impact, rule, html in page.evaluate(RUN, rules):
            if impact in SERIOUS:
                found.append(f"{page.url}, {size['width']} px, {theme}: {rule}: {html}")
        if page.evaluate("document.scrollingElement.scrollWidth > innerWidth"):
            found.append(f"{page.url} scrolls sideways at {size['width']} px")
    page.set_viewport_size(WIDE)
    return found


@pytest.mark.parametrize("addresses", [lists, rows, forms_and_questions])
def test_no_page_has_a_serious_violation(page, scene, addresses):
    found, turns = [], cycle(TURNS)
    for address in addresses(scene):
        page.goto(address)
        found += look_at(page, next(turns))
    assert not found, "\n".join(found)


def test_what_opens_over_a_page_has_no_serious_violation(page, scene):
    page.goto(page_of_list(AuditLog))
    page.get_by_role("button", name="Filters").click()
    expect(page.get_by_role("dialog", name="Filters")).to_be_visible()
    found = look_at(page)
    page.goto(page_of_list(TenantJoinCode))
    page.locator("input.action-select").first.check()
    page.locator("select[name=action]").select_option("Revoke")
    found += look_at(page)
    page.get_by_role("button", name="olivia@keyhub.test").click()
    found += look_at(page)
    page.goto(reverse("admin:tenancy_tenantmembership_add"))
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Please correct the errors below.")).to_be_visible()
    found += look_at(page)
    page.locator("#id_user + .select2").click()
    expect(page.get_by_role("option", name="alice@example.com")).to_be_visible()
    found += look_at(page)
    page.set_viewport_size(NARROW)
    page.goto("/admin/")
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("link", name="Join codes")).to_be_visible()
    found += look_at(page)
    assert not found, "\n".join(found)


def test_who_has_not_signed_in_finds_no_serious_violation(visitor, complaints):
    found = []
    visitor.goto("/admin/")
    found += look_at(visitor)
    visitor.get_by_label("Email").fill("olivia@keyhub.test")
    visitor.get_by_label("Password").fill("wrong")
    visitor.get_by_role("button", name="Log in").click()
    expect(visitor.get_by_text("Please enter the correct email and password")).to_be_visible()
    found += look_at(visitor)
    assert not found, "\n".join(found)


def test_what_shuts_people_out_is_found(page):
    page.goto("/admin/")
    page.evaluate("""() => {
        document.querySelector("#content").insertAdjacentHTML("beforeend",
            "<button></button><p style='color: #777; background: #888'>grey</p><div style='width: 2000px'>wide</div>");
    }""")
    found = look_at(page)
    assert len([each for each in found if each.endswith("button-name: <button></button>")]) == 2
    assert len([each for each in found if "color-contrast" in each]) == len(LOOKS)
    assert len([each for each in found if each.endswith("scrolls sideways at 1280 px")]) == 2
    assert len([each for each in found if each.endswith("scrolls sideways at 375 px")]) == 2


def test_the_page_of_what_is_not_there_has_no_serious_violation(page, complaints):
    page.goto("/admin/nowhere/")
    page.evaluate(AXE_SCRIPT)
    assert [html for impact, _rule, html in page.evaluate(RUN, ALL_RULES) if impact in SERIOUS] == []
    assert complaints.pop() == "Failed to load resource: the server responded with a status of 404 (Not Found)"
