"""Campaigns: what the sessions did that a utm_campaign brought.

Read from the summaries' dimension 'campaign', whose values are campaign, source and medium with a separator between.
Conversions are completions of the project's goals in those sessions.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from sqlalchemy import Connection, Row

from pulse.reports.overview import percentage
from pulse.reports.period import DateRange, EndDate, Period, StartDate
from pulse.reports.visitors import count_joined
from pulse.storage.sql import load_queries

Q = load_queries("campaigns")

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
SEPARATOR = "\x1f"

Metric = Literal["sessions", "visitors", "conversions"]
CampaignLimit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description=f"Rows, from 1 to {MAX_LIMIT}")]
# In the order of CampaignFigures.
Values = tuple[int, int, int, float, float, int | None]


class CampaignsQuery(Struct, rename="camel", frozen=True):
    """Query parameters of the list."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None
    limit: CampaignLimit = DEFAULT_LIMIT


class TopCampaignsQuery(CampaignsQuery, rename="camel", frozen=True):
    """Query parameters of the best campaigns."""

    metric: Annotated[Metric, Meta(description="What the list is ordered by")] = "sessions"


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
    binds = bind(project_id, period, split=False, metric=metric, limit=limit)
    best = _by_visitors(connection, binds) if metric == "visitors" else list(connection.execute(Q.campaigns, binds))
    found = [TopCampaign(*_figures(row, with_goals), campaign=row.name) for row in best]
    return TopCampaignsReport(period.date_range, metric, found)


def _by_visitors(connection: Connection, binds: dict[str, Any]) -> list[Row[Any]]:
    """Return the rows with the most visitors.

    Visitors are known of counted rows alone: those with the most sessions are read until no other can have more.
    """
    limit, found = binds["limit"], dict[str, tuple[int, Row[Any]]]()
    window, skip = limit + 20, 0
    while True:
        rows = connection.execute(Q.campaigns, {**binds, "limit": window, "skip": skip}).all()
        found.update({row.name: (_visitors(row), row) for row in rows})
        best = sorted(found.values(), key=lambda pair: (-pair[0], -pair[1].sessions, pair[1].name))[:limit]
        if len(rows) < window or (len(best) == limit and best[-1][0] >= rows[-1].sessions):
            return [row for _, row in best]
        skip, window = skip + window, window * 4


def bind(project_id: int, period: Period, *, split: bool, metric: Metric, limit: int | None) -> dict[str, Any]:
    """Return the parameters of block `campaigns`; `limit` None is all."""
    span = {"start": period.start, "end": period.end}
    return {"project_id": project_id, **span, "split": split, "metric": metric, "limit": limit, "skip": 0}


def to_row(row: Row[Any], with_goals: bool) -> CampaignRow:
    """Return a row of block `campaigns` as the answer shows it."""
    campaign, source, medium = (*row.name.split(SEPARATOR), "", "")[:3]
    return CampaignRow(campaign, source or None, medium or None, *_figures(row, with_goals))


def has_goals(connection: Connection, project_id: int) -> bool:
    """Tell whether the project has any goal, without which there is no such thing as a conversion."""
    return bool(connection.execute(Q.has_goals, {"project_id": project_id}).scalar_one())


def _figures(row: Row[Any], with_goals: bool) -> Values:
    conversions = row.conversions if with_goals else None
    return to_values(row.sessions, row.pageviews, _visitors(row), row.bounces, row.duration_ms, conversions)


def _visitors(row: Row[Any]) -> int:
    # An estimate, but never more than there are sessions.
    return min(count_joined(row.sketches, row.lengths), int(row.sessions))


def to_values(
    sessions: int, pageviews: int, visitors: int, bounces: int, duration_ms: int, conversions: int | None
) -> Values:
    """Return sums as a campaign's figures."""
    seconds = round(duration_ms / 1000 / sessions, 2) if sessions else 0.0
    return sessions, pageviews, visitors, percentage(bounces, sessions), seconds, conversions
