"""Replicas that die, freeze, are promoted, lag, cancel queries, or are none: no page fails for it, nor is it wrong."""

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from django.db import DataError, InternalError, connections
from django.http import HttpResponse
from django.urls import reverse

from accounts.models import User
from keyhub import replicas
from keyhub.admin import model_admin
from keyhub.embedded import EmbeddedServer
from keyhub.replicas import patience, reading, standing
from keyhub.replicas.reading import Away
from keyhub.replicas.standing import Standing
from tests.conftest import database_url
from tests.factories import UserFactory
from tests.replicas.conftest import NEVER_S, Cluster, Site, paused
from tests.test_embedded import wait_for

pytestmark = pytest.mark.database

LIST = reverse("admin:tenancy_tenant_changelist")
OTHER_TIMELINE = (
    "its timeline is 1, and the primary's is 2: it follows another server, or has made no restartpoint since a failover"
)


@pytest.fixture
def told(caplog) -> Callable[[], list[str]]:
    """What the log says of replicas, in order."""
    caplog.set_level(logging.WARNING, logger="keyhub.replicas")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("keyhub.replicas")]


@pytest.fixture
def doomed(cluster) -> Iterator[EmbeddedServer]:
    """A standby that the test may harm."""
    standby = cluster.standby()
    yield standby
    standby.start()  # one that was killed has left its shared memory
    standby.stop()


@pytest.fixture
def in_the_list(monkeypatch) -> Callable[[Callable[[], None]], None]:
    """Let something happen in the middle of the first list that is read from the replica."""

    def in_the_list(happens: Callable[[], None]) -> None:
        steps, page_of = [happens], model_admin.page_of

        def page(queryset, *args, **kwargs):
            if queryset.db == "replica1" and steps:
                steps.pop()()
            return page_of(queryset, *args, **kwargs)

        monkeypatch.setattr(model_admin, "page_of", page)

    return in_the_list


def readers(site: Site, client) -> list[str]:
    """The databases that a list of tenants is read from."""
    return site.list_of(client, LIST, "tenants")[1]


def processes_of(server: EmbeddedServer) -> list[psutil.Process]:
    return [server.postmaster(), *server.postmaster().children(recursive=True)]


def kill(server: EmbeddedServer) -> None:
    """The machine is gone."""
    processes = processes_of(server)
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)


def promote(standby: EmbeddedServer) -> None:
    with standby.connect() as admin:
        admin.execute("SELECT pg_promote()")


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


# Gone


def test_a_killed_standby_costs_no_error_page_and_comes_back(cluster, process, doomed, told, monkeypatch):
    site = process(doomed)
    client = site.operator()
    cluster.follow(doomed)
    assert readers(site, client) == ["replica1"]
    kill(doomed)
    assert readers(site, client) == ["default"]
    (line,) = told()
    assert line.startswith("replica1 is not read any more: connection ")
    doomed.start()
    cluster.follow(doomed)
    assert readers(site, client) == ["default"]  # nobody has tried
    monkeypatch.setitem(reading._away._until_s, "replica1", 0.0)
    assert readers(site, client) == ["replica1"]
    assert told()[1:] == ["replica1 is read again"]


@pytest.mark.once
def test_beside_a_dead_replica_the_other_one_is_read(cluster, standbys, process, told):
    site = process("postgres://keyhub@127.0.0.1:1/keyhub", standbys[0])
    client = site.operator()
    cluster.follow_all()
    assert {readers(site, client)[0] for _ in range(8)} == {"replica2"}
    assert len(told()) <= 1


@pytest.mark.once
def test_a_standby_that_was_restarted_is_read_by_a_new_connection(cluster, process, doomed, told):
    site = process(doomed)
    client = site.operator()
    for _ in range(2):
        cluster.follow(doomed)
        assert readers(site, client) == ["replica1"]
        doomed.stop()
        doomed.start()
    assert told() == []


def test_a_standby_that_dies_in_the_middle_of_a_list(cluster, process, doomed, told, in_the_list):
    site = process(doomed)
    client = site.operator()
    cluster.follow(doomed)
    in_the_list(lambda: kill(doomed))
    assert readers(site, client) == ["replica1", "default"]
    (line,) = told()
    assert line.startswith("the primary is read, since replica1 failed: ")
    assert readers(site, client) == ["default"]
    assert told()[1].startswith("replica1 is not read any more: connection ")


# Silent


