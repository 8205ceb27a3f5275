"""What the clients of test_concurrency.py do."""

from collections import Counter

from django.db.models.functions import Now

from auth_sessions.models import OAuthState, Session
from auth_sessions.oauth_states import OAuthStateError
from auth_sessions.sessions import SessionError
from tenancy.models import TenantMembership

TIMES = 25


def consume(state: str, browser: str, provider: str) -> str:
    try:
        OAuthState.objects.consume(state, browser, provider)
    except OAuthStateError as error:
        return type(error).__name__
    return "done"


def rotate(token: str) -> str:
    try:
        Session.objects.rotate(token)
    except SessionError as error:
        return type(error).__name__
    return "done"


def switch_or_leave(session_id: str, membership_id: str, tenant_id: str, leaves: bool) -> dict[str, int]:
    """How often it came out how, in TIMES times."""
    outcomes = Counter()
    for _ in range(TIMES):
        try:
            if leaves:
                TenantMembership.objects.filter(pk=membership_id).update(left_at=Now())
                TenantMembership.objects.filter(pk=membership_id).update(left_at=None)
            else:
                place = TenantMembership(pk=membership_id, tenant_id=tenant_id)
                Session.objects.switch_tenant(Session.objects.get(pk=session_id), place)
            outcomes["done"] += 1
        except SessionError as error:
            outcomes[type(error).__name__] += 1
    return outcomes
