"""/healthz, /readyz and /metrics, answered before any other middleware.

Load balancers ask by address and over plain HTTP: neither the check of the host nor the redirect to HTTPS, no session
and no table may stand between them and the answer.
"""

import logging
from collections.abc import Callable

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.utils.crypto import constant_time_compare

from keyhub import dbhealth
from keyhub.dbhealth import report as reports
from keyhub.dbhealth.databases import Unasked, run_everywhere
from keyhub.dbhealth.examination import Selection, ids, ids_to_serve
from keyhub.placement import ADMIN
from keyhub.probes.examiner import Examiner
from keyhub.probes.single_flight import SingleFlight

logger = logging.getLogger(__name__)

READY_LIMIT_S, READY_LIFETIME_S = 1.5, 1.0
METRICS_LIMIT_S, METRICS_LIFETIME_S = 8.0, 10.0  # Prometheus waits for ten seconds
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
METHODS = ("GET", "HEAD")

Problems = list[dict[str, str]]
CANNOT_BE_ASKED = {"id": "keyhub.R001", "problem": "the database cannot be reached, or not be asked"}
NO_ANSWER = {"id": "keyhub.R002", "problem": f"the database has not answered for {READY_LIMIT_S} s"}


class Readiness:
    """Whether this process can serve, looked up once a second at most, however many ask.

    The tenant database alone is asked: without the Admin database most pages are served all the same
    (docs/decisions/2026-11-26-health-of-two-databases.md).
    """

    def __init__(self):
        self._examiner = Examiner(patience_s=READY_LIMIT_S - 0.5, keeps_connection=True)
        self._flight = SingleFlight(self._look, self._examiner.cut, READY_LIFETIME_S, READY_LIMIT_S)
        self._told: Problems = []

    def problems(self) -> Problems:
        """What keeps this process from serving; nothing where it can."""
        try:
            return self._flight.result()
        except TimeoutError:
            return [NO_ANSWER]

    def _look(self) -> Problems:
        reason = ""
        try:
            report = self._examiner.report(Selection(only=ids_to_serve()))
        except DatabaseError as error:
            # The answer is open to all who reach the process, and libpq's words name hosts and roles.
            problems, reason = [CANNOT_BE_ASKED], f" ({' '.join(str(error).split())})"
        else:
            critical = [finding for finding in report.findings if finding.severity is dbhealth.Severity.CRITICAL]
            problems = [{"id": finding.id, "problem": finding.problem} for finding in critical]
        if problems != self._told:
            words = "; ".join(f"{problem['id']} {problem['problem']}" for problem in problems)
            logger.error("not ready: %s%s", words, reason) if problems else logger.warning("ready again")
            self._told = problems
        return problems


class Metrics:
    """What dbhealth finds, as OpenMetrics; looked up every ten seconds at most."""

    def __init__(self):
        self._examiners = {
            database: Examiner(METRICS_LIMIT_S - 0.5, keeps_connection=False, database=database)
            for database in (DEFAULT_DB_ALIAS, ADMIN)
        }
        self._flight = SingleFlight(self._look, self._cut, METRICS_LIFETIME_S, METRICS_LIMIT_S)

    def text(self) -> str:
        """Raises TimeoutError, or django.db.DatabaseError."""
        return self._flight.result()

    def _look(self) -> str:
        selection = Selection()

        def run_on(database: str, **options) -> dbhealth.Report:
            return self._examiners[database].report(selection, **options)

        results = run_everywhere(run_on=run_on)
        if isinstance(results[0], Unasked):
            raise DatabaseError(results[0])
        return reports.openmetrics([each for each in results if isinstance(each, dbhealth.Report)], ids(selection))

    def _cut(self) -> None:
        for examiner in self._examiners.values():
            examiner.cut()


class Probes:
    """The first middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self._get_response = get_response
        self._readiness, self._metrics = Readiness(), Metrics()
        self._answers = {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics_page}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = self._answers.get(request.path_info)
        if answer is None:
            return self._get_response(request)
        response = answer(request) if request.method in METHODS else HttpResponseNotAllowed(METHODS)
        response["Cache-Control"] = "no-store"
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Length"] = len(response.content)
        if request.method == "HEAD":
            response.content = b""
        # Django would log each answer from 400 up; Readiness logs each change.
        response._has_been_logged = True
        return response

    def _healthz(self, request: HttpRequest) -> HttpResponse:
        """The process answers. It asks no database: a restart would not mend one."""
        return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")

    def _readyz(self, request: HttpRequest) -> HttpResponse:
        """Whether this process can serve, and what keeps it from it."""
        problems = self._readiness.problems()
        if problems:
            return JsonResponse({"status": "not ready", "findings": problems}, status=503)
        return JsonResponse({"status": "ready"})

    def _metrics_page(self, request: HttpRequest) -> HttpResponse:
        """For who knows METRICS_TOKEN; where there is none, there is no such page."""
        if not settings.METRICS_TOKEN:
            return HttpResponse("Not Found\n", status=404, content_type="text/plain; charset=utf-8")
        if not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {settings.METRICS_TOKEN}"):
            response = HttpResponse("Unauthorized\n", status=401, content_type="text/plain; charset=utf-8")
            response["WWW-Authenticate"] = 'Bearer realm="metrics"'
            return response
        try:
            return HttpResponse(self._metrics.text() + "\n", content_type=OPENMETRICS)
        except (DatabaseError, TimeoutError):
            return HttpResponse("The database cannot be asked.\n", status=503, content_type="text/plain; charset=utf-8")
