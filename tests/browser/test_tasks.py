"""Each task of an operator, as an operator does it: what the page then says, and what the database holds."""

import csv
import io
import json
import re
from datetime import UTC
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from accounts.models import User
from audit.models import AuditLog
from auth_sessions.models import ConsoleSession, OAuthState, Session
from keyhub.admin import page_of_list, page_of_row
from tenancy.models import Tenant, TenantJoinCode, TenantMembership
from tests.factories import AuditLogFactory, SessionFactory
from tests.site.scene import PASSWORD, Scene

pytestmark = [pytest.mark.long, pytest.mark.once]


def section(page: Page, title: str) -> Locator:
    """A part of a row's page, by its heading."""
    return page.locator("section").filter(has=page.get_by_role("heading", name=title, exact=True))


def cells(rows: Locator) -> list[list[str]]:
    """The texts of a table, row by row."""
    return [
        [" ".join(cell.split()) for cell in row.locator("th, td").all_inner_texts()] for row in rows.locator("tr").all()
    ]


def listed(page: Page, column: str) -> list[str]:
    """A column of a list."""
    return [text.strip() for text in page.locator(f"#result_list tbody .field-{column}").all_inner_texts()]


def follow(page: Page, link: Locator) -> None:
    """Click, and wait for the page that comes."""
    with page.expect_navigation():
        link.click()


def operate(page: Page, name: str) -> None:
    """Go to the question of an operation on a row's page."""
    page.get_by_role("group", name="Operations").get_by_role("link", name=name).click()
    expect(page.locator("#content").get_by_role("heading", name=name, exact=True)).to_be_visible()


def answer(page: Page, name: str) -> None:
    page.locator("#content").get_by_role("button", name=name, exact=True).click()


def says(page: Page, sentence: str) -> None:
    """The messages above the page are this sentence."""
    expect(page.get_by_text(sentence, exact=True)).to_be_visible()


def told(scene: Scene, action: str) -> list[str]:
    """Of which rows the audit log tells that the operator has done this to them, oldest first."""
    rows = AuditLog.objects.filter(action=action).order_by("created_at")
    assert {row.actor_label for row in rows} <= {scene.operator.email}
    return [row.resource_id for row in rows]


def pick(page: Page, field: str, typed: str, choice: str) -> None:
    """Look a row up in a box of Select2."""
    page.locator(f"#id_{field} + .select2").click()
    page.locator(".select2-search__field").last.press_sequentially(typed)
    page.get_by_role("option", name=choice).click()


# The start page


def test_the_start_page_leads_to_what_it_counts(visitor, scene):
    page = visitor
    page.goto("/admin/")
    page.get_by_label("Email").fill("Olivia@KeyHub.test")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

    numbers = page.get_by_role("list", name="Numbers").get_by_role("link")
    expect(numbers).to_have_count(5)
    seen = {}
    for card in numbers.all():
        title, number = card.locator(".keyhub-number-title").inner_text(), card.locator("strong").inner_text()
        seen[title] = number, card.get_attribute("href")
    assert {title: number for title, (number, _link) in seen.items()} == {
        "Tenants": "5",
        "Active members": "3",
        "Codes that expire soon": "1",
        "Codes used up": "1",
        "Sessions alive": "2",
    }
    for title, (number, link) in seen.items():
        page.goto("/admin/")
        follow(page, page.get_by_role("list", name="Numbers").get_by_role("link", name=title))
        expect(page).to_have_url(link)
        rows = "row" if number == "1" else "rows"
        expect(page.get_by_role("navigation", name="Pages")).to_contain_text(f"{number} {rows} on this page")

    page.goto("/admin/")
    bars = section(page, "Sign-ins per day").get_by_role("link")
    expect(bars).to_have_count(14)
    *_earlier, today = bars.all()
    _day, number = today.locator(".keyhub-hidden").inner_text().split(": ")
    assert number == str(
        AuditLog.objects.filter(action="user.login", created_at__date=timezone.now().astimezone(UTC).date()).count()
    )
    follow(page, today)
    assert set(listed(page, "action")) == {"user.login"}
    rows = "row" if number == "1" else "rows"
    expect(page.get_by_role("navigation", name="Pages")).to_contain_text(f"{number} {rows} on this page")

    page.goto("/admin/")
    health = section(page, "Health of the database")
    expect(health).to_contain_text("Looked at less than a minute ago.")
    health.evaluate("card => card.dataset.seen = 'yes'")
    health.get_by_role("button", name="Look again").click()
    expect(page.locator("#health:not([data-seen])")).to_contain_text("Looked at less than a minute ago.")
    expect(page.get_by_role("button", name="Look again")).to_be_focused()


