from django.db import migrations

from keyhub.migration_operations import RefuseRows, RunSQLFile


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("tenancy", "0010_tenant_join_codes_revoked")]
    operations = [
        RefuseRows("tenant_join_codes", "check_join_code", "normalize_join_code(code) = ''", columns="id, code"),
        RefuseRows(
            "tenant_join_codes",
            "idx_tenant_join_codes_code",
            "normalize_join_code(code) IN (SELECT normalize_join_code(code) FROM tenant_join_codes GROUP BY 1 "
            "HAVING count(*) > 1) ORDER BY normalize_join_code(code)",
            columns="id, code",
        ),
        RunSQLFile("0011_tenant_join_codes_build_indexes"),
    ]
