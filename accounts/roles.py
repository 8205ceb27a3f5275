"""What each role of an operator may do. It follows from this module, so that no rows have to be kept in step with it.

viewer   sees every table of KeyHub's, but not the operators
support  as viewer, and issues and revokes join codes, ends sessions, disables and enables users
admin    as support, and adds, changes and deletes rows of every table, anonymizes users, exports the audit log

Operators themselves are for superusers alone: whoever may set another's role could take it. OWASP ASVS 5.0, 8.2.1.
"""

from functools import cache

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.contrib.auth.backends import ModelBackend
from django.db.models import Exists, OuterRef
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import Operator

APPS = ("accounts", "tenancy", "auth_sessions", "audit", "orgs")
OF_SUPPORT = {
    "accounts.disable_user",
    "auth_sessions.revoke_consolesession",
    "auth_sessions.revoke_session",
    "tenancy.add_tenantjoincode",
    "tenancy.revoke_tenantjoincode",
}
OF_ADMIN = {"accounts.anonymize_user", "audit.export_auditlog"}


@cache
def permissions_of(role: str | None) -> frozenset[str]:
    """The permissions of a role as `app.codename`; none without a role, or of one that is not known."""
    viewer = _of_tables("view")
    support = viewer | OF_SUPPORT
    admin = support | OF_ADMIN | _of_tables("add", "change", "delete")
    return {Operator.Role.VIEWER: viewer, Operator.Role.SUPPORT: support, Operator.Role.ADMIN: admin}.get(
        role, frozenset()
    )


def _of_tables(*actions: str) -> frozenset[str]:
    options = [model._meta for label in APPS for model in apps.get_app_config(label).get_models()]
    return frozenset(
        f"{each.app_label}.{get_permission_codename(action, each)}"
        for each in options
        for action in actions
        if each.model is not Operator
    )


class RoleBackend(ModelBackend):
    """Django's, where a role counts as one more group. `with_perm()` asks the tables, and so knows nothing of roles."""

    def get_group_permissions(self, user_obj, obj=None):
        permissions = super().get_group_permissions(user_obj, obj)
        if not user_obj.is_active or user_obj.is_anonymous or user_obj.is_superuser or obj is not None:
            return permissions
        return permissions | permissions_of(user_obj.role)

    def get_user(self, user_id):
        """The operator of a session, and whether a second factor is asked of them, by one query."""
        device = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        operator = Operator.objects.annotate(has_second_factor=Exists(device)).filter(pk=user_id).first()
        return operator if operator and self.user_can_authenticate(operator) else None