@pytest.mark.once
def test_a_replica_that_takes_connections_and_never_answers(process, told):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site = process(f"postgres://keyhub@127.0.0.1:{listener.getsockname()[1]}/keyhub")
        client = site.operator()
        for _ in range(2):
            assert readers(site, client) == ["default"]
    assert told() == ["replica1 is not read any more: connection timeout expired"]


@pytest.mark.once
def test_a_session_that_does_not_answer_is_given_up_for_a_new_one(cluster, process, doomed, told, monkeypatch):
    site = process(doomed)
    client = site.operator()
    cluster.follow(doomed)
    assert readers(site, client) == ["replica1"]
    monkeypatch.setattr(patience, "ANSWER_S", 1)
    with frozen([psutil.Process(connections["replica1"].connection.info.backend_pid)]):
        assert readers(site, client) == ["replica1"]
    assert told() == []


@pytest.mark.once
def test_a_frozen_standby(cluster, process, doomed, told, monkeypatch):
    site = process(f"{database_url(doomed, 'keyhub')}&connect_timeout=4")
    client = site.operator()
    cluster.follow(doomed)
    assert readers(site, client) == ["replica1"]
    monkeypatch.setattr(patience, "ANSWER_S", 1)
    with frozen(processes_of(doomed)):
        for _ in range(2):
            assert readers(site, client) == ["default"]
    assert told() == ["replica1 is not read any more: connection timeout expired"]


@pytest.mark.once
def test_a_standby_that_freezes_in_the_middle(cluster, process, doomed, told):
    process(f"{database_url(doomed, 'keyhub')}&connect_timeout={NEVER_S}")
    cluster.follow(doomed)
    read = []

    def work() -> int:
        read.append(User.objects.all().db)
        if read == ["replica1"]:
            for each in processes_of(doomed):
                each.send_signal(signal.SIGSTOP)
        return User.objects.filter(email="nobody").count()

    try:
        assert replicas.read(work, patience_s=3) == 0
    finally:
        for each in processes_of(doomed):
            each.send_signal(signal.SIGCONT)
    assert read == ["replica1", "default"]
    (line,) = told()
    assert line.startswith("the primary is read, since replica1 failed: ")


# Cancelled


@pytest.mark.parametrize("state", ["active", "idle in transaction"])
def test_a_list_that_recovery_cancels_is_read_once_more_from_the_primary(
    cluster, process, doomed, told, in_the_list, state
):
    with doomed.connect() as admin:
        admin.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        admin.execute("SELECT pg_reload_conf()")
    site = process(doomed)
    client = site.operator()
    cluster.follow(doomed)

    def conflict() -> None:
        with connections["replica1"].cursor() as cursor:
            cursor.execute("SELECT FROM users LIMIT 1")  # its lock stays until the transaction ends
            session = connections["replica1"].connection.info.backend_pid
            with cluster.primary.connect("keyhub") as primary:
                primary.execute("BEGIN; LOCK TABLE users; COMMIT")
            if state != "active":
                wait_for(lambda: not psutil.pid_exists(session))
            cursor.execute("SELECT pg_sleep(600)")

    in_the_list(conflict)
    assert readers(site, client) == ["default"]
    (line,) = told()
    assert line.startswith("the primary is read, since replica1 failed: ")
    assert "due to conflict with recovery" in line
    cluster.follow(doomed)
    assert readers(site, client) == ["replica1"]


@pytest.mark.once
def test_what_the_primary_refuses_too_is_raised(one):
    read = []

    def work() -> None:
        read.append(User.objects.all().db)
        with connections[read[-1]].cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    with pytest.raises(DataError, match="division by zero"):
        replicas.read(work)
    assert read == ["replica1", "default"]


# A primary that does not tell


@pytest.mark.once
def test_where_the_primary_does_not_say_where_it_is_it_is_read_itself(one, told):
    client = one.operator()
    with one.cluster.primary.connect("keyhub") as admin:
        admin.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        try:
            one.cluster.follow_all()
            assert readers(one, client) == ["default"]
        finally:
            admin.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
    assert told() == [
        "no replica is read, since the primary does not say where it is: permission denied for function "
        "pg_control_system"
    ]


@pytest.mark.once
def test_where_the_primary_does_not_say_what_was_written_no_replica_is_good(standbys, process, told):
    process(standbys[1], primary=standbys[0])
    response = HttpResponse()
    since = replicas.remember_writes(response)
    assert (since, "written" in response.cookies) == ("FFFFFFFF/FFFFFFFF", True)
    assert replicas.read(lambda: User.objects.all().db, since) == "default"
    (line,) = told()
    assert line.startswith("no replica is read, since the primary does not say what was written: recovery is in ")


