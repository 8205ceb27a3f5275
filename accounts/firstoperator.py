"""The first operator of a laptop's KeyHub, with a random password."""

import secrets

from django.contrib.auth.hashers import make_password
from django.db import connections, router

from accounts.models import Operator

EMAIL = "operator@keyhub.test"
PASSWORD_BYTES = 12

# One statement admits: of several at once, the unique e-mail lets one in.
INSERT_THE_FIRST = """
    INSERT INTO operators (email, name, password, is_superuser, is_active)
    SELECT %s, '', %s, true, true WHERE NOT EXISTS (SELECT FROM operators)
    ON CONFLICT (email) DO NOTHING
"""


def create() -> str | None:
    """Create the operator EMAIL, a superuser, and return the password; None where there is an operator already."""
    if Operator.objects.exists():  # spares the expensive hash
        return None
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    with connections[router.db_for_write(Operator)].cursor() as cursor:
        cursor.execute(INSERT_THE_FIRST, [EMAIL, make_password(password)])
        return password if cursor.rowcount else None
