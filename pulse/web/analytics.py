"""The report endpoints, each through the cache."""

import hashlib
from collections.abc import Callable
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
from pulse.web.computing import Renewals, Slots
from pulse.web.http import Api, answer_json
from pulse.web.kept import KEPT_FORM, answer_kept, keep
from pulse.web.service import Service, service
from pulse.web.warming import Question, Warmer

WARMER = "pulse_warmer"
# What the cache's counters count reports under.
NAMESPACE = "analytics"

blueprint = Blueprint("analytics", __name__)
api = Api(blueprint, "Reports")

# Ranges that still gather events are computed anew after seconds; closed ones after a day, or when they change.
OPEN_TTL_S = 3
CLOSED_TTL_S = 86_400
REALTIME_TTL_S = 1
# A filtered report is counted from the facts, at a hundred times the cost.
FILTERED_OPEN_TTL_S = 30

# Reports computed at once by a process: a filtered one keeps PostgreSQL busy for a second or more, another for 50 ms.
_filtered = Slots(2, "Too many filtered reports are being counted; try again shortly.")
_computed = Slots(2, "Too many reports are being computed; try again shortly.")
_renewals = Renewals(_computed, OPEN_TTL_S / 3)
# Reports that are computed in a moment do not wait behind the others.
_quick_renewals = Renewals()


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
    entry = _keep_report(key, compute, ttl_s, version, _quick_renewals if renew else None)
    return answer_kept(entry, max_age_s=max_age_s, namespace=NAMESPACE)


def _keep_report(
    key: str, compute: Callable[[], Any], ttl_s: int, version: float, renewals: Renewals | None
) -> Entry:
    """Return the answer from the cache, computed if it is not there; `renewals` take what is to be computed anew."""

    def renew(work: Callable[[], None]) -> None:
        assert renewals is not None
        renewals.add(key, _as_this_request(work))

    return cache.wrap_entry(
        f"{key}:{KEPT_FORM}", lambda: keep(compute()), ttl=ttl_s, namespace=NAMESPACE, stale_on=(Unavailable,),
        version=version, in_background=renew if renewals else None,
    )  # fmt: skip


def _as_this_request(work: Callable[[], None]) -> Callable[[], None]:
    """Return work to be done beside this request; what it costs the database counts for the request's route."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    rule, method = str(request.url_rule), request.method

    def run() -> None:
        with app.app_context(), recorder.route_scope(rule, method):
            work()

    return run


def find_project(project_id: int) -> Project:
    """Return the project asked for, remembered for a moment. Raises NotFound."""
    return service().projects.get(project_id)


@api(
    "GET", "/projects/<int:project_id>/analytics", "Headline figures, series, lists and breakdowns of a range of days",
    scope="read", query=report.AnalyticsQuery, answer=report.AnalyticsReport,
)  # fmt: skip
def analytics(project_id: int, query: report.AnalyticsQuery) -> Response:
    """Answer the main report."""
    entry = _find_analytics(project_id, query)
    return answer_kept(entry, max_age_s=300, namespace=NAMESPACE)


def _find_analytics(project_id: int, query: report.AnalyticsQuery, *, is_asked: bool = True) -> Entry:
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
        with (_filtered if filters else _computed).turn():
            return service().database.run(
                lambda connection: report.analytics(
                    connection, project_id, chosen, query.limit, filters, query.compare
                )
            )

    open_s = FILTERED_OPEN_TTL_S if filters else OPEN_TTL_S
    ttl_s = open_s if is_open else CLOSED_TTL_S
    if is_asked and not is_open and not filters:
        ago = (today - chosen.start).days, (today - chosen.end).days
        warmer().note(Question(project_id, *ago, query.granularity, query.limit, query.compare), today)
    return _keep_report(key, compute, ttl_s, version, _renewals if is_asked and not filters else None)


def install_warmer(app: Flask, parts: Service) -> None:
    """Have what is asked of past days computed for each new day."""

    def answer(question: Question, today: date) -> None:
        start, end = (
            (today - timedelta(days=ago)).isoformat() for ago in (question.starts_ago, question.ends_ago)
        )
        query = report.AnalyticsQuery(start, end, question.granularity, question.limit, compare=question.compare)
        with app.app_context():
            _find_analytics(question.project_id, query, is_asked=False)

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
