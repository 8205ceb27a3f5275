"""Groups form trees inside their tenant, whatever writes them and in whatever isolation level."""

import threading

import psycopg
import pytest
from django.db import IntegrityError, transaction
from psycopg import IsolationLevel, errors

from tenancy.groups import CycleError, ForeignParentError, TooDeepError
from tenancy.models import DEEPEST_GROUP, Group
from tests.factories import GroupFactory, TenantFactory


@pytest.mark.django_db
def test_a_child_is_one_deeper_than_its_parent():
    root = GroupFactory()
    child = GroupFactory(tenant=root.tenant, parent_group=root)
    child.refresh_from_db()
    assert (root.depth, child.depth, child.parent_depth) == (0, 1, 0)


@pytest.mark.django_db
def test_moving_a_group_moves_what_is_below_it():
    root = GroupFactory()
    top = GroupFactory(tenant=root.tenant)
    child = GroupFactory(tenant=root.tenant, parent_group=top)
    grandchild = GroupFactory(tenant=root.tenant, parent_group=child)
    Group.objects.filter(pk=top.pk).update(parent_group=root)
    depths = [Group.objects.get(pk=group.pk).depth for group in (root, top, child, grandchild)]
    assert depths == [0, 1, 2, 3]
    Group.objects.filter(pk=child.pk).update(parent_group=None)
    assert [Group.objects.get(pk=group.pk).depth for group in (child, grandchild)] == [0, 1]


@pytest.mark.django_db
def test_a_stale_instance_can_still_be_saved():
    """Its parent_depth is of the past; the trigger writes today's."""
    root = GroupFactory()
    top = GroupFactory(tenant=root.tenant)
    child = GroupFactory(tenant=root.tenant, parent_group=top)
    stale = Group.objects.get(pk=child.pk)
    Group.objects.filter(pk=top.pk).update(parent_group=root)
    stale.name = "Renamed"
    stale.save()
    stale.refresh_from_db()
    assert (stale.name, stale.depth) == ("Renamed", 2)


def refused(*constraints: str, pk: object, **changes) -> None:
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        Group.objects.filter(pk=pk).update(**changes)
    assert refusal.value.__cause__.diag.constraint_name in constraints


@pytest.mark.django_db
def test_a_group_is_not_its_own_parent():
    group = GroupFactory()
    refused("check_group_depth", pk=group.pk, parent_group=group)


@pytest.mark.django_db
@pytest.mark.parametrize("length", [2, 3, 10])
def test_a_cycle_is_refused(length):
    groups = [GroupFactory()]
    for _ in range(length - 1):
        groups.append(GroupFactory(tenant=groups[0].tenant, parent_group=groups[-1]))
    # Which of the two notices first depends on the order in which PostgreSQL runs the key's own triggers.
    refused(
        "check_group_depth",
        "groups_tenant_id_parent_group_id_parent_depth_fkey",
        pk=groups[0].pk,
        parent_group=groups[-1],
    )
    assert Group.objects.get(pk=groups[0].pk).parent_group is None


@pytest.mark.django_db
def test_the_parent_is_of_the_same_tenant():
    group, foreign = GroupFactory(), GroupFactory()
    refused("groups_tenant_id_parent_group_id_parent_depth_fkey", pk=group.pk, parent_group=foreign)


@pytest.mark.django_db
def test_a_group_stays_in_its_tenant():
    group = GroupFactory()
    refused("groups_stay", pk=group.pk, tenant=TenantFactory())


@pytest.mark.django_db
def test_the_tree_has_a_deepest_level():
    deepest = GroupFactory()
    for _ in range(DEEPEST_GROUP):
        deepest = GroupFactory(tenant=deepest.tenant, parent_group=deepest)
    deepest.refresh_from_db()
    assert deepest.depth == DEEPEST_GROUP
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        GroupFactory(tenant=deepest.tenant, parent_group=deepest)
    assert refusal.value.__cause__.diag.constraint_name == "check_group_depth"


@pytest.mark.django_db
def test_a_depth_is_what_the_tree_says_not_what_a_writer_says():
    root = GroupFactory()
    child = GroupFactory(tenant=root.tenant, parent_group=root)
    Group.objects.filter(pk=child.pk).update(parent_depth=7)
    Group.objects.filter(pk=root.pk).update(parent_depth=7)
    assert [Group.objects.get(pk=group.pk).parent_depth for group in (root, child)] == [None, 0]


