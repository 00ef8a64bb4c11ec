"""The analytics report: everything the dashboard shows of a period."""

from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import Connection

from pulse.reports.breakdowns import Breakdowns, EventRow, PageRow, ReferrerRow, read_lists
from pulse.reports.overview import Overview, SeriesPoint, read_overview
from pulse.reports.period import DateRange, EndDate, Period, SeriesGranularity, StartDate

DEFAULT_LIMIT = 10
MAX_LIMIT = 100

ListLimit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="Rows of each list, from 1 to 100")]


class AnalyticsQuery(Struct, rename="camel", frozen=True):
    """Query parameters of the report."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None
    granularity: SeriesGranularity | None = None
    limit: ListLimit = DEFAULT_LIMIT


class AnalyticsReport(Struct, rename="camel", frozen=True):
    """Figures, series and lists of a period; the series is dense and in order, lists are ordered by an exact count."""

    date_range: DateRange
    overview: Overview
    time_series: list[SeriesPoint]
    top_pages: list[PageRow]
    top_referrers: list[ReferrerRow]
    breakdowns: Breakdowns
    top_events: list[EventRow]


def analytics(connection: Connection, project_id: int, period: Period, limit: int = DEFAULT_LIMIT) -> AnalyticsReport:
    """Return the report of a project in two statements, whatever the number of lists."""
    overview, series = read_overview(connection, project_id, period)
    lists = read_lists(connection, project_id, period, limit)
    return AnalyticsReport(
        date_range=period.date_range,
        overview=overview,
        time_series=series,
        top_pages=lists.top_pages,
        top_referrers=lists.top_referrers,
        breakdowns=lists.breakdowns,
        top_events=lists.top_events,
    )
