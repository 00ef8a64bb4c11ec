"""Campaigns: what the sessions did that a utm_campaign brought.

Counted from sessions, so visitors are exact. Conversions are completions of the project's goals in those sessions.
"""

import re
from collections import defaultdict
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from sqlalchemy import Connection, Row

from pulse.errors import Detail, Invalid
from pulse.reports.overview import percentage
from pulse.reports.period import DateRange, EndDate, Period, SeriesGranularity, StartDate
from pulse.storage.localtime import clock
from pulse.storage.sql import load_queries

Q = load_queries("campaigns")

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
MAX_COMPARED = 10
DEFAULT_COMPARED = 5

Metric = Literal["sessions", "visitors", "conversions"]
CampaignLimit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description=f"Rows, from 1 to {MAX_LIMIT}")]
# In the order of CampaignFigures.
Values = tuple[int, int, int, float, float, int | None]
_COMMA = re.compile(r"(?<!\\),")


class CampaignsQuery(Struct, rename="camel", frozen=True):
    """Query parameters of the list."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None
    limit: CampaignLimit = DEFAULT_LIMIT


class TopCampaignsQuery(CampaignsQuery, rename="camel", frozen=True):
    """Query parameters of the best campaigns."""

    metric: Annotated[Metric, Meta(description="What the list is ordered by")] = "sessions"


class CompareCampaignsQuery(Struct, rename="camel", frozen=True):
    """Query parameters of the comparison."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None
    granularity: SeriesGranularity | None = None
    campaigns: (
        Annotated[
            str,
            Meta(
                max_length=4000,
                pattern=r"^[^\x00]+$",
                description=f"Up to {MAX_COMPARED} campaigns with commas between them (a comma within a name is"
                rf" written \,). Default: the {DEFAULT_COMPARED} with the most sessions",
            ),
        ]
        | None
    ) = None


class CampaignRow(Struct, rename="camel", frozen=True):
    """A campaign from one source and medium; `conversions` is null where the project has no goals."""

    campaign: str
    source: str | None
    medium: str | None
    sessions: int
    pageviews: int
    unique_visitors: int
    bounce_rate: float  # percent, two decimals
    avg_session_duration_seconds: float  # two decimals
    conversions: int | None


class CampaignsReport(Struct, rename="camel", frozen=True):
    """Campaigns of a period, most sessions first."""

    date_range: DateRange
    campaigns: list[CampaignRow]


class CampaignFigures(Struct, rename="camel", frozen=True):
    """Figures of one campaign over all its sources and media."""

    sessions: int
    pageviews: int
    unique_visitors: int
    bounce_rate: float
    avg_session_duration_seconds: float
    conversions: int | None


class TopCampaign(CampaignFigures, rename="camel", frozen=True, kw_only=True):
    """A campaign over all its sources and media."""

    campaign: str


class TopCampaignsReport(Struct, rename="camel", frozen=True):
    """The best campaigns of a period by one figure, best first."""

    date_range: DateRange
    metric: Metric
    campaigns: list[TopCampaign]


class CampaignChange(Struct, rename="camel", frozen=True):
    """Change against the period before in percent, two decimals; null where there was nothing to compare with."""

    sessions: float | None
    pageviews: float | None
    unique_visitors: float | None
    bounce_rate: float | None
    avg_session_duration_seconds: float | None
    conversions: float | None


class CampaignPoint(Struct, rename="camel", frozen=True):
    """One bucket of a campaign's series, named as in the analytics report."""

    period: str
    sessions: int
    unique_visitors: int


class ComparedCampaign(Struct, rename="camel", frozen=True):
    """One campaign now and before; the series is dense and in order."""

    campaign: str
    current: CampaignFigures
    previous: CampaignFigures
    change: CampaignChange
    time_series: list[CampaignPoint]


class CampaignComparison(Struct, rename="camel", frozen=True):
    """Campaigns beside each other and against the period of the same length before; in the order asked for."""

    date_range: DateRange
    previous_date_range: DateRange
    campaigns: list[ComparedCampaign]


def read_names(text: str | None) -> list[str] | None:
    r"""Split a list of campaigns at commas, except `\,`. Raises Invalid naming `campaigns`."""
    if text is None:
        return None
    names = [part.strip().replace("\\,", ",") for part in _COMMA.split(text)]
    names = list(dict.fromkeys(name for name in names if name))
    if not 1 <= len(names) <= MAX_COMPARED:
        problem = f"must be from 1 to {MAX_COMPARED} names with commas between them, not {len(names)}"
        raise Invalid("The campaigns to compare can't be read.", details=[Detail("campaigns", problem)])
    return names


def campaigns(connection: Connection, project_id: int, period: Period, limit: int = DEFAULT_LIMIT) -> CampaignsReport:
    """Return the campaigns of a period by source and medium, most sessions first."""
    with_goals = has_goals(connection, project_id)
    rows = connection.execute(Q.campaigns, bind(project_id, period, split=True, metric="sessions", limit=limit))
    return CampaignsReport(period.date_range, [to_row(row, with_goals) for row in rows])


