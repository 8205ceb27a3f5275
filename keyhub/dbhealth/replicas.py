"""Whether lists can be read from the standbys of REPLICA_DATABASE_URL: keyhub.H037 to H039. Without one, nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections

from keyhub.dbhealth.examination import Examination
from keyhub.dbhealth.findings import Finding, Severity
from keyhub.dbhealth.server import duration, size
from keyhub.replicas.patience import ANSWER_S, cut_after
from keyhub.replicas.standing import Primary, Standing, one_line


def replicas(examination: Examination) -> Iterator[Finding]:
    """Ask all of them at once: one that does not answer costs a few seconds."""
    if not settings.REPLICAS or examination.connection.alias != DEFAULT_DB_ALIAS:
        return
    primary = Primary.of(examination.connection)
    with ThreadPoolExecutor(len(settings.REPLICAS)) as threads:
        answers = list(threads.map(partial(_asked, primary), settings.REPLICAS))
    for alias, answer in zip(settings.REPLICAS, answers, strict=True):
        yield from _findings(alias, answer, primary)


def _asked(primary: Primary, alias: str) -> Standing | Error:
    connection = connections.create_connection(alias)
    try:
        connection.ensure_connection()
        with cut_after(ANSWER_S, connection):
            return Standing.of(connection, primary)
    except Error as error:
        return error
    finally:
        connection.close()


def _findings(alias: str, answer: Standing | Error, primary: Primary) -> Iterator[Finding]:
    if isinstance(answer, Error):
        yield Finding(
            "keyhub.H037", Severity.WARNING, alias, f"the replica cannot be asked: {one_line(answer)}",
            "start it, or take it out of REPLICA_DATABASE_URL",
        )  # fmt: skip
    elif reason := answer.why_no_replica_of(primary):
        yield Finding(
            "keyhub.H038", Severity.WARNING, alias, f"lists are not read from it: {reason}",
            "name standbys of DATABASE_URL's database alone in REPLICA_DATABASE_URL; make one that was promoted anew; "
            "after a failover, CHECKPOINT on those that follow the new primary",
        )  # fmt: skip
    elif not answer.is_fresh:
        lag = f"is {duration(answer.lag_s)} behind" if answer.lag_s is not None else "has replayed nothing yet"
        yield Finding(
            "keyhub.H039", Severity.WARNING, alias,
            f"lists are not read from it: it {lag}, with {size(answer.lag_bytes)} to replay",
            "look at the standby's log, its disk and the network between the two",
        )  # fmt: skip
