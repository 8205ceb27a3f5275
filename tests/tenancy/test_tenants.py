"""The tenants of an organization, and which of them is the default one."""

import pytest

from tenancy.models import DEFAULT_ORGANIZATION_ID, Tenant
from tests.factories import OrganizationFactory, TenantFactory

pytestmark = pytest.mark.django_db


def test_the_tenants_of_an_organization():
    organization = OrganizationFactory()
    own = TenantFactory(organization_id=organization.pk)
    TenantFactory()
    assert list(Tenant.objects.for_organization(organization)) == [own]
    assert list(Tenant.objects.for_organization(organization.pk)) == [own]


def test_one_default_gives_way_to_the_other():
    before = Tenant.objects.get(organization_id=DEFAULT_ORGANIZATION_ID, is_default=True)
    elsewhere = TenantFactory(organization_id=OrganizationFactory().pk, is_default=True)
    tenant = TenantFactory()
    for _ in range(2):
        Tenant.objects.set_default(tenant)
        assert tenant.is_default
        assert set(Tenant.objects.filter(is_default=True)) == {tenant, elsewhere}
    Tenant.objects.set_default(before)
    assert set(Tenant.objects.filter(is_default=True)) == {before, elsewhere}
