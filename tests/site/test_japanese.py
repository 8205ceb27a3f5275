"""The site in Japanese: no English word of ours on any page, and the same audit log in both languages."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin as django_admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.core.cache import cache
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone, translation
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User
from audit.models import AuditLog
from keyhub import dbhealth
from keyhub.admin import refusals, start_page
from keyhub.admin.counts import Count
from keyhub.admin.deletion import Rows
from keyhub.admin.operations import offered
from orgs.models import Organization
from tenancy.models import GroupMembership, Tenant, TenantMembership
from tests.site import scene
from tests.site.visible_text import visible_texts

pytestmark = [pytest.mark.django_db, pytest.mark.once]

REPOSITORY = Path(__file__).parent.parent.parent
BACKEND = "accounts.roles.RoleBackend"
# What stays as it is: the data of the scene, and names that Japanese writes in Latin letters.
DATA = re.compile(
    r"[\w.+-]+@[\w.-]+"  # e-mails
    r"|https?://\S+|/home\b"
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\bKH(-[0-9A-Z]+)+"  # join codes
    r"|\b([A-Z0-9]{4} ){7}[A-Z0-9]{4}\b"  # the secret of a device
    r"|\b(user\.login|document\.read)（(session|document)）"  # the name of an audit row
    r"|\b(user\.login|document\.read|operator\.sign_in|acme\.example|[a-z_]+\.export)\b"
    r"|\bORG-[A-Z0-9-]+|\bsub-\d+"
    r"|: [\w+/]+\*+"  # what is shown of a hashed password
    r"|\b(Acme Research|Optics Laboratory|Acme (team|department|project) \d|Default (Organization|Team)|Night shift"
    r"|Pulsed lasers|Femtoseconds and below|Optics|Lasers|Alice|Bob|Dana|Charlie|Olivia|Victor|Firefox|Safari)\b",
    re.IGNORECASE | re.ASCII,
)
WHOLE_DATA = {
    "acme", "optics", "default", "team-1", "department-2", "project-3",  # slugs
    "session", "document", "user", "operator", "tenant_join_code",  # resource types of audit rows
    "en", "ja", "esc",  # languages as the theme's menu names them, and a key
}  # fmt: skip
NAMES = {
    "KeyHub", "English", "ID", "OAuth", "UTC", "JSON", "null", "SHA", "IP", "URL", "QR", "CSV", "JSONL", "TOTP",
    "BACKUP_URL", "LDAP", "Control", "Command", "Mac", "nonce", "Axes", "Otp_Static", "Otp_Totp", "sha256",
    "pbkdf2_sha256", "invalid",
}  # fmt: skip
WORD = re.compile(r"[A-Za-z][\w'’]+", re.ASCII)


def english_in(html: str) -> list[str]:
    """Texts with a word that is neither data nor a name."""
    return [
        text
        for text in visible_texts(html)
        if text not in WHOLE_DATA and set(WORD.findall(DATA.sub(" ", text))) - NAMES
    ]


@pytest.fixture
def hub(db) -> scene.Scene:
    cache.clear()
    return scene.build()


@pytest.fixture
def site(client, hub):
    """A browser of the operator's, in Japanese."""
    client.force_login(hub.operator, backend=BACKEND)
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "ja"
    return client


def messages(response) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def page_names(model: type[models.Model]) -> str:
    return f"admin:{model._meta.app_label}_{model._meta.model_name}"


def pages_of(model: type[models.Model]) -> Iterator[str]:
    """Every address of a model's pages; of the row with most to show."""
    name = page_names(model)
    changelist = reverse(f"{name}_changelist")
    yield changelist
    yield f"{changelist}?q=nothing+has+this+name"
    yield reverse(f"{name}_add")
    row = _row_of(model)
    if row is not None:
        yield from (reverse(f"{name}_{page}", args=[quote(row.pk)]) for page in ("change", "delete", "history"))
        yield from (reverse(f"{name}_operation", args=[quote(row.pk), each.verb]) for each in offered(model))


