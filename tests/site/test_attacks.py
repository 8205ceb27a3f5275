"""Each page and each action of the site, as somebody who may not: refused, and nothing has changed.

What a page takes is written down here; a page that is added and not written down fails the first test.
"""

import hashlib
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.contrib import admin as django_admin
from django.db import connection, models
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts import urls as second_factor_pages
from accounts.models import Operator
from keyhub.admin import KeyHubAdmin
from keyhub.admin.operations import offered
from tests.factories import OperatorFactory, TenantJoinCodeFactory, UserFactory
from tests.site import scene

pytestmark = [pytest.mark.django_db, pytest.mark.once]

# What the signing in of the tests itself writes.
WRITTEN_BY_SIGNING_IN = {"audit_logs", "django_session", "operators", "axes_accessattempt"}
OPEN_TO_ALL = {"login", "logout", "jsi18n"}
FOR_EVERY_OPERATOR = {
    "index", "password_change", "password_change_done", "autocomplete", "view_on_site", "app_list", "search", "health",
}  # fmt: skip


@pytest.fixture
def hub() -> scene.Scene:
    return scene.build()


def contents() -> dict[str, str]:
    """A digest of each table, without those that signing in writes to."""
    tables = sorted(connection.introspection.table_names())
    digests = {}
    with connection.cursor() as cursor:
        for table in tables:
            if table not in WRITTEN_BY_SIGNING_IN and not table.startswith("audit_logs"):
                cursor.execute(f'SELECT string_agg(t::text, chr(10) ORDER BY t::text) FROM "{table}" AS t')
                digests[table] = hashlib.sha256((cursor.fetchone()[0] or "").encode()).hexdigest()
        cursor.execute("SELECT count(*) FROM audit_logs WHERE action NOT LIKE 'operator.sign%'")
        digests["audit_logs"] = str(cursor.fetchone()[0])
        cursor.execute(
            "SELECT string_agg(concat(id, email, password, is_superuser, role), ',' ORDER BY id) FROM operators"
        )
        digests["operators"] = cursor.fetchone()[0]
    return digests


def names_of_pages() -> set[str]:
    """The names of all addresses below /admin/."""

    def below(resolver: URLResolver) -> Iterator[URLPattern]:
        for pattern in resolver.url_patterns:
            if isinstance(pattern, URLResolver):
                yield from below(pattern)
            else:
                yield pattern

    resolvers = [each for each in get_resolver().url_patterns if str(each.pattern).startswith("admin/")]
    resolvers = [each for each in resolvers if isinstance(each, URLResolver)]
    return {pattern.name for resolver in resolvers for pattern in below(resolver) if pattern.name}


def rows(hub: scene.Scene) -> list[models.Model]:
    """A row of each model that the site shows."""
    mine = [hub.laboratory, hub.alice, hub.leaked, hub.optics, hub.session, hub.victim, hub.permissions]
    found = {type(row): row for row in mine}
    return [found.get(model) or model.objects.first() for model in django_admin.site._registry]


def address(row: models.Model, page: str, *more: str) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk, *more])


def list_address(model: type[models.Model], page: str = "changelist") -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}")


def attacks(hub: scene.Scene) -> list[tuple[str, str, dict, str]]:
    """(method, address, data, the permission that it takes) of everything that shows or changes a row."""
    found = []
    for row in rows(hub):
        meta = row._meta
        codename = f"{meta.app_label}.%s_{meta.model_name}"
        found += [
            ("get", list_address(type(row)), {}, codename % "view"),
            ("get", address(row, "change"), {}, codename % "view"),
            ("get", address(row, "history"), {}, codename % "view"),
            ("get", list_address(type(row), "add"), {}, codename % "add"),
            ("post", list_address(type(row), "add"), _any_values(row), codename % "add"),
            ("post", address(row, "change"), _any_values(row), codename % "change"),
            ("get", address(row, "delete"), {}, codename % "delete"),
            ("post", address(row, "delete"), {"post": "yes"}, codename % "delete"),
            (
                "post", list_address(type(row)),
                {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}, codename % "delete",
            ),
        ]  # fmt: skip
        if isinstance(django_admin.site.get_model_admin(type(row)), KeyHubAdmin):
            found.append(("post", address(row, "operation", "explode"), {"confirmed": "yes"}, "nobody's"))
        for operation in offered(type(row)):
            page = address(row, "operation", operation.verb)
            selected = {"action": operation.verb, "_selected_action": [row.pk], "confirmed": "yes", "cascade": "on"}
            found += [
                ("get", page, {}, operation.permission),
                ("post", page, {"confirmed": "yes", "cascade": "on"}, operation.permission),
                ("post", list_address(type(row)), selected, operation.permission),
            ]
    password = {"password1": scene.PASSWORD, "password2": scene.PASSWORD, "usable_password": "true"}
    victim = hub.victim
    found.append(("post", reverse("admin:auth_user_password_change", args=[victim.pk]), password, "superuser"))
    reset = {"action": "reset_second_factor", "_selected_action": [victim.pk], "confirmed": "yes"}
    found.append(("post", list_address(Operator), reset, "superuser"))
    for format_ in ("csv", "jsonl"):
        found.append(("get", reverse("admin:audit_auditlog_download", args=[format_]), {}, "audit.export_auditlog"))
    return found


