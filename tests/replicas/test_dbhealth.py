"""What dbhealth, /readyz and /metrics say of replicas: keyhub.H037 to H039."""

import json
import re
from datetime import UTC, datetime

import pytest
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory

from keyhub import dbhealth
from keyhub.dbhealth import replicas as checks
from keyhub.dbhealth.examination import Selection
from keyhub.probes.middleware import Probes
from keyhub.replicas import standing
from keyhub.replicas.standing import Primary, Standing
from tests.conftest import database_url
from tests.factories import UserFactory
from tests.replicas.conftest import paused

pytestmark = [pytest.mark.database, pytest.mark.once]

IDS = frozenset({"keyhub.H037", "keyhub.H038", "keyhub.H039"})
DEAD = "postgres://keyhub:hunter2@127.0.0.1:1/keyhub"
STANDBYS_ALONE = (
    "name standbys of DATABASE_URL's database alone in REPLICA_DATABASE_URL; make one that was promoted anew; after a "
    "failover, CHECKPOINT on those that follow the new primary"
)


def found(database: str = "default") -> list[tuple[str, str, str, str]]:
    findings = dbhealth.run(database, Selection(only=IDS)).findings
    return [(each.severity, f"{each.id} {each.object}", each.problem, each.mend) for each in findings]


def test_replicas_that_are_well_and_one_that_is_away(manage, cluster, standbys):
    cluster.follow_all()
    urls = [database_url(standby, "keyhub") for standby in standbys]
    primary = database_url(cluster.primary, "keyhub")
    result = manage("dbhealth", DATABASE_URL=primary, REPLICA_DATABASE_URL=" ".join(urls))
    assert (result.returncode, result.stdout, result.stderr) == (0, "default: healthy\n", "")
    result = manage("dbhealth", DATABASE_URL=primary, REPLICA_DATABASE_URL=f"{urls[0]}\n{DEAD}")
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "WARNING keyhub.H037 replica2: the replica cannot be asked: connection failed: connection to server at "
        '"127.0.0.1", port 1 failed: Connection refused Is the server running on that host and accepting TCP/IP '
        "connections?\n"
        "    start it, or take it out of REPLICA_DATABASE_URL\n"
        "default: 1 warning\n",
        "",
    )


def test_what_is_no_replica(server, cluster, standbys, process):
    cluster.follow_all()
    process(cluster.primary, server, standbys[0], database_url(standbys[0], "postgres"))
    assert found() == [
        ("warning", f"keyhub.H038 {alias}", f"lists are not read from it: {reason}", STANDBYS_ALONE)
        for alias, reason in [
            ("replica1", "it is no standby, or was promoted"),
            ("replica2", "it belongs to another server than DATABASE_URL's"),
            ("replica4", "its database is postgres, and that of DATABASE_URL is keyhub"),
        ]
    ]


def test_a_replica_that_is_behind(cluster, standbys, process, monkeypatch):
    cluster.follow_all()
    process(standbys[0])
    with paused(standbys[0]):
        UserFactory()
        assert found() == []
        monkeypatch.setattr(standing, "LONGEST_LAG_S", -1)
        ((severity, about, problem, mend),) = found()
    assert (severity, about) == ("warning", "keyhub.H039 replica1")
    assert re.fullmatch(r"lists are not read from it: it is \d+ (s|min) behind, with 0 MB to replay", problem)
    assert mend == "look at the standby's log, its disk and the network between the two"


def test_a_replica_that_has_replayed_nothing_yet():
    answer = Standing(
        is_standby=True, system_identifier=1, database="keyhub", timeline=1, has_replayed=True, lag_bytes=3 * 10**6,
        lag_s=None,
    )  # fmt: skip
    primary = Primary(system_identifier=1, database="keyhub", now=datetime.now(UTC), timeline=1, place="0/300000")
    (finding,) = checks._findings("replica1", answer, primary)
    assert (finding.id, finding.problem) == (
        "keyhub.H039",
        "lists are not read from it: it has replayed nothing yet, with 3 MB to replay",
    )


def test_of_another_database_than_default_nothing_is_asked(process, monkeypatch):
    process(DEAD)
    monkeypatch.setitem(connections.settings, "restored", connections.settings["default"])
    assert found("restored") == []
    connections["restored"].close()
    del connections["restored"]


def test_where_it_is_asked_on_a_standby(manage, standbys):
    """As who monitors may: DATABASE_URL leads there, and so do the replicas."""
    url = database_url(standbys[0], "keyhub")
    result = manage("dbhealth", *(f"--only={each}" for each in IDS), DATABASE_URL=url, REPLICA_DATABASE_URL=url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "default: healthy\n", "")


def test_one_more_statement_on_the_primary(cluster, standbys, process):
    site = process(*standbys)
    site.read.clear()
    assert found() == []
    statements = [statement for alias, statement in site.read if alias == "default"]
    assert [statement for statement in statements if not re.match("SET|SAVEPOINT|RELEASE", statement)] == [
        standing.PRIMARY
    ]


def test_a_process_is_ready_without_its_replicas(process, settings):
    settings.METRICS_TOKEN = "a-token-of-at-least-thirty-two-characters"
    process(DEAD)
    probes = Probes(lambda request: HttpResponse("a page"))
    try:
        response = probes(RequestFactory().get("/readyz"))
        assert (response.status_code, json.loads(response.content)) == (200, {"status": "ready"})
        headers = {"Authorization": f"Bearer {settings.METRICS_TOKEN}"}
        text = probes(RequestFactory().get("/metrics", headers=headers)).text
        assert 'id="keyhub.H037",object="replica1",severity="warning"} 1' in text
    finally:
        probes._readiness._examiner._close()
