"""What dbhealth --data checks of tenants, memberships, join codes and groups."""

from django.conf import settings

from keyhub.dbhealth import DataRule, Severity

DEMO_CODE = "KH-DEMO-001"


RULES = [
    DataRule(
        "tenancy.H001",
        "tenants",
        "they have members, and no admin among them: nobody can manage them",
        "SELECT * FROM {table} AS tenants WHERE EXISTS (SELECT FROM tenant_memberships "
        "WHERE tenant_id = tenants.id AND left_at IS NULL) AND NOT EXISTS (SELECT FROM tenant_memberships "
        "WHERE tenant_id = tenants.id AND left_at IS NULL AND role = 'admin')",
        others=("tenant_memberships",),
    ),
    DataRule(
        "tenancy.H002",
        "tenant_join_codes",
        "more people have used the code than it admits",
        "SELECT * FROM {table} AS codes WHERE max_uses > 0 AND used_count > max_uses",
    ),
    DataRule(
        "tenancy.H003",
        "groups",
        "their parent belongs to another tenant, or is not there",
        "SELECT groups.* FROM {table} AS groups WHERE parent_group_id IS NOT NULL AND NOT EXISTS (SELECT "
        "FROM groups AS parent WHERE parent.id = groups.parent_group_id AND parent.tenant_id = groups.tenant_id)",
    ),
    DataRule(
        "tenancy.H004",
        "groups",
        "they are their own ancestors",
        # A tree is at most 32 deep: who climbs further goes round.
        "SELECT groups.* FROM {table} AS groups WHERE EXISTS (WITH RECURSIVE above AS (SELECT groups.parent_group_id "
        "AS id, 1 AS steps UNION ALL SELECT parent.parent_group_id, steps + 1 FROM above JOIN groups AS parent "
        "ON parent.id = above.id WHERE steps < 33) SELECT FROM above WHERE above.id = groups.id)",
    ),
    DataRule(
        "tenancy.H005",
        "group_memberships",
        "the member of the group is no member of its tenant",
        "SELECT members.* FROM {table} AS members JOIN groups ON groups.id = members.group_id WHERE NOT EXISTS "
        "(SELECT FROM tenant_memberships WHERE tenant_id = groups.tenant_id AND user_id = members.user_id "
        "AND left_at IS NULL)",
        others=("groups", "tenant_memberships"),
    ),
    DataRule(
        "tenancy.H006",
        "tenants",
        "their name is empty, or their slug cannot stand in a URL",
        "SELECT * FROM {table} AS tenants WHERE trim(name) = '' OR slug !~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'",
        severity=Severity.WARNING,
    ),
    DataRule(
        "tenancy.H007",
        "tenant_join_codes",
        "whoever has read the source knows this code, and can enter its tenant with it",
        f"SELECT * FROM {{table}} AS codes WHERE code = '{DEMO_CODE}' "
        "AND (expires_at IS NULL OR expires_at > statement_timestamp()) "
        "AND (max_uses = 0 OR used_count < max_uses) AND revoked_at IS NULL",
        enabled=not settings.DEMO_DATA,
    ),
]