# No replica, or one of something else


def test_a_promoted_standby_is_not_read_and_takes_no_writes(cluster, process, doomed, told):
    site = process(doomed)
    client = site.operator()
    cluster.follow(doomed)
    assert readers(site, client) == ["replica1"]
    promote(doomed)
    assert readers(site, client) == ["default"]
    assert told() == ["replica1 is not read any more: it is no standby, or was promoted"]
    for write in (
        lambda: User(email="alice@example.com").save(using="replica1"),
        User.objects.using("replica1").delete,
    ):
        with pytest.raises(InternalError, match="in a read-only transaction"):
            write()


def test_after_a_failover_who_follows_the_old_primary_is_not_read(cluster, standbys, process, doomed, told):
    promote(doomed)
    site = process(standbys[0], primary=doomed)
    assert readers(site, site.operator()) == ["default"]
    assert told() == [f"replica1 is not read any more: {OTHER_TIMELINE}"]


def test_after_a_failover_who_follows_the_new_primary_is_read_from_its_next_restartpoint_on(
    cluster, process, doomed, told, monkeypatch
):
    follower = cluster.standby()
    with follower.connect() as admin:
        admin.execute(f"ALTER SYSTEM SET primary_conninfo = 'host={doomed.socket_directory} user=postgres'")
        admin.execute("SELECT pg_reload_conf()")
    promote(doomed)
    new = Cluster(cluster.folder, doomed)
    new.follow(follower)
    site = process(follower, primary=doomed)
    client = site.operator()
    assert readers(site, client) == ["default"]
    assert told() == [f"replica1 is not read any more: {OTHER_TIMELINE}"]
    with doomed.connect() as primary, follower.connect() as admin:
        primary.execute("CHECKPOINT")
        new.follow(follower)
        admin.execute("CHECKPOINT")
    monkeypatch.setitem(reading._away._until_s, "replica1", 0.0)
    assert readers(site, client) == ["replica1"]
    follower.stop()


@pytest.mark.parametrize(
    ("replica", "reason"),
    [
        ("the primary", "it is no standby, or was promoted"),
        ("another server", "it belongs to another server than DATABASE_URL's"),
        ("another database", "its database is postgres, and that of DATABASE_URL is keyhub"),
    ],
)
def test_what_is_no_replica_is_not_read(server, cluster, standbys, process, told, replica, reason):
    url = {
        "the primary": database_url(cluster.primary, "keyhub"),
        "another server": database_url(server, "keyhub"),
        "another database": database_url(standbys[0], "postgres"),
    }[replica]
    site = process(url)
    client = site.operator()
    for _ in range(2):
        assert readers(site, client) == ["default"]
    assert told() == [f"replica1 is not read any more: {reason}"]


# Behind


def test_a_replica_that_is_too_far_behind_is_not_read(one, told, monkeypatch):
    client = one.operator()
    one.cluster.follow_all()
    with paused(one.cluster.kept[0]):
        UserFactory()
        assert readers(one, client) == ["replica1"]
        monkeypatch.setattr(standing, "LONGEST_LAG_S", -1)
        assert readers(one, client) == ["default"]
    # Where there is nothing to replay, none is too old.
    wait_for(lambda: readers(one, client) == ["replica1"])
    assert told() == []


@pytest.mark.once
@pytest.mark.parametrize(
    ("lag_bytes", "lag_s", "is_fresh"),
    [(0, 10**6, True), (0, None, True), (1, 30, True), (1, 31, False), (1, None, False)],
)
def test_what_is_fresh(monkeypatch, lag_bytes, lag_s, is_fresh):
    monkeypatch.setattr(standing, "LONGEST_LAG_S", 30)
    answer = Standing(
        is_standby=True, system_identifier=1, database="keyhub", timeline=1, has_replayed=True, lag_bytes=lag_bytes,
        lag_s=lag_s,
    )  # fmt: skip
    assert answer.is_fresh is is_fresh


# One that was away


@pytest.mark.once
def test_of_many_who_come_when_a_replica_may_be_back_one_tries(monkeypatch):
    away = Away()
    assert not away.is_passed_by("replica1")
    away.goes("replica1", "gone")
    assert away.is_passed_by("replica1")
    monkeypatch.setitem(away._until_s, "replica1", 0.0)
    assert [away.is_passed_by("replica1") for _ in range(4)] == [False, True, True, True]
    away.comes("replica1")
    assert not away.is_passed_by("replica1")
