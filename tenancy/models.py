"""Tenants, who belongs to them, the codes that let people in, and the groups inside a tenant."""

from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import BTreeIndex
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Coalesce, Now
from django.db.models.lookups import Exact
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from keyhub.foreign_keys import DatabaseForeignKey, OnDelete
from keyhub.statements import rows_of
from tenancy.groups import GroupQuerySet
from tenancy.join_codes import TenantJoinCodeQuerySet
from tenancy.memberships import TenantMembershipQuerySet
from tenancy.tenants import TenantQuerySet

DEFAULT_ORGANIZATION_ID = "ORG-DEFAULT-001"
DEEPEST_GROUP = 31


class Tenant(models.Model):
    """A team, department, project or laboratory of an organization."""

    class Type(models.TextChoices):
        TEAM = "team", _("Team")
        DEPARTMENT = "department", _("Department")
        PROJECT = "project", _("Project")
        LABORATORY = "laboratory", _("Laboratory")

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    # tenants_organization_id_fkey refers to organizations; orgs, the app above, adds it.
    organization_id = models.TextField(_("organization id"), db_default=DEFAULT_ORGANIZATION_ID)
    name = models.TextField(_("name"))
    slug = models.TextField(_("slug"))
    description = models.TextField(_("description"), null=True, blank=True)
    tenant_type = models.TextField(_("tenant type"), choices=Type, db_default=Type.TEAM)
    is_default = models.BooleanField(_("is default"), db_default=False)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated at"), db_default=Now(), editable=False)

    objects = TenantQuerySet.as_manager()

    class Meta:
        db_table = "tenants"
        verbose_name = _("tenant")
        verbose_name_plural = _("tenants")
        constraints = [
            models.UniqueConstraint(
                fields=["organization_id", "slug"],
                name="tenants_organization_id_slug_key",
                violation_error_message=_("The organization already has a tenant with this slug."),
            ),
            models.UniqueConstraint(
                fields=["organization_id"],
                condition=Q(is_default=True),
                name="idx_tenants_is_default",
                violation_error_message=_("The organization already has a default tenant."),
            ),
            models.CheckConstraint(
                condition=Q(tenant_type__in=["team", "department", "project", "laboratory"]),
                name="check_tenant_type",
            ),
            models.CheckConstraint(
                condition=Q(slug__regex=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
                name="check_tenant_slug",
                violation_error_message=_(
                    "A slug is 1 to 63 letters a to z, digits and hyphens, and neither begins nor ends with a hyphen."
                ),
            ),
            models.CheckConstraint(
                condition=Q(name__regex=r"\S"),
                name="check_tenant_name",
                violation_error_message=_("The name is blank."),
            ),
        ]
        indexes = [BTreeIndex(fields=["slug"], name="idx_tenants_slug")]

    def __str__(self) -> str:
        return self.name


class TenantMembership(models.Model):
    """A user's place in a tenant. Leaving sets `left_at`; rejoining clears it on the same row.

    A tenant that has an admin keeps one: triggers of sql/0008_tenant_memberships_keep_an_admin.up.sql.
    """

    class Role(models.TextChoices):
        ADMIN = "admin", _("Admin")
        MEMBER = "member", _("Member")
        VIEWER = "viewer", _("Viewer")

    class LeftReason(models.TextChoices):
        LEFT = "left", _("Left")
        REMOVED = "removed", _("Removed")
        CODE_REVOKED = "code_revoked", _("Code Revoked")

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    tenant = DatabaseForeignKey(
        Tenant, verbose_name=_("tenant"), on_delete=OnDelete.CASCADE, related_name="memberships"
    )
    user = DatabaseForeignKey(User, verbose_name=_("user"), on_delete=OnDelete.CASCADE, related_name="memberships")
    role = models.TextField(_("role"), choices=Role, db_default=Role.MEMBER)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    left_at = models.DateTimeField(_("left at"), null=True, blank=True)
    updated_at = models.DateTimeField(_("updated at"), db_default=Now(), editable=False)
    left_reason = models.TextField(_("left reason"), choices=LeftReason, null=True, blank=True, editable=False)

    objects = TenantMembershipQuerySet.as_manager()

    class Meta:
        db_table = "tenant_memberships"
        verbose_name = _("tenant membership")
        verbose_name_plural = _("tenant memberships")
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "user"],
                name="tenant_memberships_tenant_id_user_id_key",
                violation_error_message=_("The user already has a membership here, perhaps one that was left."),
            ),
            # What refers to a membership together with its user refers to this.
            models.UniqueConstraint(fields=["id", "user"], name="tenant_memberships_id_user_id_key"),
            models.CheckConstraint(condition=Q(role__in=["admin", "member", "viewer"]), name="check_role"),
            models.CheckConstraint(
                condition=Q(left_reason__isnull=True)
                | Q(left_at__isnull=False, left_reason__in=["left", "removed", "code_revoked"]),
                name="check_left_reason",
            ),
        ]
        indexes = [BTreeIndex(fields=["user"], name="idx_tenant_memberships_user_id")]

    def __str__(self) -> str:
        return gettext("%(user)s in %(tenant)s") % {"user": self.user, "tenant": self.tenant}

    def leave(self) -> None:
        """The member goes. Raises MembershipError: LastAdminError, NotAMemberError."""
        self._take_over(rows_of(self).leave(self))

    def remove(self) -> None:
        """Expel the member, whom no join code lets in again. Raises MembershipError as leave() does."""
        self._take_over(rows_of(self).remove(self))

    def change_role(self, role: str) -> None:
        """Raises ValueError where there is no such role, and MembershipError as leave() does."""
        self._take_over(rows_of(self).change_role(self, role))

    def _take_over(self, row: "TenantMembership") -> None:
        for field in ("role", "left_at", "left_reason", "updated_at"):
            setattr(self, field, getattr(row, field))


