"""Organizations and their domains as operators see and change them."""

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.urls import reverse

from auth_sessions.models import ConsoleSession
from orgs.models import Organization, OrganizationDomain
from tenancy.models import DEFAULT_ORGANIZATION_ID, Tenant
from tests.factories import (
    ConsoleSessionFactory,
    OperatorFactory,
    OrganizationDomainFactory,
    OrganizationFactory,
    TenantFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.once]

NO_DOMAINS = {"domains-TOTAL_FORMS": "0", "domains-INITIAL_FORMS": "0"}
ROBOTS = {"name": "Robots Inc.", "slug": "robots", "settings": "", "status": "active"}


@pytest.fixture
def admin(client):
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def url(page: str, *arguments) -> str:
    return reverse(f"admin:orgs_{page}", args=arguments)


def errors(response) -> dict:
    return response.context["adminform"].form.errors


def test_an_organization_is_added_with_a_verified_domain(admin):
    response = admin.post(
        url("organization_add"),
        {
            "id": "ORG-ROBOTS",
            **ROBOTS,
            "domains-TOTAL_FORMS": "2",
            "domains-INITIAL_FORMS": "0",
            "domains-0-domain": "robots.example",
            "domains-0-is_verified": "on",
            "domains-1-domain": "robots.test",
        },
    )
    assert response.url == url("organization_changelist")
    organization = Organization.objects.get(pk="ORG-ROBOTS")
    assert (organization.name, organization.settings, organization.status) == ("Robots Inc.", None, "active")
    assert [
        (domain.domain, domain.is_verified, domain.verified_at is not None)
        for domain in organization.domains.order_by("domain")
    ] == [("robots.example", True, True), ("robots.test", False, False)]


def test_the_form_of_a_new_organization_starts_with_the_defaults_of_the_database(admin):
    response = admin.get(url("organization_add"))
    form = response.context["adminform"].form
    assert form["status"].value() == "active"
    assert form.fields["status"].choices == [
        ("active", "Active"),
        ("suspended", "Suspended"),
        ("archived", "Archived"),
    ]
    assert [form.fields[name].widget.input_type for name in ("id", "name", "slug")] == ["text"] * 3
    assert "DatabaseDefault" not in response.text


def test_the_id_of_an_organization_is_settled_when_it_is_made(admin):
    page = url("organization_change", DEFAULT_ORGANIZATION_ID)
    assert "id" not in admin.get(page).context["adminform"].form.fields
    settings = json.dumps({"theme": "dark"})
    admin.post(page, {"id": "ORG-OTHER", **ROBOTS, "settings": settings, **NO_DOMAINS})
    organization = Organization.objects.get()
    assert (organization.pk, organization.name, organization.settings) == (
        DEFAULT_ORGANIZATION_ID,
        "Robots Inc.",
        {"theme": "dark"},
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": DEFAULT_ORGANIZATION_ID}, {"id": ["Organization with this Id already exists."]}),
        ({"slug": "default"}, {"slug": ["Organization with this Slug already exists."]}),
        ({"settings": "[1, 2]"}, {"__all__": ["Settings are a JSON object."]}),
        ({"settings": "{"}, {"settings": ["Enter a valid JSON."]}),
        ({"settings": '{"a": NaN}'}, {"settings": ["A number or a character here cannot be stored."]}),
        ({"settings": '{"a": 1e400}'}, {"settings": ["A number or a character here cannot be stored."]}),
        ({"settings": r'{"a": "\u0000"}'}, {"settings": ["A number or a character here cannot be stored."]}),
        ({"settings": r'{"a": "\\\u0000"}'}, {"settings": ["A number or a character here cannot be stored."]}),
        ({"settings": r'{"a": "\ud800"}'}, {"settings": ["A number or a character here cannot be stored."]}),
        ({"id": "  "}, {"id": ["This field is required."]}),
    ],
)
def test_what_the_database_would_refuse_is_an_error_of_the_form(admin, change, expected):
    response = admin.post(url("organization_add"), {"id": "ORG-ROBOTS", **ROBOTS, **change, **NO_DOMAINS})
    assert errors(response) == expected


def test_what_only_looks_like_a_nul_is_stored(admin):
    text = r'{"a": "\\u0000 \ud83d\ude00"}'
    response = admin.post(url("organization_add"), {"id": "ORG-ROBOTS", **ROBOTS, "settings": text, **NO_DOMAINS})
    assert response.url == url("organization_changelist")
    assert Organization.objects.get(pk="ORG-ROBOTS").settings == {"a": r"\u0000 😀"}


