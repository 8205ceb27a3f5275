"""Operations on the trees of groups. That they stay trees, of one tenant each, is a foreign key's rule."""

from asgiref.sync import sync_to_async
from django.db import IntegrityError, models
from django.db.models.expressions import RawSQL

from keyhub.statements import StatementQuerySet, one_statement

PARENT_KEY = "groups_tenant_id_parent_group_id_parent_depth_fkey"
DEPTH = "check_group_depth"

# Moves within a tenant wait for each other at the tenant's row: each locks groups that the other one's tree holds.
MOVE = """
    WITH tenant AS MATERIALIZED (SELECT FROM tenants WHERE id = %(tenant)s FOR NO KEY UPDATE)
    UPDATE groups SET parent_group_id = %(parent)s WHERE id = %(id)s AND (SELECT count(*) FROM tenant) >= 0
    RETURNING *
"""
DESCENDANTS = """
    WITH RECURSIVE below AS (
        SELECT id, tenant_id FROM groups WHERE tenant_id = %s AND parent_group_id = %s
        UNION ALL
        SELECT groups.id, groups.tenant_id FROM groups JOIN below
            ON groups.tenant_id = below.tenant_id AND groups.parent_group_id = below.id
    )
    SELECT id FROM below
"""


class GroupError(Exception):
    """A group stays where it is."""


class CycleError(GroupError):
    """A group would be below itself."""


class ForeignParentError(GroupError):
    """The parent is a group of another tenant, or is gone."""


class TooDeepError(GroupError):
    """A tree of groups would be too deep."""


class GoneGroupError(GroupError):
    """The group is not there any more."""


class GroupQuerySet(StatementQuerySet):
    def descendants(self, group: models.Model) -> "GroupQuerySet":
        """The groups below a group, at any depth; not itself."""
        return self.filter(pk__in=RawSQL(DESCENDANTS, [group.tenant_id, group.pk]))  # noqa: S611 a constant

    def move(self, group: models.Model, parent: models.Model | None) -> models.Model:
        """Put a group, with what is below it, under another one or, with None, at the top; return its row.

        Raises GroupError: CycleError, ForeignParentError, TooDeepError, GoneGroupError.
        """
        params = {"id": group.pk, "tenant": group.tenant_id, "parent": parent and parent.pk}
        try:
            with one_statement(self.writer):
                moved = self.statement(MOVE, params)
        except IntegrityError as error:
            constraint = error.__cause__.diag.constraint_name
            if constraint not in (PARENT_KEY, DEPTH):
                raise
            raise self._refusal(group, parent, constraint) from error
        if not moved:
            raise GoneGroupError(f"{group} is not there any more.")
        return moved[0]

    def _refusal(self, group: models.Model, parent: models.Model, constraint: str) -> GroupError:
        if parent.pk == group.pk or self.using(self.writer).descendants(group).filter(pk=parent.pk).exists():
            return CycleError(f"{group} cannot go below {parent}, which is part of it. Move {parent} away first.")
        if not self.using(self.writer).filter(pk=parent.pk, tenant_id=group.tenant_id).exists():
            return ForeignParentError(f"{parent} is no group of the same tenant. Choose one of {group}'s own tenant.")
        if constraint == DEPTH:
            return TooDeepError(f"{group} and what is below it would be nested too deeply under {parent}.")
        return GroupError(f"{parent} was moved meanwhile. Try again.")

    async def amove(self, group: models.Model, parent: models.Model | None) -> models.Model:
        return await sync_to_async(self.move)(group, parent)