def _row_of(model: type[models.Model]) -> models.Model | None:
    names = {Tenant: {"slug": "optics"}, User: {"email": "alice@example.com"}, Organization: {"pk": "ORG-ACME"}}
    return model._default_manager.filter(**names.get(model, {})).order_by("pk").first()


def registered() -> list[type[models.Model]]:
    return sorted(django_admin.site._registry, key=str)


@pytest.mark.long
def test_no_page_of_a_list_or_row_says_anything_in_english(site):
    shown = 0
    left = {}
    for model in registered():
        for page in pages_of(model):
            response = site.get(page)
            if response.status_code == 403:
                continue  # rows of it are not added or deleted here
            assert response.status_code == 200, page
            shown += 1
            if texts := english_in(response.text):
                left[page] = texts
    assert left == {}
    assert shown > 60


def test_no_other_page_says_anything_in_english(site):
    names = ["admin:index", "admin:password_change", "second_factor:status", "second_factor:enrol"]
    assert {name: english_in(site.get(reverse(name)).text) for name in names} == {name: [] for name in names}
    assert english_in(site.get(reverse("admin:accounts_operator_changelist") + "?q=olivia").text) == []
    missing = site.get("/nowhere/")
    assert (missing.status_code, english_in(missing.text)) == (404, [])
    site.logout()
    site.cookies[settings.LANGUAGE_COOKIE_NAME] = "ja"
    login = reverse("admin:login")
    assert english_in(site.get(login).text) == []
    wrong = site.post(login, {"username": "olivia@keyhub.test", "password": "wrong"})
    assert english_in(wrong.text) == []
    for _attempt in range(settings.AXES_FAILURE_LIMIT):
        wrong = site.post(login, {"username": "olivia@keyhub.test", "password": "wrong"})
    assert (wrong.status_code, english_in(wrong.text)) == (429, [])


def test_the_pages_of_a_second_factor_say_nothing_in_english(site, hub):
    site.get(reverse("second_factor:enrol"))
    device = TOTPDevice(key=site.session["second_factor_key"])
    enrolled = site.post(reverse("second_factor:enrol"), {"token": f"{totp(device.bin_key):06}"})
    assert "リカバリーコード" in enrolled.text
    codes = re.findall(r"<code>(.+?)</code>", enrolled.text)
    assert [text for text in english_in(enrolled.text) if text not in codes] == []
    for name in ("status", "renew_codes", "remove"):
        assert english_in(site.get(reverse(f"second_factor:{name}")).text) == []
    wrong = site.post(reverse("second_factor:remove"), {"token": "nonsense"})
    assert "6桁の数字でも、使用できるリカバリーコードでもありません。" in wrong.text
    assert english_in(wrong.text) == []
    site.logout()
    site.force_login(hub.operator, backend=BACKEND)
    site.cookies[settings.LANGUAGE_COOKIE_NAME] = "ja"
    for query in ("", "?by=recovery-code"):
        page = site.get(reverse("second_factor:verify") + query)
        assert (page.status_code, english_in(page.text)) == (200, [])


def test_the_word_of_dbhealth_is_marked_as_english(site):
    finding = dbhealth.Finding("keyhub.H001", dbhealth.Severity.WARNING, "索引", "It is not there.", "CREATE INDEX …")
    report = dbhealth.Report("default", [finding], notes=["nothing else was looked at"])
    cache.set("start_page:health", start_page.Look([report], timezone.now() - timedelta(minutes=4)))
    text = site.get(reverse("health")).text
    assert '<span lang="en">It is not there.</span>' in text
    assert '<span lang="en">Nothing else was looked at.</span>' in text
    assert re.search(r"\b4\s*分前に検査しました。", text)
    assert {"1件の問題があります。", "警告", "対処方法"} <= set(visible_texts(text))
    assert [each for each in english_in(text) if each != "keyhub.H001"] == []


def test_a_page_in_english_is_seen_to_be_in_english(site):
    """Else the tests above would prove nothing."""
    site.cookies[settings.LANGUAGE_COOKIE_NAME] = "en"
    texts = english_in(site.get(reverse("admin:tenancy_tenant_changelist")).text)
    assert {"Tenant type", "Audit log", "Filters", "Team"} <= set(texts)


