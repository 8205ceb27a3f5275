"""The operators' site where organizations live in an Admin database of their own."""

import pytest
from django.db import connections
from django.urls import reverse

from audit.models import AuditLog
from auth_sessions.models import ConsoleSession
from keyhub.placement import ADMIN
from orgs.copies import await_copy
from orgs.models import Organization, OrganizationDomain
from tenancy.models import Tenant
from tests.factories import OperatorFactory, TenantFactory

pytestmark = pytest.mark.database

NO_DOMAINS = {"domains-TOTAL_FORMS": "0", "domains-INITIAL_FORMS": "0"}


@pytest.fixture(scope="module")
def split(make_two_databases):
    with make_two_databases() as databases:
        databases.split()
        yield databases


@pytest.fixture
def acme(split):
    acme, _ = Organization.objects.get_or_create(id="ORG-ACME", defaults={"name": "Acme", "slug": "acme"})
    await_copy(acme)
    return acme


@pytest.fixture
def operator(split, client):
    client.force_login(OperatorFactory(is_superuser=True))
    return client


def url(page: str, *arguments) -> str:
    return reverse(f"admin:{page}", args=arguments)


def messages(response) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def actions_on(organization_id: str) -> list[str]:
    return list(
        AuditLog.objects.filter(organization_id=organization_id).order_by("created_at").values_list("action", flat=True)
    )


def test_a_list_counts_the_tenants_of_the_other_database(operator, acme):
    for slug in ("one", "two"):
        TenantFactory(organization_id=acme.pk, slug=slug)
    response = operator.get(url("orgs_organization_changelist"), {"q": acme.pk})
    (row,) = response.context["cl"].result_list
    assert (row._state.db, row.tenants_counted) == (ADMIN, 2)
    assert operator.get(url("tenancy_tenant_changelist"), {"organization_id": acme.pk}).status_code == 200
    Tenant.objects.filter(organization_id=acme.pk).delete()


def test_an_organization_is_added_changed_and_deleted_with_its_evidence(operator):
    form = {"id": "ORG-NEW", "name": "New", "slug": "new", "settings": "", "status": "active"}
    domain = {"domains-TOTAL_FORMS": "1", "domains-INITIAL_FORMS": "0", "domains-0-domain": "new.example"}
    response = operator.post(url("orgs_organization_add"), {**form, **domain}, follow=True)
    assert response.status_code == 200
    new = Organization.objects.get(id="ORG-NEW")
    assert new._state.db == ADMIN
    assert OrganizationDomain.objects.using(ADMIN).get().domain == "new.example"
    await_copy(new)
    operator.post(url("orgs_organization_change", new.pk), {**form, **NO_DOMAINS, "name": "Newer"}, follow=True)
    operator.post(url("orgs_organization_operation", new.pk, "suspend"), {"confirmed": "yes"}, follow=True)
    new.refresh_from_db()
    assert (new.name, new.status) == ("Newer", "suspended")
    operator.post(url("orgs_organization_delete", new.pk), {"post": "yes"}, follow=True)
    assert not Organization.objects.filter(pk=new.pk).exists()
    assert not Organization.objects.using("default").filter(pk=new.pk).exists()
    assert actions_on(new.pk) == [
        "organization.add", "organization_domain.add", "organization.change", "organization.suspend",
        "organization.delete",
    ]  # fmt: skip


def test_a_deletion_that_the_tenants_forbid_is_told_before_and_refused_behind(operator, acme):
    tenant = TenantFactory(organization_id=acme.pk)
    page = operator.get(url("orgs_organization_delete", acme.pk))
    assert "Tenants: 1. Delete or move them first" in page.content.decode()
    before = actions_on(acme.pk)
    response = operator.post(url("orgs_organization_delete", acme.pk), {"post": "yes"}, follow=True)
    assert Organization.objects.filter(pk=acme.pk).exists()
    assert Organization.objects.using("default").filter(pk=acme.pk).exists()
    assert actions_on(acme.pk) == before  # of what did not happen there is no evidence
    assert response.status_code == 200
    tenant.delete()


def test_what_moves_this_very_moment(operator, acme, split):
    """Between the look at where rows live and the write: nothing is changed, and the operator is told so."""
    with split.connect(ADMIN) as admin:
        admin.execute("ALTER TABLE organizations ENABLE TRIGGER refuse_writes_of_copy")
        try:
            form = {"name": "Acme II", "slug": "acme", "settings": "", "status": "active", **NO_DOMAINS}
            page = url("orgs_organization_change", acme.pk)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("keyhub.statements.MOVE_LIMIT_S", 0)
                response = operator.post(page, form, follow=True)
        finally:
            admin.execute("ALTER TABLE organizations DISABLE TRIGGER refuse_writes_of_copy")
    assert messages(response) == ["Nothing was changed: these rows have just moved to another database. Do it again."]
    assert Organization.objects.get(pk=acme.pk).name == "Acme"


def test_console_sessions_are_listed_and_revoked(operator, acme):
    session, _ = ConsoleSession.objects.start(acme.pk)
    page = operator.get(url("auth_sessions_consolesession_changelist"))
    assert [row.pk for row in page.context["cl"].result_list] == [session.pk]
    operator.post(url("auth_sessions_consolesession_operation", session.pk, "revoke"), {"confirmed": "yes"})
    assert not ConsoleSession.objects.exists()


def test_each_page_opens(operator, acme):
    for page in ("index", "orgs_organizationdomain_changelist", "orgs_organization_add", "tenancy_tenant_add",
                 "tenancy_tenant_changelist", "audit_auditlog_changelist"):  # fmt: skip
        assert operator.get(url(page)).status_code == 200
    assert operator.get(url("orgs_organization_change", acme.pk)).status_code == 200
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM console_sessions")
        assert cursor.fetchone() == (0,)
