"""What the clients of test_suspension_races.py do."""

from auth_sessions.models import Session
from auth_sessions.sessions import SessionError
from orgs.models import Organization
from tenancy.models import Tenant


def switch_or_suspend(session_id: str | None, tenants: list[str], organization_id: str) -> str:
    if session_id is None:
        for _ in range(5):
            Organization.objects.filter(pk=organization_id).suspend()
            Organization.objects.filter(pk=organization_id).resume()
        return "suspended"
    session = Session.objects.get(pk=session_id)
    for number in range(10):
        try:
            Session.objects.switch_tenant(session, Tenant(id=tenants[number % 2]))
        except SessionError as error:
            if number == 9:
                return type(error).__name__
    return "switched"