# The choice of the language


def language_of(response) -> str:
    return re.search(r'<html[^>]* lang="(\w+)"', response.text)[1]


@pytest.mark.parametrize(("asked", "answered"), [("ja,en;q=0.5", "ja"), ("en", "en"), ("fr", "en"), ("", "en")])
def test_a_browser_is_answered_in_its_language(client, asked, answered):
    assert language_of(client.get(reverse("admin:login"), headers={"accept-language": asked})) == answered


def test_the_language_is_chosen_in_the_menu_and_kept_in_a_cookie(site):
    del site.cookies[settings.LANGUAGE_COOKIE_NAME]
    index = reverse("admin:index")
    page = site.get(index)
    assert (language_of(page), f'action="{reverse("set_language")}"' in page.text) == ("en", True)
    chosen = site.post(reverse("set_language"), {"language": "ja", "next": index})
    assert (chosen.status_code, chosen.url) == (302, index)
    cookie = chosen.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert (cookie.value, cookie["max-age"], cookie["httponly"], cookie["samesite"]) == ("ja", 31536000, True, "Lax")
    assert language_of(site.get(index)) == "ja"
    site.post(reverse("admin:logout"))
    assert language_of(site.get(reverse("admin:login"))) == "ja"
    site.post(reverse("set_language"), {"language": "en", "next": index})
    assert language_of(site.get(reverse("admin:login"))) == "en"


# Times and numbers


def test_times_and_numbers_are_written_as_in_japan(site, hub):
    page = site.get(reverse("admin:accounts_user_change", args=[hub.alice.pk])).text
    day = hub.alice.created_at
    assert f"{day.year}年{day.month}月{day.day}日{day.hour}:{day.minute:02}" in page
    today = timezone.now()
    assert f'title="{today:%Y/%m/%d}: ' in site.get(reverse("admin:index")).text
    with translation.override("ja"):
        assert str(Count(1234567, is_estimate=True)) == "≈ 1,234,567"
        assert str(Rows({str(number) for number in range(1000)}, there_may_be_more=True)) == "1,000以上"


# What operations and refusals say


def operate(site, row: models.Model, verb: str, **options: str) -> list[str]:
    page = reverse(f"{page_names(type(row))}_operation", args=[row.pk, verb])
    return messages(site.post(page, {"confirmed": "yes", **options}, follow=True))


def test_what_was_done_is_told_in_japanese(site, hub):
    assert operate(site, hub.charlie, "disable") == ["1件中1件を無効にしました。"]
    assert operate(site, hub.charlie, "enable") == ["1件中1件を有効にしました。"]
    assert operate(site, hub.leaked, "revoke", cascade="on") == [
        "1件中1件を失効させました。 1件のメンバーシップを取り消しました。"
    ]
    assert operate(site, hub.alice, "revoke_sessions") == [
        "1件中1件をサインアウトさせました。 1件のセッションが終了しました。"
    ]


def test_what_a_trigger_refuses_is_told_in_japanese(site, hub):
    somebody = "直前に別の人が同じデータを変更した可能性があります。"
    last_admin = TenantMembership.objects.get(tenant=hub.laboratory, user=hub.alice)
    assert operate(site, last_admin, "remove") == [
        f"何も変更されませんでした。テナント{hub.laboratory.pk}の管理者がいなくなります。"
        "先に別の人を管理者にするか、テナントを削除してください。"
    ]
    group = {"group": hub.optics.pk, "user": hub.charlie.pk, "role": "member"}
    added = site.post(reverse("admin:tenancy_groupmembership_add"), group, follow=True)
    assert messages(added) == [
        f"何も変更されませんでした。ユーザー{hub.charlie.pk}は、グループのテナント{hub.laboratory.pk}のメンバーでは"
        f"ありません。先にテナントのメンバーにしてください。 {somebody}"
    ]
    hub.charlie.anonymize()
    identity = {"user": hub.charlie.pk, "provider": "https://accounts.example.com", "provider_sub": "charlie"}
    added = site.post(reverse("admin:accounts_useridentity_add"), identity, follow=True)
    assert messages(added) == [f"何も変更されませんでした。匿名化されたユーザーに外部IDは追加できません。 {somebody}"]