NORMALIZED_CODE = Func(F("code"), function="normalize_join_code", output_field=models.TextField())


class TenantJoinCode(models.Model):
    """A code that makes whoever redeems it a member of the tenant."""

    class Role(models.TextChoices):
        MEMBER = "member", _("Member")
        VIEWER = "viewer", _("Viewer")

    class State(models.TextChoices):
        ACTIVE = "active", _("Active")
        REVOKED = "revoked", _("Revoked")
        EXPIRED = "expired", _("Expired")
        EXHAUSTED = "exhausted", _("Exhausted")

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    tenant = DatabaseForeignKey(Tenant, verbose_name=_("tenant"), on_delete=OnDelete.CASCADE, related_name="join_codes")
    code = models.TextField(_("code"))
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True, help_text=_("Empty: never."))
    max_uses = models.IntegerField(_("max uses"), db_default=0, help_text=_("0: no limit."))
    used_count = models.IntegerField(_("used count"), db_default=0, editable=False)
    role = models.TextField(_("role"), choices=Role, db_default=Role.MEMBER)
    created_by = DatabaseForeignKey(
        User,
        verbose_name=_("created by"),
        on_delete=OnDelete.SET_NULL,
        null=True,
        blank=True,
        db_column="created_by",
        related_name="issued_join_codes",
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True, editable=False)

    objects = TenantJoinCodeQuerySet.as_manager()

    class Meta:
        db_table = "tenant_join_codes"
        verbose_name = _("tenant join code")
        verbose_name_plural = _("tenant join codes")
        constraints = [
            models.UniqueConstraint(
                NORMALIZED_CODE,
                name="idx_tenant_join_codes_code",
                violation_error_message=_("There is a code already that reads the same."),
            ),
            models.CheckConstraint(
                condition=~Q(Exact(NORMALIZED_CODE, Value(""))),
                name="check_join_code",
                violation_error_message=_("The code has neither letters nor digits."),
            ),
            models.CheckConstraint(condition=Q(max_uses__gte=0), name="check_max_uses"),
            models.CheckConstraint(condition=Q(used_count__gte=0), name="check_used_count"),
            models.CheckConstraint(condition=Q(role__in=["member", "viewer"]), name="check_join_role"),
            models.CheckConstraint(
                condition=Q(max_uses=0) | Q(used_count__lte=F("max_uses")),
                name="check_used_count_within_max_uses",
                violation_error_message=_("The code has been used more often than this limit allows."),
            ),
        ]
        indexes = [
            BTreeIndex(fields=["tenant"], name="idx_tenant_join_codes_tenant_id"),
            BTreeIndex(fields=["expires_at"], name="idx_tenant_join_codes_expires_at"),
            BTreeIndex(
                fields=["tenant", "expires_at"],
                condition=Q(revoked_at__isnull=True),
                name="idx_tenant_join_codes_active",
            ),
            BTreeIndex(fields=["created_by"], name="idx_tenant_join_codes_created_by"),
            BTreeIndex(F("created_at").desc(), F("id").desc(), name="idx_tenant_join_codes_created_at"),
        ]
        permissions = [("revoke_tenantjoincode", gettext_noop("Can revoke tenant join codes"))]

    def __str__(self) -> str:
        return self.code

    def revoke(self, *, cascade: bool = False) -> int:
        """Let nobody in any more; with `cascade`, take back the memberships that the code gave last.

        Returns how many were taken back. Raises LastAdminError where a tenant would be left without an admin.
        """
        taken = rows_of(self).filter(pk=self.pk).revoke(cascade=cascade)
        self.refresh_from_db(fields=["revoked_at"])
        return taken


