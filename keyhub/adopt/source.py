"""What golang-migrate's files of the source design made: tables by version, and what has no place any more."""

# number of the version: its tables.
TABLES = {
    "20240101000001": (
        "users",
        "user_identities",
        "tenants",
        "tenant_memberships",
        "sessions",
        "oauth_states",
        "tenant_join_codes",
        "console_sessions",
    ),
    "20240101000002": (),
    "20240201000001": ("groups", "group_memberships"),
    "20240301000001": ("audit_logs",),
    "20240401000001": ("organizations", "organization_domains"),
}
ALL_TABLES = [table for tables in TABLES.values() for table in tables]

# Columns that the source does not have; a table that lacks any other is not the source's.
NEW_COLUMNS = {
    ("tenant_memberships", "updated_at"),
    ("groups", "parent_depth"),
    ("groups", "depth"),
    ("audit_logs", "tenant_label"),
    ("audit_logs", "actor_label"),
}

# Tables whose new shape only a copy can have: a generated column in the middle, partitions.
REBUILT = ("groups", "audit_logs")

# (table, name): its definition. Of the source, without a counterpart here; dropped where it is just that.
LEFTOVER_CONSTRAINTS = {
    ("user_identities", "user_identities_user_id_provider_provider_sub_key"): "UNIQUE (user_id, provider, provider_sub)"
}
LEFTOVER_INDEXES = {
    ("tenants", "idx_tenants_organization_id"): "btree (organization_id)",
    ("groups", "idx_groups_tenant_id"): "btree (tenant_id)",
    ("group_memberships", "idx_group_memberships_group_id"): "btree (group_id)",
}
# Of a rebuilt table, gone with its old form.
LEFT_BEHIND_CONSTRAINTS = {
    ("groups", "groups_parent_group_id_fkey"),
    ("audit_logs", "audit_logs_tenant_id_fkey"),
    ("audit_logs", "audit_logs_user_id_fkey"),
}

DEFAULT_ORGANIZATION = "ORG-DEFAULT-001"
DEMO_JOIN_CODE = "KH-DEMO-001"