# Tenants


def test_a_tenants_page_shows_its_people_codes_groups_and_history(page, scene):
    page.goto(page_of_list(Tenant))
    follow(page, page.get_by_role("link", name="Optics Laboratory", exact=True))
    members = page.locator("#memberships-group")
    assert {
        (row.locator(".field-user select option:checked").inner_text(), row.get_by_label("Role").input_value())
        for row in members.locator("tbody.original").all()
    } == {("alice@example.com", "admin"), ("bob@example.com", "member"), ("dana@example.com", "member")}

    header, *codes = cells(section(page, "Join codes"))
    assert header == ["Code", "Copy", "Role", "State", "Uses", "Expires", "Used last by"]
    assert [(code, role, state, uses, user) for code, _copy, role, state, uses, _expires, user in codes] == [
        (scene.used_up.code, "Member", "Exhausted", "1 of 1", "dana@example.com"),
        (scene.fresh.code, "Viewer", "Active", "0, no limit", "–"),
        (scene.leaked.code, "Member", "Active", "1 of 10", "bob@example.com"),
    ]
    _header, *groups = cells(section(page, "Groups"))
    assert [name for name, _description, _people in groups] == ["Optics", "↳ Lasers", "↳ Pulsed lasers"]
    indents = [cell.bounding_box()["x"] for cell in section(page, "Groups").locator("tbody td:first-child a").all()]
    assert indents == sorted(set(indents))
    _header, *history = cells(section(page, "Latest audit rows"))
    assert len(history) == 10
    assert {row[4] for row in history} == {"Success", "Denied"}

    members.locator("tbody.original", has_text="bob@example.com in").get_by_label("Role").select_option("Admin")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    bob = TenantMembership.objects.get(tenant=scene.laboratory, user=scene.bob)
    assert bob.role == "admin"
    assert told(scene, "tenant_membership.change") == [str(bob.pk)]
    _header, newest, *_older = cells(section(page, "Latest audit rows"))
    assert newest[1:] == ["tenant_membership.change", "olivia@keyhub.test", "tenant_membership", "Success"]

    page.get_by_role("link", name="Optics", exact=True).click()
    expect(page.locator("#id_name")).to_have_value("Optics")


def test_a_tenant_is_made_and_gets_a_member_looked_up_by_e_mail(page, scene):
    page.goto(page_of_list(Tenant))
    page.get_by_role("link", name="Add tenant").click()
    page.locator("#id_organization_id").fill("ORG-ACME")
    page.locator("#id_name").fill("Acoustics")
    page.locator("#id_slug").fill("acoustics")
    page.locator("#id_tenant_type").select_option("Laboratory")
    page.get_by_text("Add another Tenant membership").click()
    pick(page, "memberships-0-user", "charl", "charlie@example.com")
    page.locator("#id_memberships-0-role").select_option("Admin")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    tenant = Tenant.objects.get(slug="acoustics")
    (charlie,) = tenant.memberships.all()
    assert (charlie.user, charlie.role) == (scene.charlie, "admin")
    assert told(scene, "tenant.add") == [str(tenant.pk)]
    assert told(scene, "tenant_membership.add") == [str(charlie.pk)]

    page.goto(reverse("admin:tenancy_tenantmembership_add"))
    pick(page, "tenant", "acou", "Acoustics")
    pick(page, "user", "DANA@", "dana@example.com")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    assert set(tenant.memberships.values_list("user__email", "role")) == {
        ("charlie@example.com", "admin"),
        ("dana@example.com", "member"),
    }


