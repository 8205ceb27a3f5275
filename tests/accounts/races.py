"""What the clients of test_identities.py do."""

from accounts.models import UserIdentity


def sign_in(issuer: str, sub: str, email: str) -> list:
    user, created = UserIdentity.objects.get_or_create_from_claims(issuer, sub, email, True)
    return [str(user.pk), created]
