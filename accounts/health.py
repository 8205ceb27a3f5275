"""What dbhealth --data checks of users and their identities."""

from keyhub.dbhealth import DataRule, Severity

RULES = [
    DataRule(
        "accounts.H001",
        "users",
        "their e-mail addresses are equal but for case: one person has several accounts, or two share one",
        "SELECT users.* FROM {table} AS users WHERE EXISTS (SELECT FROM users AS other "
        "WHERE lower(other.email) = lower(users.email) AND other.id <> users.id)",
    ),
    DataRule(
        "accounts.H002",
        "users",
        "their e-mail address is no address: no mail reaches them",
        r"SELECT * FROM {table} AS users WHERE email !~ '^[^@\s]+@[^@\s]+$' OR length(email) > 254",
        severity=Severity.WARNING,
    ),
]
