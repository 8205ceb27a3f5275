"""The site without a mouse: Tab, Enter, Space and Escape alone."""

import pytest
from playwright.sync_api import Locator, Page, expect

from audit.models import AuditLog
from keyhub.admin import page_of_row
from tenancy.models import TenantMembership
from tests.browser.conftest import NARROW
from tests.site.scene import PASSWORD

pytestmark = [pytest.mark.long, pytest.mark.once]

MOST_STEPS = 80
# Whether who looks at the page sees where the focus is: on the element itself, or around it. Behind the last element it
# is on none.
IS_SEEN = """() => {
    const element = document.activeElement, box = element.getBoundingClientRect();
    const outlined = (each) => {
        const style = getComputedStyle(each);
        return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    };
    return element === document.body || box.width > 0 && box.height > 0 && box.right > 0 && box.left < innerWidth &&
        (outlined(element) || outlined(element.parentElement));
}"""


def step_to(page: Page, target: Locator, key: str = "Tab") -> None:
    """Press Tab until the target has the focus, which is seen wherever it comes by."""
    unseen = []
    for _ in range(MOST_STEPS):
        page.keyboard.press(key)
        if not page.evaluate(IS_SEEN):
            unseen.append(page.evaluate("document.activeElement.outerHTML.slice(0, 200)"))
        if target.evaluate("element => element === document.activeElement"):
            assert unseen == []
            return
    raise AssertionError(f"{MOST_STEPS} times {key} do not lead to {target}; the focus was not seen on {unseen}")


def test_a_code_is_revoked_on_a_telephone_with_a_keyboard(visitor, scene):
    page = visitor
    page.set_viewport_size(NARROW)
    page.goto("/admin/")
    step_to(page, page.get_by_label("Email"))
    page.keyboard.type("olivia@keyhub.test")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url("/admin/")
    expect(page.get_by_role("link", name="Tenants 5")).to_be_visible()

    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Tenants 5")).to_be_focused()

    menu = page.get_by_role("button", name="Menu")
    step_to(page, menu, "Shift+Tab")
    page.keyboard.press("Enter")
    sidebar = page.locator("#nav-sidebar")
    expect(sidebar).to_be_visible()
    expect(sidebar.locator(":focus")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(sidebar).to_be_hidden()
    expect(menu).to_be_focused()
    page.keyboard.press("Space")
    step_to(page, sidebar.get_by_role("link", name="Join codes"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/tenantjoincode/")

    filters = page.get_by_role("button", name="Filters")
    step_to(page, filters)
    page.keyboard.press("Enter")
    sheet = page.get_by_role("dialog", name="Filters")
    expect(sheet.locator(":focus")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(filters).to_be_focused()
    page.keyboard.press("Enter")
    step_to(page, sheet.get_by_role("link", name="Active", exact=True))
    page.keyboard.press("Enter")
    page.wait_for_url("**?state=active")

    step_to(page, page.get_by_role("link", name=scene.leaked.code))
    page.keyboard.press("Enter")
    page.wait_for_url("**/change/**")
    step_to(page, page.get_by_role("link", name="Revoke"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/operation/revoke/")
    step_to(page, page.get_by_label("Revoke everything it gave"))
    page.keyboard.press("Space")
    step_to(page, page.get_by_role("button", name="Revoke"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Revoked: 1 of 1. 1 membership was taken back.", exact=True)).to_be_visible()
    assert not TenantMembership.objects.active().filter(user=scene.bob).exists()
    (entry,) = AuditLog.objects.filter(action="tenant_join_code.revoke")
    assert (entry.resource_id, entry.actor_label) == (str(scene.leaked.pk), "olivia@keyhub.test")


def test_the_operators_menu_opens_chooses_colours_and_closes(page):
    page.goto("/admin/")
    opener = page.get_by_role("button", name="olivia@keyhub.test")
    step_to(page, opener)
    page.keyboard.press("Enter")
    menu = page.locator("#nav-sidebar nav nav")
    expect(menu.locator(":focus")).to_have_count(1)
    expect(opener).to_have_attribute("aria-expanded", "true")
    step_to(page, menu.get_by_role("button", name="Dark"))
    page.keyboard.press("Space")
    expect(page.locator("html")).to_have_class("dark")
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(opener).to_be_focused()
    expect(opener).to_have_attribute("aria-expanded", "false")
    page.reload()
    expect(page.locator("html")).to_have_class("dark")


def test_a_member_is_looked_up_by_keyboard(page, scene):
    """The boxes of Select2, and a row that a form gets by Alpine and Django's own scripts."""
    page.goto("/admin/tenancy/tenantmembership/add/")
    for field, typed, choice in (("tenant", "optics", "Optics Laboratory"), ("user", "charlie", "charlie@example.com")):
        step_to(page, page.locator(f"#id_{field} + .select2 [role=combobox]"))
        page.keyboard.press("Enter")
        page.keyboard.type(typed)
        expect(page.locator(".select2-results__option--highlighted")).to_have_text(choice)
        page.keyboard.press("Enter")
    step_to(page, page.get_by_role("button", name="Save", exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_text("was added successfully")).to_be_visible()
    assert TenantMembership.objects.active().filter(tenant=scene.laboratory, user=scene.charlie).exists()


def test_the_menu_beside_a_box_opens_and_closes(page, scene):
    """It is a part of the page's end by the time it opens: Alpine moves it there."""
    page.goto(page_of_row(scene.leaked))
    more = page.locator("[data-id=related-widget-wrapper-created_by]").get_by_role("button", name="More")
    step_to(page, more)
    page.keyboard.press("Enter")
    menu = page.locator("#related-widget-wrapper-created_by")
    expect(menu.get_by_role("link", name="Change selected user")).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(more).to_be_focused()


def test_keys_lead_to_a_list_and_into_its_search_box(page):
    page.goto("/admin/")
    page.keyboard.press("Control+k")
    box = page.locator("#search-input-command")
    expect(box).to_be_focused()
    page.keyboard.type("join codes")
    expect(page.locator("#command-results li").first).to_contain_text("join codes")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/tenantjoincode/")
    page.keyboard.press("/")
    expect(page.locator("#searchbar")).to_be_focused()
    page.keyboard.type("kh-demo-001")
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation", name="Pages")).to_contain_text("1 row on this page")

    page.keyboard.press("Control+k")
    expect(box).to_be_focused()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    dark = page.locator("html.dark")
    page.keyboard.press("Control+e")
    page.keyboard.press("Control+e")
    expect(dark).to_have_count(1)