def test_a_verified_domain_belongs_to_one_organization(admin):
    OrganizationDomainFactory(domain="robots.example", is_verified=True, verified_at="2026-01-01T00:00Z")
    data = {"organization": DEFAULT_ORGANIZATION_ID, "domain": "Robots.Example"}
    response = admin.post(url("organizationdomain_add"), {**data, "is_verified": "on"})
    assert errors(response) == {"__all__": ["The domain is verified for another organization."]}
    assert admin.post(url("organizationdomain_add"), data).url == url("organizationdomain_changelist")
    claimed = OrganizationDomain.objects.get(organization=DEFAULT_ORGANIZATION_ID)
    assert (claimed.is_verified, claimed.verified_at) == (False, None)


def test_verifying_a_domain_keeps_the_time_and_taking_it_back_forgets_it(admin):
    domain = OrganizationDomainFactory()
    page = url("organizationdomain_change", domain.pk)
    times = []
    for verified in ({"is_verified": "on"}, {"is_verified": "on"}, {}):
        assert admin.post(page, {"domain": domain.domain, **verified}).url == url("organizationdomain_changelist")
        domain.refresh_from_db()
        times.append(domain.verified_at)
    assert times[0] is not None
    assert times == [times[0], times[0], None]


def test_the_list_counts_tenants_and_leads_to_them(admin):
    organization = OrganizationFactory()
    TenantFactory.create_batch(3, organization_id=organization.pk)
    response = admin.get(url("organization_changelist"), {"q": organization.pk})
    tenants = f"{reverse('admin:tenancy_tenant_changelist')}?organization_id={organization.pk}"
    assert f'<a href="{tenants}">3</a>' in response.text
    assert len(admin.get(tenants).context["cl"].result_list) == 3


def test_an_organization_with_tenants_is_not_deleted(admin):
    organization = OrganizationFactory()
    TenantFactory.create_batch(2, organization_id=organization.pk)
    page = url("organization_delete", organization.pk)
    sentence = "Tenants: 2. Delete or move them first: the database deletes nothing that is still referred to."
    response = admin.get(page)
    assert (response.context["title"], response.context["protected"]) == ("Cannot delete organization", [sentence])
    assert sentence in response.text
    response = admin.post(page, {"post": "yes"})
    assert (response.status_code, response.context["protected"]) == (200, [sentence])
    selected = {"action": "delete_selected", "_selected_action": [organization.pk], "post": "yes"}
    assert admin.post(url("organization_changelist"), selected).context["protected"] == [sentence]
    assert Organization.objects.filter(pk=organization.pk).exists()


def test_an_organization_without_tenants_takes_domains_and_console_sessions_along(admin):
    organization = OrganizationFactory()
    OrganizationDomainFactory.create_batch(2, organization=organization)
    ConsoleSessionFactory(organization_id=organization.pk)
    page = url("organization_delete", organization.pk)
    assert dict(admin.get(page).context["model_count"]) == {
        "organizations": "1",
        "organization domains": "2",
        "console sessions": "1",
    }
    assert admin.post(page, {"post": "yes"}).url == url("organization_changelist")
    assert (OrganizationDomain.objects.count(), ConsoleSession.objects.count()) == (0, 0)


@pytest.mark.parametrize("way", ["one", "selected"])
def test_losing_a_race_against_a_new_tenant_is_a_message_not_a_crash(admin, monkeypatch, way):
    """The tenant comes between the look and the DELETE."""
    organization = OrganizationFactory()
    delete = QuerySet.delete

    def delete_after_a_tenant_came(self):
        TenantFactory(organization_id=organization.pk)
        return delete(self)

    monkeypatch.setattr(QuerySet, "delete", delete_after_a_tenant_came)
    monkeypatch.setattr(Organization, "delete", lambda self: Organization.objects.filter(pk=self.pk).delete())
    page = url("organization_delete", organization.pk) if way == "one" else url("organization_changelist")
    selected = {"action": "delete_selected", "_selected_action": [organization.pk]}
    response = admin.post(page, {"post": "yes", **(selected if way == "selected" else {})}, follow=True)
    assert response.redirect_chain == [(page, 302)]
    assert [str(message) for message in response.context["messages"]] == [
        "Nothing was changed: Constraint “tenants_organization_id_fkey” is violated. "
        "Somebody may have changed the same data a moment ago."
    ]
    assert not Tenant.objects.filter(organization_id=organization.pk).exists()
    assert not LogEntry.objects.exists()