class TenantJoinCodeRedemption(models.Model):
    """Who became a member by which code: what a leaked code gave, so that it can be taken back."""

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    join_code = DatabaseForeignKey(
        TenantJoinCode, verbose_name=_("join code"), on_delete=OnDelete.CASCADE, related_name="redemptions"
    )
    # (membership_id, user_id) REFERENCES tenant_memberships (id, user_id) ON DELETE CASCADE:
    # sql/0010_tenant_join_codes_revoked.up.sql.
    membership = models.ForeignKey(
        TenantMembership,
        verbose_name=_("membership"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="redemptions",
    )
    user = models.ForeignKey(
        User,
        verbose_name=_("user"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="redemptions",
    )
    redeemed_at = models.DateTimeField(_("redeemed at"), db_default=Now(), editable=False)
    ended_at = models.DateTimeField(
        _("ended at"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("When the user came back, after leaving what the code gave."),
    )

    class Meta:
        db_table = "tenant_join_code_redemptions"
        verbose_name = _("tenant join code redemption")
        verbose_name_plural = _("tenant join code redemptions")
        indexes = [
            BTreeIndex(fields=["join_code"], name="idx_redemptions_join_code_id"),
            BTreeIndex(fields=["membership", "user"], name="idx_redemptions_membership_id"),
        ]

    def __str__(self) -> str:
        return gettext("%(user)s by %(code)s") % {"user": self.user, "code": self.join_code}


class Group(models.Model):
    """A group of a tenant's people; its parent, if any, is a group of the same tenant.

    A child's `parent_depth` is its parent's `depth` by foreign key, and `depth` is `parent_depth` + 1, so that no
    depths satisfy a cycle: groups cannot form one, in any isolation level. Writers name the parent alone; a trigger
    fills in `parent_depth`.
    """

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    tenant = DatabaseForeignKey(Tenant, verbose_name=_("tenant"), on_delete=OnDelete.CASCADE, related_name="groups")
    name = models.TextField(_("name"))
    description = models.TextField(_("description"), null=True, blank=True)
    # (tenant_id, parent_group_id, parent_depth) REFERENCES groups (tenant_id, id, depth)
    # ON UPDATE CASCADE ON DELETE CASCADE: sql/0003_groups.up.sql.
    parent_group = models.ForeignKey(
        "self",
        verbose_name=_("parent group"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="child_groups",
    )
    parent_depth = models.IntegerField(_("parent depth"), null=True, editable=False)
    depth = models.GeneratedField(
        verbose_name=_("depth"),
        expression=Coalesce(F("parent_depth") + 1, 0),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated at"), db_default=Now(), editable=False)

    objects = GroupQuerySet.as_manager()

    class Meta:
        db_table = "groups"
        verbose_name = _("group")
        verbose_name_plural = _("groups")
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id", "depth"], name="groups_tenant_id_id_depth_key"),
            models.CheckConstraint(
                condition=Q(parent_group__isnull=True, parent_depth__isnull=True)
                | Q(parent_group__isnull=False, parent_depth__isnull=False),
                name="check_parent_depth",
            ),
            models.CheckConstraint(
                condition=Q(parent_depth__gte=0, parent_depth__lt=DEEPEST_GROUP) | Q(parent_depth__isnull=True),
                name="check_group_depth",
                violation_error_message=_("Groups are nested too deeply."),
            ),
            models.CheckConstraint(
                condition=Q(name__regex=r"\S"),
                name="check_group_name",
                violation_error_message=_("The name is blank."),
            ),
        ]
        indexes = [BTreeIndex(fields=["tenant", "parent_group", "parent_depth"], name="idx_groups_parent_group_id")]

    def __str__(self) -> str:
        return self.name

    def move(self, parent: "Group | None") -> None:
        """Put the group, with what is below it, under another one or, with None, at the top. Raises GroupError."""
        rows_of(self).move(self, parent)
        self.refresh_from_db()

    def descendants(self) -> models.QuerySet:
        """The groups below this one, at any depth."""
        return rows_of(self).descendants(self)


class GroupMembership(models.Model):
    """A user's place in a group: a member of the group's tenant, whose id a trigger fills in."""

    class Role(models.TextChoices):
        ADMIN = "admin", _("Admin")
        MEMBER = "member", _("Member")

    id = models.UUIDField(_("id"), primary_key=True, db_default=RandomUUID(), editable=False)
    group = DatabaseForeignKey(Group, verbose_name=_("group"), on_delete=OnDelete.CASCADE, related_name="memberships")
    user = DatabaseForeignKey(
        User, verbose_name=_("user"), on_delete=OnDelete.CASCADE, related_name="group_memberships"
    )
    role = models.TextField(_("role"), choices=Role, db_default=Role.MEMBER)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    # (tenant_id, user_id) REFERENCES tenant_memberships (tenant_id, user_id) ON DELETE CASCADE:
    # sql/0017_group_memberships_tenant_key_not_valid.up.sql.
    tenant_id = models.UUIDField(_("tenant id"), null=True, editable=False)

    class Meta:
        db_table = "group_memberships"
        verbose_name = _("group membership")
        verbose_name_plural = _("group memberships")
        constraints = [
            models.UniqueConstraint(
                fields=["group", "user"],
                name="group_memberships_group_id_user_id_key",
                violation_error_message=_("The user is already in this group."),
            ),
            models.CheckConstraint(condition=Q(role__in=["admin", "member"]), name="check_group_role"),
            # Not asked by the admin's forms: the trigger has not filled it in yet.
            models.CheckConstraint(condition=Q(tenant_id__isnull=False), name="check_group_membership_tenant"),
        ]
        indexes = [
            BTreeIndex(fields=["user"], name="idx_group_memberships_user_id"),
            BTreeIndex(fields=["tenant_id", "user"], name="idx_group_memberships_tenant_id"),
        ]

    def __str__(self) -> str:
        return gettext("%(user)s in %(group)s") % {"user": self.user, "group": self.group}