def _any_values(row: models.Model) -> dict[str, str]:
    """What a form might take, were it to take anything."""
    texts = {field.attname: "changed" for field in row._meta.concrete_fields if isinstance(field, models.TextField)}
    return {**texts, "email": "changed@example.com", "slug": "changed", "is_superuser": "on", "role": "admin"}


def may(operator: Operator, permission: str, page: str) -> bool:
    if page.startswith(("/admin/accounts/operator/", "/admin/auth/group/")) or permission == "superuser":
        return operator.is_superuser
    return operator.has_perm(permission)


def sent(client: Client, method: str, page: str, data: dict) -> int:
    response = getattr(client, method)(page, data)
    if response.streaming:
        list(response.streaming_content)
    return response.status_code


def test_every_page_of_the_site_is_attacked(hub):
    """By its name; those of packages that only show a form to the operator are listed above."""
    attacked = set()
    for _method, page, _data, _permission in attacks(hub):
        attacked.add(get_resolver().resolve(page.partition("?")[0]).url_name)
    of_second_factors = {pattern.name for pattern in second_factor_pages.urlpatterns}  # accounts/test_second_factor.py
    assert names_of_pages() - attacked - OPEN_TO_ALL - FOR_EVERY_OPERATOR - of_second_factors == set()


def test_nobody_reaches_a_page(hub, client):
    before = contents()
    pages = [(method, page, data) for method, page, data, _permission in attacks(hub)]
    pages += [("get", reverse(f"admin:{name}"), {}) for name in ("index", "password_change", "autocomplete", "search")]
    pages += [("get", reverse("health"), {}), ("post", reverse("health"), {})]
    for method, page, data in pages:
        response = getattr(client, method)(page, data)
        assert (response.status_code, response.url.partition("?")[0]) == (302, "/admin/login/"), page
    assert contents() == before


@pytest.mark.parametrize("role", ["none", "viewer", "support", "admin"])
def test_a_role_does_what_it_may_and_nothing_else(hub, client, role):
    operator = OperatorFactory(email="mallory@keyhub.test", role=None if role == "none" else role)
    client.force_login(operator)
    listed = attacks(hub)
    refused = [each for each in listed if not may(operator, each[3], each[1])]
    shown = [each for each in listed if each not in refused and each[0] == "get" and not _is_read_only(each)]
    before = contents()
    for method, page, data, permission in refused:
        status = sent(client, method, page, data)
        # An action that is not offered is no action: the list is shown again.
        is_unknown_action = "action" in data and status in (200, 302)
        assert status in (403, 404) or is_unknown_action, (status, method, page, permission)
    assert contents() == before
    for method, page, data, permission in shown:
        assert sent(client, method, page, data) == 200, (page, permission)
    assert len(refused) + len(shown) > 50


def _is_read_only(attack: tuple) -> bool:
    """Pages that nobody has: rows of these are not added, changed or deleted in the site."""
    _method, page, _data, permission = attack
    action = permission.partition(".")[2].partition("_")[0]
    read_only = ("/auth_sessions/", "/audit/auditlog/")
    return action in ("add", "change", "delete") and any(each in page for each in read_only)


def test_one_wrong_permission_opens_one_thing(hub, client):
    """May revoke sessions, and look at codes: no code is revoked, no session of what may not be seen."""
    operator = OperatorFactory(email="mallory@keyhub.test")
    permissions = apps.get_model("auth", "Permission").objects
    operator.user_permissions.set(permissions.filter(codename__in=["revoke_session", "view_tenantjoincode"]))
    client.force_login(operator)
    before = contents()
    code, session = hub.leaked, hub.session
    assert sent(client, "get", address(code, "change"), {}) == 200
    for row, verb in ((code, "revoke"), (session, "revoke"), (hub.alice, "revoke_sessions")):
        assert sent(client, "post", address(row, "operation", verb), {"confirmed": "yes"}) == 403
    assert contents() == before


def test_a_viewers_page_offers_nothing(hub, client):
    client.force_login(OperatorFactory(role="viewer"))
    for row in (hub.laboratory, hub.alice, hub.leaked, hub.session):
        response = client.get(address(row, "change"))
        assert response.context["operations"] == []
        assert 'name="_save"' not in response.text
        assert "Issue a join code" not in response.text
    assert "Download as" not in client.get(list_address(apps.get_model("audit", "AuditLog"))).text


def test_a_request_of_another_site_is_refused(hub):
    client = Client(enforce_csrf_checks=True)
    client.force_login(hub.operator)
    posts = [(page, data) for method, page, data, _permission in attacks(hub) if method == "post"]
    before = contents()
    for page, data in [*posts, (reverse("health"), {}), (reverse("admin:logout"), {})]:
        assert client.post(page, data).status_code == 403, page
    assert contents() == before


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7|add:7 }}"])
def test_texts_of_others_are_texts(hub, client, text):
    client.force_login(hub.operator)
    user = UserFactory(name=text)
    hub.laboratory.name = text
    hub.laboratory.save()
    code = TenantJoinCodeFactory(tenant=hub.laboratory, code=f"KH-{text}", created_by=user)
    pages = [list_address(type(row)) for row in (user, code, hub.laboratory, hub.session)]
    pages += [address(row, "change") for row in (user, code, hub.laboratory)]
    pages += [address(code, "operation", "revoke"), address(code, "delete"), "/admin/"]
    for page in pages:
        shown = client.get(page).text
        assert text not in shown or text.startswith("{{"), page
        assert "14" not in text
