"""The report endpoints, each through the cache."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from flask import Blueprint, Flask, Response, current_app, request

from pulse.cache import Entry, cache
from pulse.errors import Unavailable
from pulse.monitor import recorder
from pulse.reports import analytics as report
from pulse.reports import events, period, realtime
from pulse.reports.filters import read_filters, write_filters
from pulse.storage.projects import Project
from pulse.web.http import Api, answer_json
from pulse.web.kept import KEPT_FORM, answer_kept, keep
from pulse.web.service import Service, service
from pulse.web.warming import Question, Warmer

WARMER = "pulse_warmer"
InBackground = Callable[[Callable[[], None]], None]

blueprint = Blueprint("analytics", __name__)
api = Api(blueprint, "Reports")

# Ranges that still gather events are computed anew after seconds; closed ones after a day, or when they change.
OPEN_TTL_S = 3
CLOSED_TTL_S = 86_400
REALTIME_TTL_S = 1
# A filtered report is counted from the facts, at a hundred times the cost.
FILTERED_OPEN_TTL_S = 30

# Filtered reports counted at once by a process; each keeps PostgreSQL busy for a second or more.
MAX_FILTERED = 2
FILTERED_WAIT_S = 10
_slots = threading.BoundedSemaphore(MAX_FILTERED)


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for one of the slots. Raises Unavailable after FILTERED_WAIT_S."""
    if not _slots.acquire(timeout=FILTERED_WAIT_S):
        raise Unavailable("Too many filtered reports are being counted; try again shortly.", retry_after_s=10)
    try:
        yield
    finally:
        _slots.release()


def digest(text: str) -> str:
    """Shorten text of the caller's for a cache key."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def answer_report(
    key: str, compute: Callable[[], Any], *, ttl_s: int, max_age_s: int, version: float = 0.0, renew: bool = True
) -> Response:
    """Answer from the cache, computing once for all who ask; an old answer stands in while PostgreSQL is away.

    `version` is when what the report reads changed last: an answer from before that is computed anew. With `renew`
    one in demand is computed anew beside the requests, shortly before its time is over.
    """
    entry = _keep_report(key, compute, ttl_s, version, _run_in_background if renew else None)
    return answer_kept(entry.value, max_age_s=max_age_s, cache_state=entry.state)


def _keep_report(
    key: str, compute: Callable[[], Any], ttl_s: int, version: float, in_background: InBackground | None
) -> Entry:
    return cache.wrap_entry(
        f"{key}:{KEPT_FORM}", lambda: keep(compute()), ttl=ttl_s, namespace="analytics", stale_on=(Unavailable,),
        version=version, in_background=in_background,
    )  # fmt: skip


def _run_in_background(work: Callable[[], None]) -> None:
    """Do work of this request beside it; what it costs the database counts for the request's route."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    rule, method = str(request.url_rule), request.method

    def run() -> None:
        with app.app_context(), recorder.route_scope(rule, method):
            work()

    threading.Thread(target=run, name="renewal", daemon=True).start()


def find_project(project_id: int) -> Project:
    """Return the project asked for, remembered for a moment. Raises NotFound."""
    return service().projects.get(project_id)


@api(
    "GET", "/projects/<int:project_id>/analytics", "Headline figures, series, lists and breakdowns of a range of days",
    scope="read", query=report.AnalyticsQuery, answer=report.AnalyticsReport,
)  # fmt: skip
def analytics(project_id: int, query: report.AnalyticsQuery) -> Response:
    """Answer the main report."""
    entry = _find_analytics(project_id, query, _run_in_background)
    return answer_kept(entry.value, max_age_s=300, cache_state=entry.state)


def _find_analytics(
    project_id: int, query: report.AnalyticsQuery, in_background: InBackground | None, *, note: bool = True
) -> Entry:
    """Return the main report from the cache, computed if it is not there."""
    zone = find_project(project_id).timezone
    now = datetime.now(UTC)
    chosen = period.resolve(query.start_date, query.end_date, query.granularity, zone, now)
    today = now.astimezone(ZoneInfo(zone)).date()
    is_open = chosen.end >= today

    filters = read_filters(query.filters)
    key = f"analytics:project:{project_id}:{chosen.start}:{chosen.end}:{zone}:{chosen.granularity}:{query.limit}"
    version = service().last_change(project_id, chosen.start, chosen.end)
    if query.compare:
        key += f":{query.compare}"
        other = chosen.before(query.compare)
        version = max(version, service().last_change(project_id, other.start, other.end))
    if filters:
        key += f":{digest(write_filters(filters))}"

    def compute() -> report.AnalyticsReport:
        with _turn() if filters else nullcontext():
            return service().database.run(
                lambda connection: report.analytics(
                    connection, project_id, chosen, query.limit, filters, query.compare
                )
            )

    open_s = FILTERED_OPEN_TTL_S if filters else OPEN_TTL_S
    ttl_s = open_s if is_open else CLOSED_TTL_S
    if note and not is_open and not filters:
        ago = (today - chosen.start).days, (today - chosen.end).days
        warmer().note(Question(project_id, *ago, query.granularity, query.limit, query.compare), today)
    return _keep_report(key, compute, ttl_s, version, None if filters else in_background)


def install_warmer(app: Flask, parts: Service) -> None:
    """Have what is asked of past days computed for each new day."""

    def answer(question: Question, today: date) -> None:
        start, end = (
            (today - timedelta(days=ago)).isoformat() for ago in (question.starts_ago, question.ends_ago)
        )
        query = report.AnalyticsQuery(start, end, question.granularity, question.limit, compare=question.compare)
        with app.app_context():
            _find_analytics(question.project_id, query, None, note=False)

    app.extensions[WARMER] = Warmer(
        answer, lambda project_id: parts.projects.get(project_id).timezone, parts.stopping
    )


def warmer() -> Warmer:
    """Return the running application's."""
    return cast(Warmer, current_app.extensions[WARMER])


@api(
    "GET", "/projects/<int:project_id>/realtime", "Who is on the site now",
    scope="read", answer=realtime.RealtimeReport,
)  # fmt: skip
def realtime_view(project_id: int) -> Response:
    """Answer the live report."""
    find_project(project_id)

    def compute() -> realtime.RealtimeReport:
        return service().database.run(
            lambda connection: realtime.realtime(connection, project_id, datetime.now(UTC))
        )

    return answer_report(f"realtime:project:{project_id}:now", compute, ttl_s=REALTIME_TTL_S, max_age_s=10)


@api(
    "GET", "/projects/<int:project_id>/events", "Single events, newest first, a page at a time",
    scope="read", query=events.EventsQuery, answer=events.EventsPage,
)  # fmt: skip
def events_view(project_id: int, query: events.EventsQuery) -> Response:
    """Answer a page of events; not cached, since each page is read once."""
    zone = find_project(project_id).timezone
    chosen = period.resolve(query.start_date, query.end_date, None, zone, datetime.now(UTC))
    page = service().database.run(
        lambda connection: events.events_page(connection, project_id, chosen, query, query.limit, query.cursor)
    )
    response = answer_json(page)
    response.headers["Cache-Control"] = "private, no-store"
    return response
