"""Campaigns beside each other, and against the period before."""

import re
from typing import Annotated, Any

from msgspec import Meta, Struct
from sqlalchemy import Connection, Row

from pulse.errors import Detail, Invalid
from pulse.reports.campaigns import SEPARATOR, CampaignFigures, Q, Values, has_goals, to_values
from pulse.reports.overview import change
from pulse.reports.period import DateRange, EndDate, Period, SeriesGranularity, StartDate
from pulse.reports.visitors import split_joined
from pulse.storage.sketch import estimate

MAX_COMPARED = 10
DEFAULT_COMPARED = 5
_COMMA = re.compile(r"(?<!\\),")


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


class _Sums:
    """Rows of one campaign added up."""

    def __init__(self) -> None:
        self.sessions = self.pageviews = self.bounces = self.duration_ms = 0
        self.sketches: list[bytes] = []

    def add(self, row: Row[Any]) -> None:
        """Add one bucket."""
        self.sessions += row.sessions
        self.pageviews += row.pageviews
        self.bounces += row.bounces
        self.duration_ms += row.duration_ms
        self.sketches += split_joined(row.sketches, row.lengths)

    def visitors(self) -> int:
        """Return the distinct visitors: an estimate, but never more than there are sessions."""
        return min(estimate(self.sketches), self.sessions)

    def values(self, conversions: int | None) -> Values:
        """Return the figures."""
        sums = self.sessions, self.pageviews, self.visitors(), self.bounces, self.duration_ms
        return to_values(*sums, conversions)


class _Campaign:
    """What is read of one campaign; points are (sessions, visitors) by number of the bucket, from 0."""

    def __init__(self) -> None:
        self.current, self.previous = _Sums(), _Sums()
        self.points: dict[int, tuple[int, int]] = {}


def compare_campaigns(
    connection: Connection, project_id: int, period: Period, names: list[str] | None
) -> CampaignComparison:
    """Return figures, change and series of the named campaigns, by default of those with the most sessions."""
    before = period.previous()
    if names is None:
        span = {"start": period.start, "end": period.end, "limit": DEFAULT_COMPARED}
        names = list(connection.execute(Q.biggest, {"project_id": project_id, **span}).scalars())
    keys = [name.replace(SEPARATOR, " ") for name in names]
    wanted = {"project_id": project_id, "campaigns": keys}
    found = [_Campaign() for _ in names]
    if names:
        _read_days(connection, wanted, period, found)
    if names and period.granularity == "hour":
        _read_hours(connection, wanted, period, found)
    conversions = _read_conversions(connection, wanted, period, before)
    labels = _labels(period)
    compared = [
        _compare(name, one, labels, conversions.get(key, (None, None)))
        for name, key, one in zip(names, keys, found, strict=True)
    ]
    return CampaignComparison(period.date_range, before.date_range, compared)


def _read_days(connection: Connection, wanted: dict[str, Any], period: Period, found: list[_Campaign]) -> None:
    """Read the sums of both periods, and the points of a series of days or longer."""
    before = period.previous()
    buckets = [(before.start, before.end)]
    buckets += [(period.start, period.end)] if period.granularity == "hour" else period.day_spans()
    firsts, lasts = zip(*buckets, strict=True)
    for row in connection.execute(Q.compare, {**wanted, "firsts": list(firsts), "lasts": list(lasts)}):
        campaign = found[row.place - 1]
        if row.bucket == 1:
            campaign.previous.add(row)
            continue
        campaign.current.add(row)
        if period.granularity != "hour":
            point = _Sums()
            point.add(row)
            campaign.points[row.bucket - 2] = point.sessions, point.visitors()


def _read_hours(connection: Connection, wanted: dict[str, Any], period: Period, found: list[_Campaign]) -> None:
    span = {"hours": period.hour_buckets(), "starts_at": period.starts_at, "ends_at": period.ends_at}
    for row in connection.execute(Q.compare_hours, {**wanted, **span}):
        found[row.place - 1].points[row.hour - 1] = row.sessions, row.visitors


def _read_conversions(
    connection: Connection, wanted: dict[str, Any], period: Period, before: Period
) -> dict[str, tuple[int | None, int | None]]:
    """Return the conversions now and before by campaign; nothing where the project has no goals."""
    conversions: dict[str, tuple[int | None, int | None]] = {}
    if wanted["campaigns"] and has_goals(connection, wanted["project_id"]):
        conversions.update(dict.fromkeys(wanted["campaigns"], (0, 0)))
        days = {"previous_start": before.start, "start": period.start, "end": period.end}
        rows = connection.execute(Q.conversions, {**wanted, **days})
        conversions.update({row.campaign: (row.current, row.previous) for row in rows})
    return conversions


def _labels(period: Period) -> list[str]:
    if period.granularity == "hour":
        return [period.label_hour(at) for at in period.hour_buckets()]
    return [bucket.isoformat() for bucket in period.day_buckets()]


def _compare(
    name: str, found: _Campaign, labels: list[str], conversions: tuple[int | None, int | None]
) -> ComparedCampaign:
    current, previous = found.current.values(conversions[0]), found.previous.values(conversions[1])
    points = [CampaignPoint(label, *found.points.get(number, (0, 0))) for number, label in enumerate(labels)]
    return ComparedCampaign(
        campaign=name,
        current=CampaignFigures(*current),
        previous=CampaignFigures(*previous),
        change=CampaignChange(*map(change, current, previous)),
        time_series=points,
    )
