from django.contrib.postgres.indexes import BTreeIndex
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models import F, Func, Q, Value
from django.db.models.lookups import Exact

from keyhub.migration_operations import RunSQLFile

NORMALIZED = Func(F("code"), function="normalize_join_code", output_field=models.TextField())


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0011_tenant_join_codes_build_indexes")]
    operations = [
        RunSQLFile(
            "0012_tenant_join_codes_swap_indexes",
            state_operations=[
                migrations.RemoveConstraint("tenantjoincode", "idx_tenant_join_codes_code"),
                migrations.AddConstraint(
                    "tenantjoincode",
                    models.UniqueConstraint(
                        NORMALIZED,
                        name="idx_tenant_join_codes_code",
                        violation_error_message="There is a code already that reads the same.",
                    ),
                ),
                migrations.RemoveIndex("tenantjoincode", "idx_tenant_join_codes_active"),
                migrations.AddIndex(
                    "tenantjoincode",
                    BTreeIndex(
                        fields=["tenant", "expires_at"],
                        condition=Q(revoked_at__isnull=True),
                        name="idx_tenant_join_codes_active",
                    ),
                ),
            ],
        ),
        AddConstraintNotValid(
            "tenantjoincode",
            models.CheckConstraint(
                condition=~Q(Exact(NORMALIZED, Value(""))),
                name="check_join_code",
                violation_error_message="The code has neither letters nor digits.",
            ),
        ),
    ]
