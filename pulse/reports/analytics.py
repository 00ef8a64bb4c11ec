"""The analytics report: everything the dashboard shows of a period."""

import time
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import Connection

from pulse.reports.breakdowns import Breakdowns, EventRow, PageRow, ReferrerRow, read_lists
from pulse.reports.comparison import ComparedPeriod, read_comparison
from pulse.reports.facts import TIMEOUT_S
from pulse.reports.filtered import read_filtered
from pulse.reports.filters import Filters, FilterText
from pulse.reports.overview import Overview, SeriesPoint, read_overview
from pulse.reports.period import Comparison, DateRange, EndDate, Period, SeriesGranularity, StartDate

DEFAULT_LIMIT = 10
MAX_LIMIT = 100

ListLimit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="Rows of each list, from 1 to 100")]


class AnalyticsQuery(Struct, rename="camel", frozen=True):
    """Query parameters of the report."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None
    granularity: SeriesGranularity | None = None
    limit: ListLimit = DEFAULT_LIMIT
    filters: FilterText | None = None
    compare: (
        Annotated[
            Comparison,
            Meta(description="Compare with the period before, or with the same days of the year before"),
        ]
        | None
    ) = None


class AnalyticsReport(Struct, rename="camel", frozen=True):
    """Figures, series and lists of a period; the series is dense and in order, lists are ordered by an exact count.

    `comparison` is there when it was asked for, null where the other period has no data.
    """

    date_range: DateRange
    overview: Overview
    time_series: list[SeriesPoint]
    top_pages: list[PageRow]
    top_referrers: list[ReferrerRow]
    breakdowns: Breakdowns
    top_events: list[EventRow]
    comparison: ComparedPeriod | None | UnsetType = UNSET


def analytics(
    connection: Connection,
    project_id: int,
    period: Period,
    limit: int = DEFAULT_LIMIT,
    filters: Filters = (),
    compare: Comparison | None = None,
) -> AnalyticsReport:
    """Return the report of a project: from summaries in a few statements, or with filters from the facts.

    Raises Unavailable when counting the facts takes too long.
    """
    until = time.monotonic() + TIMEOUT_S
    if filters:
        overview, series, lists = read_filtered(connection, project_id, period, filters, limit)
    else:
        overview, series = read_overview(connection, project_id, period)
        lists = read_lists(connection, project_id, period, limit)
    comparison: ComparedPeriod | None | UnsetType = UNSET
    if compare is not None:
        left_s = until - time.monotonic()
        comparison = read_comparison(connection, project_id, period, compare, overview, filters, left_s)
    return AnalyticsReport(
        date_range=period.date_range,
        overview=overview,
        time_series=series,
        top_pages=lists.top_pages,
        top_referrers=lists.top_referrers,
        breakdowns=lists.breakdowns,
        top_events=lists.top_events,
        comparison=comparison,
    )
