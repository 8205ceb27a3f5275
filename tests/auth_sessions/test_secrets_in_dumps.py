"""Whoever reads a dump of the database can sign in as nobody."""

import subprocess

import pytest

from auth_sessions.models import ConsoleSession, OAuthState, Session
from tenancy.models import DEFAULT_ORGANIZATION_ID
from tests.factories import UserFactory


@pytest.mark.database
def test_a_dump_holds_no_secret_that_was_handed_out(server, migrated_database, connected_to):
    """The code_verifier and the nonce are in it: without the state and the browser's secret nobody can use them."""
    with connected_to(migrated_database):
        alice = UserFactory(email="alice@example.com")
        _, token = Session.objects.start(alice)
        rotated = Session.objects.rotate(token)
        _, revoked = Session.objects.start(alice)
        Session.objects.revoke_all(alice, reason="signed out")
        _, console = ConsoleSession.objects.start(DEFAULT_ORGANIZATION_ID)
        begun, consumed = OAuthState.objects.begin("google"), OAuthState.objects.begin("google")
        OAuthState.objects.consume(consumed.state, consumed.browser, "google")
    command = [server.program("pg_dump"), "--host", server.socket_directory, "--username=keyhub", migrated_database]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "alice@example.com" in dump
    assert begun.code_verifier in dump
    secrets = [token, rotated, revoked, console, begun.state, begun.browser, consumed.state, consumed.browser]
    assert [secret for secret in secrets if secret in dump] == []
