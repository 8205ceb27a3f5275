"""Two at once, and thirty-two: threads with transactions that overlap in each way, and processes that race."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now

from auth_sessions.models import OAuthState, Session
from auth_sessions.oauth_states import RefusedStateError
from auth_sessions.sessions import DisabledUserError, InvalidSessionError, SessionMembershipError
from tests.clients import CLIENTS, Clients
from tests.clients import ISOLATION_LEVELS as LEVELS
from tests.conftest import database_url
from tests.factories import TenantMembershipFactory, UserFactory

pytestmark = pytest.mark.database

ROUNDS = 10
GOOGLE = "https://accounts.google.com"


@pytest.fixture(autouse=True)
def database(migrated_database, connected_to):
    with connected_to(migrated_database):
        yield migrated_database


class Client:
    """A thread with a connection of its own, whose steps the test orders."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1)
        self._atomic = None
        self.pid = self.do(self._connect).result()

    def do(self, step: Callable, *arguments) -> Future:
        return self._thread.submit(step, *arguments)

    def begin(self, level: str) -> None:
        """Begin a transaction, and take its snapshot."""
        self.do(self._begin, level).result()

    def end(self, error: BaseException | None = None) -> None:
        """Commit, or roll back after an error."""
        self.do(self._atomic.__exit__, error and type(error), error, None).result()

    def close(self) -> None:
        self.do(lambda: connection.close()).result()  # the connection of that thread
        self._thread.shutdown()

    def _connect(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    def _begin(self, level: str) -> None:
        self._atomic = transaction.atomic()
        self._atomic.__enter__()
        with connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            cursor.execute("SELECT count(*) FROM sessions")


@pytest.fixture
def clients():
    made = [Client(), Client()]
    yield made
    for client in made:
        client.close()


def wait_until_blocked(client: Client, step: Future) -> None:
    while not step.done():
        with connection.cursor() as cursor:
            cursor.execute("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", [client.pid])
            if cursor.fetchone() == (True,):
                return
        time.sleep(0.005)


def must_repeat(error: BaseException | None) -> bool:
    return isinstance(error, OperationalError) and error.__cause__.sqlstate == "40001"


def race(clients: list[Client], level: str, overlapping: bool, first: Callable, second: Callable) -> list:
    """Run both in transactions whose snapshots are equally old, the second during or after the first's; return errors.

    What ends in 40001 is done once more, as every caller does.
    """
    one, other = clients
    one.begin(level)
    other.begin(level)
    errors = [one.do(first).exception()]
    if overlapping:
        step = other.do(second)
        wait_until_blocked(other, step)
        one.end(errors[0])
    else:
        one.end(errors[0])
        step = other.do(second)
    error = step.exception()
    other.end(error)
    if must_repeat(error):
        error = other.do(second).exception()
    return [*errors, error]


def each_way(*names: str) -> Callable:
    """Every isolation level, overlap and order."""
    cases = [(level, during, order) for level in LEVELS for during in (True, False) for order in (names, names[::-1])]
    ids = [
        f"{level.split()[0]}-{order[0]} first-{'overlapping' if during else 'after'}" for level, during, order in cases
    ]
    return pytest.mark.parametrize(("level", "overlapping", "order"), cases, ids=ids)


def on_left_memberships() -> int:
    return Session.objects.filter(revoked=False, active_membership__left_at__isnull=False).count()


@each_way("leave", "switch")
def test_a_switch_and_a_leave(clients, level, overlapping, order):
    membership, here = TenantMembershipFactory(), None
    here = TenantMembershipFactory(user=membership.user)
    session, _ = Session.objects.start(membership.user, membership=here)
    steps = {
        "leave": lambda: type(membership).objects.filter(pk=membership.pk).update(left_at=Now()),
        "switch": lambda: Session.objects.switch_tenant(session, membership.tenant),
    }
    errors = dict(zip(order, race(clients, level, overlapping, *(steps[name] for name in order)), strict=True))
    assert errors["leave"] is None
    assert isinstance(errors["switch"], SessionMembershipError if order[0] == "leave" else type(None))
    assert on_left_memberships() == 0
    assert type(membership).objects.get(pk=membership.pk).left_at is not None
    assert Session.objects.live().get().active_membership_id == (here.pk if order[0] == "leave" else None)


@each_way("leave", "start")
def test_a_start_and_a_leave(clients, level, overlapping, order):
    membership = TenantMembershipFactory()
    steps = {
        "leave": lambda: type(membership).objects.filter(pk=membership.pk).update(left_at=Now()),
        "start": lambda: Session.objects.start(membership.user, membership=membership),
    }
    errors = dict(zip(order, race(clients, level, overlapping, *(steps[name] for name in order)), strict=True))
    assert errors["leave"] is None
    assert isinstance(errors["start"], SessionMembershipError if order[0] == "leave" else type(None))
    assert on_left_memberships() == 0


@each_way("disable", "start")
def test_a_start_and_a_disabling(clients, level, overlapping, order):
    alice = UserFactory(email="alice@example.com")
    people = type(alice).objects.filter(pk=alice.pk)
    steps = {
        "disable": lambda: people.update(disabled_at=Now()),
        "start": lambda: Session.objects.start(alice),
    }
    errors = dict(zip(order, race(clients, level, overlapping, *(steps[name] for name in order)), strict=True))
    assert errors["disable"] is None
    assert isinstance(errors["start"], DisabledUserError if order[0] == "disable" else type(None))
    assert Session.objects.live().count() == 0
    people.update(disabled_at=None)
    assert Session.objects.live().count() == 0


@pytest.mark.parametrize("overlapping", [True, False], ids=["overlapping", "after"])
@pytest.mark.parametrize("level", LEVELS)
def test_two_rotations_leave_one_token(clients, level, overlapping):
    session, token = Session.objects.start(UserFactory())
    given = []

    def rotate() -> None:
        given.append(Session.objects.rotate(token))

    assert [type(error) for error in race(clients, level, overlapping, rotate, rotate)] == [
        type(None),
        InvalidSessionError,
    ]
    assert Session.objects.authenticate(given[0]) == session
    assert len(given) == 1


@each_way("rotate", "revoke")
def test_a_rotation_and_a_revocation(clients, level, overlapping, order):
    session, token = Session.objects.start(UserFactory())
    steps = {
        "rotate": lambda: Session.objects.rotate(token),
        "revoke": lambda: Session.objects.revoke_all(session.user, reason="stolen"),
    }
    errors = dict(zip(order, race(clients, level, overlapping, *(steps[name] for name in order)), strict=True))
    assert errors["revoke"] is None
    assert Session.objects.live().count() == 0


@pytest.mark.parametrize("overlapping", [True, False], ids=["overlapping", "after"])
@pytest.mark.parametrize("level", LEVELS)
def test_two_answers_to_one_sign_in(clients, level, overlapping):
    begun = OAuthState.objects.begin(GOOGLE)

    def consume() -> None:
        OAuthState.objects.consume(begun.state, begun.browser, GOOGLE)

    errors = race(clients, level, overlapping, consume, consume)
    assert [type(error) for error in errors] == [type(None), RefusedStateError]


# Processes


@pytest.fixture
def together(server, database):
    opened = []

    def start(function: str, level: str) -> Clients:
        url = database_url(server, database)
        opened.append(Clients(url, f"tests.auth_sessions.races:{function}", level))
        return opened[0]

    yield start
    opened[0].__exit__()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.once
def test_a_sign_in_that_32_clients_finish_is_finished_once(together, level):
    clients = together("consume", level)
    for _ in range(ROUNDS):
        begun = OAuthState.objects.begin(GOOGLE)
        outcomes = Counter(clients.at_once([[begun.state, begun.browser, GOOGLE]] * CLIENTS))
        assert outcomes == {"done": 1, "RefusedStateError": CLIENTS - 1}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.once
def test_a_token_that_many_rotate_is_rotated_once(together, level):
    clients = together("rotate", level)
    alice = UserFactory()
    for _ in range(ROUNDS):
        _, token = Session.objects.start(alice)
        outcomes = Counter(clients.at_once([[token]] * CLIENTS))
        assert outcomes == {"done": 1, "InvalidSessionError": CLIENTS - 1}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.once
def test_switching_and_leaving_without_end(together, level):
    """Whoever looks in between never sees a live session on a left membership."""
    membership = TenantMembershipFactory()
    session, _ = Session.objects.start(membership.user)
    clients = together("switch_or_leave", level)
    seen, stop = set(), threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(on_left_memberships())
        connection.close()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        place = [str(session.pk), str(membership.pk), str(membership.tenant_id)]
        outcomes = sum(map(Counter, clients.at_once([[*place, bool(n % 2)] for n in range(CLIENTS)])), Counter())
    finally:
        stop.set()
        watcher.join()
    assert seen == {0}
    assert outcomes["done"] > 100
    assert set(outcomes) <= {"done", "SessionMembershipError"}
