"""Console sessions: start, authenticate, revoke; the database decides which organizations may have one."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection

from auth_sessions.console_sessions import ClosedConsoleError, InvalidConsoleSessionError
from auth_sessions.models import ConsoleSession
from auth_sessions.tokens import digest
from tenancy.models import DEFAULT_ORGANIZATION_ID

pytestmark = pytest.mark.django_db

CLOSED = (
    "No console session can be started, because the organization does not exist or is not active. "
    "Ask an operator to look at its status."
)


def refused(token) -> str:
    with pytest.raises(InvalidConsoleSessionError) as refusal:
        ConsoleSession.objects.authenticate(token)
    return str(refusal.value)


def test_a_session_from_its_start_to_its_end():
    session, token = ConsoleSession.objects.start(DEFAULT_ORGANIZATION_ID)
    assert session.session_id == digest(token)
    assert session.expires_at - session.created_at == timedelta(hours=12)
    assert ConsoleSession.objects.authenticate(token) == session
    assert ConsoleSession.objects.filter(pk=session.pk).revoke() == 1
    assert refused(token) == "The console session does not exist or has ended. Sign in again."


def test_an_expired_one_has_ended():
    _, token = ConsoleSession.objects.start(DEFAULT_ORGANIZATION_ID, lifetime=timedelta(hours=1))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE console_sessions SET expires_at = expires_at - interval '1 hour'")
    assert refused(token) == "The console session does not exist or has ended. Sign in again."
    assert list(ConsoleSession.objects.live()) == []


@pytest.mark.parametrize("token", ["", None, "\0", "\ud800"], ids=ascii)
def test_a_token_of_nobody(token):
    ConsoleSession.objects.start(DEFAULT_ORGANIZATION_ID)
    assert refused(token) == "The console session does not exist or has ended. Sign in again."


def test_no_session_of_an_organization_that_is_not_there():
    with pytest.raises(ClosedConsoleError) as refusal:
        ConsoleSession.objects.start("ORG-NOBODY")
    assert str(refusal.value) == CLOSED


def test_no_session_where_the_database_admits_none():
    """As while the organization is suspended."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE check_violation; END'; "
            "CREATE TRIGGER refuse BEFORE INSERT ON console_sessions FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    with pytest.raises(ClosedConsoleError) as refusal:
        ConsoleSession.objects.start(DEFAULT_ORGANIZATION_ID)
    assert str(refusal.value) == CLOSED
    assert ConsoleSession.objects.count() == 0  # the transaction goes on


def test_asynchronous_twins():
    async def life() -> int:
        session, token = await ConsoleSession.objects.astart(DEFAULT_ORGANIZATION_ID)
        assert await ConsoleSession.objects.aauthenticate(token) == session
        return await ConsoleSession.objects.filter(pk=session.pk).arevoke()

    assert async_to_sync(life)() == 1