# Join codes


def test_codes_are_found_by_their_state_and_issued_with_careful_defaults(page, scene, context, address):
    page.goto(page_of_list(TenantJoinCode))
    codes = {}
    for choice in ("Active", "Exhausted", "Active, expires within 7 days", "Revoked"):
        page.get_by_role("button", name="Filters").click()
        follow(page, page.get_by_role("dialog", name="Filters").get_by_role("link", name=choice, exact=True))
        codes[choice] = listed(page, "code")
    assert codes == {
        "Active": [scene.fresh.code, scene.leaked.code, "KH-DEMO-001"],
        "Exhausted": [scene.used_up.code],
        "Active, expires within 7 days": [scene.leaked.code],
        "Revoked": [],
    }

    page.goto(page_of_row(scene.laboratory))
    page.get_by_role("link", name="Issue a join code").click()
    expect(page.locator("#id_max_uses")).to_have_value("1")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    issued = TenantJoinCode.objects.latest("created_at")
    assert (issued.tenant, issued.role, issued.max_uses) == (scene.laboratory, "member", 1)
    assert re.fullmatch(r"KH-\w{5}-\w{5}-\w{5}", issued.code)
    lifetime = issued.expires_at - issued.created_at
    assert round(lifetime.total_seconds() / 86_400, 2) == 7
    assert told(scene, "tenant_join_code.add") == [str(issued.pk)]

    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    button = page.get_by_role("button", name=f"Copy {issued.code}")
    button.click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == issued.code
    expect(button).to_have_text("Copy")


def test_a_leaked_code_is_revoked_with_everything_it_gave(page, scene):
    bobs = TenantMembership.objects.get(tenant=scene.laboratory, user=scene.bob)
    page.goto(page_of_row(scene.leaked))
    _header, (user, _moment, membership) = cells(section(page, "Who used it"))
    assert (user, membership) == ("bob@example.com", "active")

    operate(page, "Revoke")
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("#id_code")).to_have_value(scene.leaked.code)
    scene.leaked.refresh_from_db()
    assert (scene.leaked.revoked_at, told(scene, "tenant_join_code.revoke")) == (None, [])

    operate(page, "Revoke")
    expect(page.locator("#content")).to_contain_text(
        "Nobody is let in by these codes any more. This cannot be undone; new codes can be issued."
    )
    page.get_by_label("Revoke everything it gave").check()
    answer(page, "Revoke")
    says(page, "Revoked: 1 of 1. 1 membership was taken back.")
    scene.leaked.refresh_from_db()
    bobs.refresh_from_db()
    assert scene.leaked.revoked_at is not None
    assert (bobs.left_at is None, bobs.left_reason) == (False, "code_revoked")
    assert told(scene, "tenant_join_code.revoke") == [str(scene.leaked.pk)]
    _header, (user, _moment, membership) = cells(section(page, "Who used it"))
    assert (user, membership) == ("bob@example.com", "Code Revoked")


def test_selected_codes_are_revoked_at_once(page, scene):
    page.goto(page_of_list(TenantJoinCode))
    for code in (scene.fresh, scene.used_up):
        page.locator("tr.data-row").filter(has_text=code.code).locator("input.action-select").check()
    expect(page.locator(".action-counter")).to_have_text("2 of 4 selected")
    page.locator("select[name=action]").select_option("Revoke")
    page.get_by_role("button", name="Run").click()
    rows = page.locator(".keyhub-rows li")
    expect(rows).to_have_count(2)
    assert set(rows.all_inner_texts()) == {scene.fresh.code, scene.used_up.code}
    answer(page, "Revoke")
    says(page, "Revoked: 2 of 2.")
    revoked = TenantJoinCode.objects.filter(revoked_at__isnull=False)
    assert set(revoked) == {scene.fresh, scene.used_up}
    assert TenantMembership.objects.active().filter(user=scene.dana).exists()
    assert set(told(scene, "tenant_join_code.revoke")) == {str(scene.fresh.pk), str(scene.used_up.pk)}