def top_campaigns(
    connection: Connection, project_id: int, period: Period, metric: Metric, limit: int = DEFAULT_LIMIT
) -> TopCampaignsReport:
    """Return whole campaigns, best first by one figure, equal ones by sessions, then by name."""
    with_goals = has_goals(connection, project_id)
    rows = connection.execute(Q.campaigns, bind(project_id, period, split=False, metric=metric, limit=limit))
    found = ((row.utm_campaign, _figures(row, row.conversions if with_goals else None)) for row in rows)
    best = [TopCampaign(*figures, campaign=name) for name, figures in found]
    return TopCampaignsReport(period.date_range, metric, best)


def compare_campaigns(
    connection: Connection, project_id: int, period: Period, names: list[str] | None
) -> CampaignComparison:
    """Return figures, change and series of the named campaigns, by default of those with the most sessions."""
    if names is None:
        span = {"starts_at": period.starts_at, "ends_at": period.ends_at, "limit": DEFAULT_COMPARED}
        names = list(connection.execute(Q.biggest, {"project_id": project_id, **span}).scalars())
    before = period.previous()
    labels, bounds = _buckets(period)
    conversions: dict[str, tuple[int | None, int | None]] = {}
    wanted = {"project_id": project_id, "campaigns": names}
    if has_goals(connection, project_id):
        days = {"previous_start": before.start, "start": period.start, "end": period.end}
        found = connection.execute(Q.conversions, {**wanted, **days})
        conversions.update(dict.fromkeys(names, (0, 0)))
        conversions.update({row.utm_campaign: (row.current, row.previous) for row in found})
    rows: defaultdict[str, dict[int | None, Row[Any]]] = defaultdict(dict)
    if names:
        instants = {"bounds": bounds, "starts_at": before.starts_at, "ends_at": period.ends_at}
        for row in connection.execute(Q.compare, {**wanted, **instants}):
            rows[names[row.place - 1]][row.bucket] = row
    compared = [_compare(name, rows[name], labels, conversions.get(name, (None, None))) for name in names]
    return CampaignComparison(period.date_range, before.date_range, compared)


def bind(project_id: int, period: Period, *, split: bool, metric: Metric, limit: int | None) -> dict[str, Any]:
    """Return the parameters of block `campaigns`; `limit` None is all."""
    return {
        "project_id": project_id,
        "starts_at": period.starts_at,
        "ends_at": period.ends_at,
        "start": period.start,
        "end": period.end,
        "split": split,
        "metric": metric,
        "limit": limit,
    }


def to_row(row: Row[Any], with_goals: bool) -> CampaignRow:
    """Return a row of block `campaigns` as the answer shows it."""
    figures = _figures(row, row.conversions if with_goals else None)
    return CampaignRow(row.utm_campaign, row.utm_source, row.utm_medium, *figures)


def has_goals(connection: Connection, project_id: int) -> bool:
    """Tell whether the project has any goal, without which there is no such thing as a conversion."""
    return bool(connection.execute(Q.has_goals, {"project_id": project_id}).scalar_one())


def _figures(row: Row[Any], conversions: int | None) -> Values:
    return _to_values(row.sessions, row.pageviews, row.visitors, row.bounces, row.duration_s, conversions)


def _to_values(
    sessions: int, pageviews: int, visitors: int, bounces: int, duration_s: float, conversions: int | None
) -> Values:
    seconds = round(duration_s / sessions, 2) if sessions else 0.0
    return sessions, pageviews, visitors, percentage(bounces, sessions), seconds, conversions


def _buckets(period: Period) -> tuple[list[str], list[datetime]]:
    """Return the names of the buckets and the instants they begin."""
    if period.granularity == "hour":
        hours = period.hour_buckets()
        return [period.label_hour(at) for at in hours], hours
    firsts: defaultdict[date, date] = defaultdict(lambda: date.max)
    for step in range(period.days):
        day = period.start + timedelta(days=step)
        bucket = period.bucket_of(day)
        firsts[bucket] = min(firsts[bucket], day)
    calendar = clock(period.timezone)
    return [bucket.isoformat() for bucket in firsts], [calendar.day_start(day) for day in firsts.values()]


def _compare(
    name: str, rows: dict[int | None, Row[Any]], labels: list[str], conversions: tuple[int | None, int | None]
) -> ComparedCampaign:
    buckets = [rows[number] for number in range(1, len(labels) + 1) if number in rows]
    current = _to_values(
        sum(row.sessions for row in buckets), sum(row.pageviews for row in buckets),
        rows[None].visitors if buckets else 0, sum(row.bounces for row in buckets),
        sum(row.duration_s for row in buckets), conversions[0],
    )  # fmt: skip
    previous = _figures(rows[0], conversions[1]) if 0 in rows else _to_values(0, 0, 0, 0, 0.0, conversions[1])
    points = []
    for number, label in enumerate(labels, start=1):
        row = rows.get(number)
        points.append(CampaignPoint(label, row.sessions if row else 0, row.visitors if row else 0))
    return ComparedCampaign(
        campaign=name,
        current=CampaignFigures(*current),
        previous=CampaignFigures(*previous),
        change=CampaignChange(*map(_change, current, previous)),
        time_series=points,
    )


def _change(now: float | None, before: float | None) -> float | None:
    if now is None or not before:
        return None
    return round(100 * (now - before) / before, 2)
