from django.db import migrations, models
from django.db.models import F, Func, Q

from keyhub.migration_operations import RefuseRows, RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("auth_sessions", "0005_sessions_drop_membership_index"),
        ("tenancy", "0004_tenant_memberships_user_key"),
    ]
    operations = [
        RefuseRows(
            "sessions",
            "sessions_active_membership_id_user_id_fkey",
            where="active_membership_id IS NOT NULL AND NOT EXISTS (SELECT FROM tenant_memberships AS membership "
            "WHERE membership.id = active_membership_id AND membership.user_id = sessions.user_id)",
            columns="id, user_id, active_membership_id",
        ),
        RefuseRows(
            "sessions",
            "check_session_expires_at",
            where="NOT (isfinite(expires_at) AND expires_at > created_at)",
            columns="id, created_at, expires_at",
        ),
        RefuseRows(
            "sessions",
            "check_session_revoked",
            where="NOT (revoked OR (revoked_at IS NULL AND revoked_reason IS NULL))",
            columns="id, revoked_at, revoked_reason",
        ),
        RunSQLFile(
            "0006_sessions_rules_not_valid",
            state_operations=[
                migrations.AlterField(
                    "session",
                    "active_membership",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=models.DO_NOTHING,
                        related_name="sessions",
                        to="tenancy.tenantmembership",
                    ),
                ),
                migrations.AddConstraint(
                    "session",
                    models.CheckConstraint(
                        condition=Q(
                            Func(F("expires_at"), function="isfinite", output_field=models.BooleanField()),
                            expires_at__gt=F("created_at"),
                        ),
                        name="check_session_expires_at",
                        violation_error_message="A session ends after it began, and at a finite time.",
                    ),
                ),
                migrations.AddConstraint(
                    "session",
                    models.CheckConstraint(
                        condition=Q(revoked=True) | Q(revoked_at__isnull=True, revoked_reason__isnull=True),
                        name="check_session_revoked",
                        violation_error_message="Only a revoked session has a time and a reason of its revocation.",
                    ),
                ),
            ],
        ),
    ]