# People


def test_sessions_are_ended_one_by_one_of_a_user_and_of_a_tenant(page, scene):
    bobs = Session.objects.get(user=scene.bob)
    page.goto(page_of_row(scene.bob))
    section(page, "Sessions").get_by_role("link").first.click()
    operate(page, "Revoke")
    page.get_by_label("Reason").fill("a lost telephone")
    answer(page, "Revoke")
    says(page, "Revoked: 1 of 1.")
    bobs.refresh_from_db()
    assert (bobs.revoked, bobs.revoked_reason) == (True, "a lost telephone")
    assert told(scene, "session.revoke") == [str(bobs.pk)]

    page.goto(page_of_row(scene.bob))
    SessionFactory.create_batch(2, user=scene.bob)
    operate(page, "Sign out everywhere")
    answer(page, "Sign out everywhere")
    says(page, "Signed out: 1 of 1. 2 sessions have ended.")
    assert not Session.objects.live().filter(user=scene.bob).exists()
    assert told(scene, "user.revoke_sessions") == [str(scene.bob.pk)]

    page.goto(page_of_row(scene.laboratory))
    _header, (user, _expires, _seen) = cells(section(page, "Sessions alive"))
    assert user == "alice@example.com"
    operate(page, "Sign everybody out")
    answer(page, "Sign everybody out")
    says(page, "Signed out: 1 of 1. 1 session has ended.")
    scene.session.refresh_from_db()
    assert (scene.session.revoked, scene.session.revoked_reason) == (True, "revoked by an operator")
    assert told(scene, "tenant.revoke_sessions") == [str(scene.laboratory.pk)]
    expect(section(page, "Sessions alive")).to_contain_text("None.")


def test_a_user_is_disabled_enabled_and_anonymized(page, scene):
    page.goto(page_of_list(User))
    page.get_by_placeholder("The e-mail or a part of it").fill("bob@example.com")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="bob@example.com").click()
    operate(page, "Disable")
    answer(page, "Disable")
    says(page, "Disabled: 1 of 1.")
    scene.bob.refresh_from_db()
    assert scene.bob.disabled_at is not None
    assert not Session.objects.live().filter(user=scene.bob).exists()

    operate(page, "Enable")
    answer(page, "Enable")
    says(page, "Enabled: 1 of 1.")
    scene.bob.refresh_from_db()
    assert scene.bob.disabled_at is None

    operate(page, "Anonymize")
    expect(page.locator("#content")).to_contain_text("This cannot be undone.")
    answer(page, "Anonymize")
    says(page, "Anonymized: 1 of 1.")
    scene.bob.refresh_from_db()
    assert (scene.bob.name, scene.bob.anonymized_at is None) == (None, False)
    assert "bob" not in scene.bob.email
    assert [told(scene, f"user.{verb}") for verb in ("disable", "enable", "anonymize")] == [[str(scene.bob.pk)]] * 3
    operations = page.get_by_role("group", name="Operations").get_by_role("link")
    expect(operations).to_have_count(1)
    expect(operations).to_have_accessible_name("Sign out everywhere")


# The audit log


