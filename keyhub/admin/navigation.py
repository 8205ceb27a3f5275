"""The menu of the site: UNFOLD's SIDEBAR."""

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

MENU = [
    (_("Tenants"), [
        (_("Tenants"), "corporate_fare", "tenancy", "tenant"),
        (_("Memberships"), "badge", "tenancy", "tenantmembership"),
        (_("Join codes"), "key", "tenancy", "tenantjoincode"),
        (_("Groups"), "account_tree", "tenancy", "group"),
        (_("Group memberships"), "group", "tenancy", "groupmembership"),
    ]),
    (_("People"), [
        (_("Users"), "person", "accounts", "user"),
        (_("Identities"), "fingerprint", "accounts", "useridentity"),
        (_("Sessions"), "devices", "auth_sessions", "session"),
        (_("OAuth states"), "sync_lock", "auth_sessions", "oauthstate"),
    ]),
    (_("Organizations"), [
        (_("Organizations"), "domain", "orgs", "organization"),
        (_("Domains"), "language", "orgs", "organizationdomain"),
        (_("Console sessions"), "terminal", "auth_sessions", "consolesession"),
    ]),
    (_("Evidence"), [(_("Audit log"), "history", "audit", "auditlog")]),
    (_("Site"), [
        (_("Operators"), "shield_person", "accounts", "operator"),
        (_("Permission groups"), "lock_person", "auth", "group"),
    ]),
]  # fmt: skip


def menu(request: HttpRequest) -> list[dict]:
    """The lists that an operator may see, by topic."""
    groups = [{"title": title, "items": _items(request, lists)} for title, lists in MENU]
    index = reverse("admin:index")
    start = {"title": _("Start"), "icon": "home", "link": index, "active": request.path == index}
    return [{"items": [start]}, *(group for group in groups if group["items"])]


def _items(request: HttpRequest, lists: list[tuple]) -> list[dict]:
    items = []
    for title, icon, app, model in lists:
        model_admin = admin.site.get_model_admin(apps.get_model(app, model))
        if model_admin.has_view_permission(request):
            link = reverse(f"admin:{app}_{model}_changelist")
            items.append({"title": title, "icon": icon, "link": link, "active": request.path.startswith(link)})
    return items
