"""A report's period beside another one: the period before, or the same days of the year before."""

from msgspec import Struct
from sqlalchemy import Connection

from pulse.reports.filtered import read_filtered
from pulse.reports.filters import Filters
from pulse.reports.overview import Overview, SeriesPoint, change, read_overview
from pulse.reports.period import Comparison, DateRange, Period


class OverviewChange(Struct, rename="camel", frozen=True):
    """Change of the headline figures in percent, two decimals; null where the other period's figure is 0."""

    pageviews: float | None
    events: float | None
    unique_visitors: float | None
    sessions: float | None
    bounce_rate: float | None
    avg_session_duration_seconds: float | None
    pages_per_session: float | None


class ComparedPeriod(Struct, rename="camel", frozen=True):
    """The other period's figures and series, and how the report's own figures differ from them."""

    date_range: DateRange
    overview: Overview
    change: OverviewChange
    time_series: list[SeriesPoint]


def read_comparison(
    connection: Connection,
    project_id: int,
    period: Period,
    step: Comparison,
    overview: Overview,
    filters: Filters,
    timeout_s: float,
) -> ComparedPeriod | None:
    """Return the period to compare with, counted in the same way; None where it has no data.

    Raises Unavailable when counting with filters takes longer than `timeout_s`.
    """
    other = period.before(step)
    if filters:
        before, series, _ = read_filtered(connection, project_id, other, filters, 0, timeout_s=timeout_s)
    else:
        before, series = read_overview(connection, project_id, other)
    if not before.events and not before.sessions:
        return None
    names = OverviewChange.__struct_fields__
    return ComparedPeriod(
        date_range=other.date_range,
        overview=before,
        change=OverviewChange(*(change(getattr(overview, name), getattr(before, name)) for name in names)),
        time_series=series,
    )