def test_what_a_constraint_refuses_is_told_in_japanese(site, hub):
    user = {"email": hub.bob.email.upper(), "identities-TOTAL_FORMS": "0", "identities-INITIAL_FORMS": "0"}
    page = site.post(reverse("admin:accounts_user_add"), user)
    assert "このメールアドレスのユーザーは既に存在します。" in page.text
    assert english_in(page.text) == []
    domain = {"organization": hub.organization.pk, "domain": "localhost"}
    page = site.post(reverse("admin:orgs_organizationdomain_add"), domain)
    assert "ドメインではありません。example.comのようなホスト名を入力してください。" in page.text


def test_each_registered_refusal_is_still_said_somewhere():
    said = " ".join(
        path.read_text(encoding="utf-8").replace("''", "'")
        for app in ("accounts", "tenancy", "orgs")
        for path in [*REPOSITORY.glob(f"{app}/sql/*.up.sql"), *REPOSITORY.glob(f"{app}/*.py")]
        if path.name != "admin.py"
    )
    parts = [part for sentence in refusals._sentences for part in re.split(r"\{\}|(?<=[a-z}])\. (?=[A-Z])", sentence)]
    assert [part for part in parts if part.strip() and part.strip() not in said] == []
    assert len(refusals._sentences) > 5


def test_a_refusal_that_nobody_has_registered_stays_as_it_is():
    with translation.override("ja"):
        assert refusals.in_words("Something else.") == "Something else."
        assert refusals.in_words("The user 17 is anonymized, and stays so.") == (
            "ユーザー17は匿名化されており、元に戻せません。"
        )


# The audit log


class _TakeItBackError(Exception):
    pass


def told_in(language: str, client) -> tuple[list, list]:
    """What the audit log and Django's own log have of the same work, done in a language."""
    cache.clear()
    try:
        with transaction.atomic():
            hub = scene.build()
            client.force_login(hub.operator, backend=BACKEND)
            client.cookies[settings.LANGUAGE_COOKIE_NAME] = language
            before = set(AuditLog.objects.values_list("pk", flat=True))
            _work(client, hub)
            rows = AuditLog.objects.exclude(pk__in=before).order_by("created_at", "action", "resource_type")
            told = [
                (row.action, row.resource_type, row.outcome, row.actor_label, row.tenant_label,
                 {name: value for name, value in (row.details or {}).items() if name != "operator"})
                for row in rows
            ]  # fmt: skip
            log = list(LogEntry.objects.order_by("pk").values_list("action_flag", "object_repr", "change_message"))
            raise _TakeItBackError
    except _TakeItBackError:
        return sorted(told, key=str), log


def _work(client, hub: scene.Scene) -> None:
    place = TenantMembership.objects.get(tenant=hub.laboratory, user=hub.dana)
    change = {"role": "viewer", "left_at_0": "", "left_at_1": ""}
    add = {"tenant": hub.laboratory.pk, "user": hub.charlie.pk, "role": "member"}
    row = GroupMembership.objects.get(group=hub.optics, user=hub.bob)
    for response in (
        client.post(reverse("admin:tenancy_tenantmembership_change", args=[place.pk]), change),
        client.post(reverse("admin:tenancy_tenantmembership_add"), add),
        client.post(reverse("admin:tenancy_groupmembership_delete", args=[row.pk]), {"post": "yes"}),
    ):
        assert response.status_code == 302
    operate(client, hub.leaked, "revoke", cascade="on")
    operate(client, hub.alice, "revoke_sessions")
    operate(client, hub.charlie, "disable")


def test_the_logs_say_the_same_in_both_languages(client):
    (rows, log), (japanese_rows, japanese_log) = told_in("en", client), told_in("ja", client)
    assert (japanese_rows, japanese_log) == (rows, log)
    assert ("tenant_membership.change", ["role"]) in [(row[0], row[5].get("changed")) for row in rows]
    assert (3, "bob@example.com in Optics", "") in log
    assert len(rows) > 5