@pytest.mark.django_db
def test_a_parent_without_a_depth_is_refused_even_without_the_trigger(django_db_blocker):
    """check_parent_depth closes the gap that a NULL opens in a key of several columns (MATCH SIMPLE)."""
    from django.db import connection

    root = GroupFactory()
    child = GroupFactory(tenant=root.tenant, parent_group=root)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE groups DISABLE TRIGGER set_groups_parent_depth")
    refused("check_parent_depth", pk=child.pk, parent_depth=None)


@pytest.mark.parametrize("isolation", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ])
def test_two_moves_at_once_make_no_cycle(server, migrated_database, isolation):
    """A under B and B under A, from two clients that both began before either committed; fifty rounds."""

    def connect() -> psycopg.Connection:
        return psycopg.connect(host=str(server.socket_directory), dbname=migrated_database, user="keyhub")

    def move(group, parent, barrier) -> None:
        with connect() as client:
            client.isolation_level = isolation
            try:
                with client.transaction():
                    client.execute("SELECT count(*) FROM groups")  # the snapshot of REPEATABLE READ
                    barrier.wait(timeout=30)
                    client.execute("UPDATE groups SET parent_group_id = %s WHERE id = %s", [parent, group])
                outcomes.append("moved")
            except (errors.CheckViolation, errors.ForeignKeyViolation) as refusal:
                outcomes.append(refusal.diag.constraint_name)
            except (errors.DeadlockDetected, errors.SerializationFailure) as refusal:
                outcomes.append(type(refusal).__name__)

    outcomes: list[str] = []
    with connect() as client:
        client.autocommit = True
        (tenant,) = client.execute("SELECT id FROM tenants").fetchone()
        for _ in range(50):
            client.execute("DELETE FROM groups")
            a, b = (
                client.execute(
                    "INSERT INTO groups (tenant_id, name) VALUES (%s, %s) RETURNING id", [tenant, name]
                ).fetchone()[0]
                for name in "ab"
            )
            barrier = threading.Barrier(2)
            threads = [threading.Thread(target=move, args=pair) for pair in ((a, b, barrier), (b, a, barrier))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            roots = client.execute("SELECT count(*) FROM groups WHERE parent_group_id IS NULL").fetchone()[0]
            assert roots >= 1, "both moves were admitted: a and b are each other's parent"
    assert len(outcomes) == 100
    assert "moved" in outcomes


# Moving, and what is below


@pytest.mark.django_db
def test_descendants_at_any_depth():
    root = GroupFactory()
    child = GroupFactory(tenant=root.tenant, parent_group=root)
    below = GroupFactory(tenant=root.tenant, parent_group=child)
    GroupFactory(tenant=root.tenant)
    assert set(root.descendants()) == {child, below}
    assert set(Group.objects.filter(name=below.name).descendants(root)) == {below}
    assert not below.descendants().exists()


@pytest.mark.django_db
def test_a_group_moves_with_what_is_below_it_and_to_the_top():
    root = GroupFactory()
    top = GroupFactory(tenant=root.tenant)
    child = GroupFactory(tenant=root.tenant, parent_group=top)
    top.move(root)
    assert (top.parent_group, top.depth) == (root, 1)
    child.refresh_from_db()
    assert child.depth == 2
    child.move(None)
    assert (child.parent_group, child.depth) == (None, 0)


@pytest.mark.django_db
def test_where_a_group_cannot_go():
    root = GroupFactory(name="Root")
    below = GroupFactory(name="Below", tenant=root.tenant, parent_group=root)
    foreign = GroupFactory(name="Foreign")
    deepest = root
    for _ in range(DEEPEST_GROUP):
        deepest = GroupFactory(name="Deepest", tenant=root.tenant, parent_group=deepest)
    other = GroupFactory(name="Other", tenant=root.tenant)
    for group, parent, error, sentence in [
        (root, below, CycleError, "Root cannot go below Below, which is part of it. Move Below away first."),
        (root, root, CycleError, "Root cannot go below Root, which is part of it. Move Root away first."),
        (
            root,
            foreign,
            ForeignParentError,
            "Foreign is no group of the same tenant. Choose one of Root's own tenant.",
        ),
        (other, deepest, TooDeepError, "Other and what is below it would be nested too deeply under Deepest."),
    ]:
        with pytest.raises(error) as refusal:
            group.move(parent)
        assert str(refusal.value) == sentence
    assert Group.objects.get(pk=root.pk).parent_group is None
