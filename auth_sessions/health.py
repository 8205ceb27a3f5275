"""What dbhealth --data checks of sessions, OAuth states and console sessions."""

from keyhub.dbhealth import DataRule, Severity

LIVE = "NOT revoked AND expires_at > statement_timestamp()"

RULES = [
    DataRule(
        "auth_sessions.H001",
        "sessions",
        "they are alive, and act in a membership that was left",
        f"SELECT sessions.* FROM {{table}} AS sessions JOIN tenant_memberships AS membership "
        f"ON membership.id = active_membership_id WHERE {LIVE} AND membership.left_at IS NOT NULL",
        others=("tenant_memberships",),
    ),
    DataRule(
        "auth_sessions.H002",
        "sessions",
        "they act in a membership of another user",
        "SELECT sessions.* FROM {table} AS sessions JOIN tenant_memberships AS membership "
        "ON membership.id = active_membership_id WHERE membership.user_id <> sessions.user_id",
        others=("tenant_memberships",),
    ),
    DataRule(
        "auth_sessions.H003",
        "sessions",
        "the session id is no SHA-256: whoever reads the table or a backup can act as the user",
        "SELECT id FROM {table} AS sessions WHERE session_id !~ '^[0-9a-f]{64}$'",
        severity=Severity.WARNING,
    ),
    DataRule(
        "auth_sessions.H004",
        "console_sessions",
        "the session id is no SHA-256: whoever reads the table or a backup can enter the console",
        "SELECT id FROM {table} AS sessions WHERE session_id !~ '^[0-9a-f]{64}$'",
        severity=Severity.WARNING,
    ),
    DataRule(
        "auth_sessions.H005",
        "oauth_states",
        "the state is no SHA-256, and not used up: whoever reads the table can finish the sign-in",
        "SELECT id FROM {table} AS states WHERE state !~ '^[0-9a-f]{64}$' AND consumed_at IS NULL",
        severity=Severity.WARNING,
    ),
    DataRule(
        "auth_sessions.H006",
        "sessions",
        "they never end, or ended before they began",
        "SELECT * FROM {table} AS sessions WHERE NOT isfinite(expires_at) OR expires_at <= created_at",
    ),
    DataRule(
        "auth_sessions.H007",
        "sessions",
        "they are alive, and their user is disabled",
        f"SELECT sessions.* FROM {{table}} AS sessions JOIN users ON users.id = sessions.user_id "
        f"WHERE {LIVE} AND users.disabled_at IS NOT NULL",
        others=("users",),
    ),
]
