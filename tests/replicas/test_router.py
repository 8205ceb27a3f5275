"""Where queries go, and rows that came from a replica."""

import pytest
from django.db import router

from accounts.models import Operator, User
from keyhub import replicas
from keyhub.replicas.router import reading_from
from tenancy.models import Tenant, TenantMembership
from tests.factories import TenantMembershipFactory, UserFactory
from tests.replicas.conftest import paused

pytestmark = [pytest.mark.database, pytest.mark.once]


class AdminRouter:
    """Puts operators into a database of their own, as a router may that comes behind."""

    def db_for_read(self, model, **hints):
        return "admin" if model is Operator else None

    db_for_write = db_for_read


def test_inside_alone_a_replica_is_read(settings):
    settings.REPLICAS = {"replica1": {}}
    assert (router.db_for_read(User), router.db_for_write(User)) == ("default", "default")
    with reading_from("replica1"):
        assert (router.db_for_read(User), router.db_for_write(User)) == ("replica1", "default")
        assert User.objects.select_for_update().db == "default"
    with pytest.raises(ZeroDivisionError), reading_from("replica1"):
        1 / 0  # noqa: B018
    assert router.db_for_read(User) == "default"


def test_a_replica_has_what_is_written_to_the_default_database_alone(settings):
    settings.REPLICAS = {"replica1": {}}
    settings.DATABASE_ROUTERS = [*settings.DATABASE_ROUTERS, f"{__name__}.AdminRouter"]
    with reading_from("replica1"):
        assert (router.db_for_read(Operator), router.db_for_read(User)) == ("admin", "replica1")
    of_a_replica = User()
    of_a_replica._state.db = "replica1"
    assert router.db_for_read(Operator, instance=of_a_replica) == "admin"
    assert router.db_for_write(Operator, instance=of_a_replica) == "admin"


@pytest.mark.parametrize(
    ("one", "other", "is_allowed"),
    [
        ("replica1", "default", True),
        ("replica1", "replica2", True),
        ("default", "default", True),
        ("replica1", "admin", False),
        ("default", "admin", False),
        ("admin", "admin", True),
    ],
)
def test_relations(settings, one, other, is_allowed):
    settings.REPLICAS = {"replica1": {}, "replica2": {}}
    rows = User(), User()
    for row, alias in zip(rows, (one, other), strict=True):
        row._state.db = alias
    assert router.allow_relation(*rows) is is_allowed


def test_nothing_is_migrated_there(settings):
    settings.REPLICAS = {"replica1": {}}
    assert [router.allow_migrate(alias, "accounts") for alias in ("default", "replica1")] == [True, False]


def test_rows_of_a_replica_are_written_to_the_primary(one):
    user, membership = UserFactory(), TenantMembershipFactory()
    one.cluster.follow_all()
    user = replicas.read(lambda: User.objects.get(pk=user.pk))
    tenant = replicas.read(lambda: Tenant.objects.get(pk=membership.tenant_id))
    assert (user._state.db, tenant._state.db) == ("replica1", "replica1")
    one.read.clear()
    created = TenantMembership.objects.create(tenant=tenant, user=user)
    tenant.memberships.create(user=UserFactory())
    assert tenant.memberships.count() == 3
    created.delete()
    user.name = "Changed"
    user.save()
    tenant.memberships.all().delete()
    tenant.delete()
    assert {alias for alias, _statement in one.read} == {"default"}
    assert User.objects.get(pk=user.pk).name == "Changed"


def test_an_operation_on_a_row_of_a_replica_is_seen_at_once(one):
    user = UserFactory()
    one.cluster.follow_all()
    user = replicas.read(lambda: User.objects.get(pk=user.pk))
    with paused(one.cluster.kept[0]):
        user.disable()
        assert user.disabled_at is not None


def test_a_relation_of_a_replica_s_row_is_read_from_the_primary_afterwards(one):
    membership = TenantMembershipFactory()
    one.cluster.follow_all()
    membership = replicas.read(lambda: TenantMembership.objects.get(pk=membership.pk))
    one.read.clear()
    assert membership.tenant.memberships.get().user == membership.user
    assert {alias for alias, _statement in one.read} == {"default"}