def test_the_audit_log_is_read_page_by_page_and_downloaded_as_filtered(page, scene, tmp_path):
    AuditLogFactory.create_batch(2, action="code.guess", resource_id='=HYPERLINK("https://evil.example")')
    total = AuditLog.objects.count()
    page.goto("/admin/")
    follow(page, page.get_by_role("link", name="Audit log"))
    pages, seen = page.get_by_role("navigation", name="Pages"), []
    expect(pages.get_by_role("link", name="First page")).to_have_count(0)
    while True:
        seen += page.locator("#result_list tbody th a").evaluate_all("links => links.map(link => link.href)")
        following = pages.get_by_role("link", name="Next")
        if not following.count():
            break
        follow(page, following)
    assert (len(seen), len(set(seen))) == (total, total)
    follow(page, pages.get_by_role("link", name="First page"))
    expect(pages.get_by_role("link", name="First page")).to_have_count(0)

    page.get_by_role("button", name="Filters").click()
    page.get_by_label("By action").fill("code.guess")
    page.get_by_role("button", name="Apply Filters").click()
    expect(pages).to_contain_text("2 rows on this page")
    assert set(listed(page, "action")) == {"code.guess"}

    files = {}
    for name in ("CSV", "JSONL"):
        with page.expect_download() as download:
            pages.get_by_role("link", name=f"Download as {name}").click()
        path = Path(download.value.path())
        files[download.value.suggested_filename.partition(".")[2]] = path.read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(files["csv"])))
    assert [(row["action"], row["resource_id"]) for row in rows] == [
        ("code.guess", '\'=HYPERLINK("https://evil.example")')
    ] * 2
    lines = [json.loads(line) for line in files["jsonl"].splitlines()]
    assert [line["resource_id"] for line in lines] == ['=HYPERLINK("https://evil.example")'] * 2
    exports = AuditLog.objects.filter(action="audit_log.export").order_by("created_at")
    assert [(row.actor_label, row.details["format"], row.details["filters"]["action"]) for row in exports] == [
        ("olivia@keyhub.test", "csv", "code.guess"),
        ("olivia@keyhub.test", "jsonl", "code.guess"),
    ]

    follow(page, page.locator("#result_list tbody th a").first)
    expect(page.locator("#content")).to_contain_text("code.guess")
    assert page.locator("#content-main").locator("input:visible, textarea:visible, select:visible").count() == 0
    assert page.get_by_role("button", name="Save").count() == 0


# On every page


def test_no_page_gives_a_secret_away(page, scene):
    """The digests of tokens, and what an OAuth state holds: neither seen nor hidden in the page."""
    session, state, console = scene.session, OAuthState.objects.get(), ConsoleSession.objects.get()
    secrets = [*Session.objects.values_list("session_id", flat=True), state.state, state.browser_digest]
    secrets += [
        text for text in (state.code_verifier, state.nonce, console.session_id, scene.operator.password) if text
    ]
    assert len(secrets) > 4
    places = ["/admin/"] + [
        address
        for row in (session, state, console, scene.alice, scene.laboratory, scene.operator, AuditLog.objects.first())
        for address in (page_of_list(type(row)), page_of_row(row))
    ]
    for place in places:
        page.goto(place, wait_until="domcontentloaded")
        html = page.content()
        assert "</html>" in html
        assert [secret for secret in secrets if secret in html] == []


def test_the_site_speaks_the_operators_language(page, scene):
    page.goto("/admin/")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    menu = page.locator("#nav-sidebar-inner")
    menu.get_by_text("olivia@keyhub.test").last.click()
    menu.get_by_role("button", name="日本語").click()
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    page.goto(page_of_list(Tenant))
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    menu.get_by_text("olivia@keyhub.test").last.click()
    menu.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_what_goes_wrong_in_a_page_is_noticed(page, complaints):
    """Else the other tests would hold whatever the browser complains of."""
    page.goto("/admin/")
    page.evaluate("console.error('a word')")
    page.evaluate("setTimeout(() => { throw new Error('a mistake'); })")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=https://evil.example/>')")
    page.evaluate("fetch('/admin/nowhere/')")
    heard = sorted(complaints)
    complaints.clear()
    assert [each.partition("'")[0] for each in heard] == [
        "Failed to load resource: the server responded with a status of 404 (Not Found)",
        "Loading the image ",
        "a mistake",
        "a word",
    ]
