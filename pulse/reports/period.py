"""The period of a report: local days of a project's time zone, the instants that bound them, and its buckets."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from pulse.errors import Detail, Invalid
from pulse.storage.localtime import clock

Granularity = Literal["hour", "day", "week", "month"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)

Comparison = Literal["previous", "year"]

DEFAULT_DAYS = 30
MAX_DAYS = 5 * 366
MAX_HOURLY_DAYS = 31
FIRST_DAY = date(2000, 1, 1)
LAST_DAY = date(2099, 12, 31)

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DAY_RULE = f"must be a day such as 2026-03-31, from {FIRST_DAY} to {LAST_DAY}"

StartDate = Annotated[
    str,
    Meta(
        description="First day, in the project's time zone, as YYYY-MM-DD; default: 29 days before endDate",
        extra_json_schema={"format": "date"},
    ),
]
EndDate = Annotated[
    str,
    Meta(
        description="Last day (included), in the project's time zone, as YYYY-MM-DD; default: today",
        extra_json_schema={"format": "date"},
    ),
]
SeriesGranularity = Annotated[
    Granularity,
    Meta(
        description=f"Length of a bucket of the time series; hours cover at most {MAX_HOURLY_DAYS} days."
        " Default: hour up to 2 days, day up to 92, week up to 366, else month"
    ),
]


class DateRange(Struct, rename="camel", frozen=True):
    """The days a report covers, both included."""

    start: date
    end: date
    timezone: str
    granularity: Granularity


@dataclass(frozen=True, slots=True)
class Period:
    """The local days from `start` to `end`, both included, in the IANA zone `timezone`."""

    start: date
    end: date
    timezone: str
    granularity: Granularity

    @property
    def days(self) -> int:
        """How many local days it covers."""
        return (self.end - self.start).days + 1

    @property
    def starts_at(self) -> datetime:
        """The instant the first day begins."""
        return clock(self.timezone).day_start(self.start)

    @property
    def ends_at(self) -> datetime:
        """The instant after the last day: the first that is outside."""
        return clock(self.timezone).day_start(self.end + timedelta(days=1))

    @property
    def date_range(self) -> DateRange:
        """The period as an answer shows it."""
        return DateRange(self.start, self.end, self.timezone, self.granularity)

    def previous(self) -> "Period":
        """Return the period of the same number of days that ends the day before this one starts."""
        days = timedelta(days=self.days)
        return Period(self.start - days, self.end - days, self.timezone, self.granularity)

    def before(self, step: Comparison) -> "Period":
        """Return the period to compare this one with.

        Whole calendar months are compared with as many whole months: before them, or of the year before. Other days
        are compared with as many days before them, or with the same days of the year before (28 February for the 29th).
        """
        months = self._whole_months()
        if months:
            back = months if step == "previous" else 12
            last = _add_months(self.end.replace(day=1), 1 - back) - timedelta(days=1)
            return Period(_add_months(self.start, -back), last, self.timezone, self.granularity)
        if step == "previous":
            return self.previous()
        return Period(_year_before(self.start), _year_before(self.end), self.timezone, self.granularity)

    def _whole_months(self) -> int:
        """How many calendar months it is, 0 if it is not whole ones."""
        if self.start.day != 1 or (self.end + timedelta(days=1)).day != 1:
            return 0
        return (self.end.year - self.start.year) * 12 + self.end.month - self.start.month + 1

    def bucket_of(self, day: date) -> date:
        """Return the day that names the bucket of `day`: itself, its week's Monday, or the first of its month."""
        if self.granularity == "week":
            return day - timedelta(days=day.weekday())
        if self.granularity == "month":
            return day.replace(day=1)
        return day

    def day_buckets(self) -> list[date]:
        """List the names of the buckets in order.

        The first and the last week or month count only the days inside the period.
        """
        found = (self.bucket_of(self.start + timedelta(days=n)) for n in range(self.days))
        return list(dict.fromkeys(found))

    def day_spans(self) -> list[tuple[date, date]]:
        """List the first and last day of each of these buckets that lie inside the period."""
        firsts = dict[date, date]()
        for step in range(self.days):
            day = self.start + timedelta(days=step)
            firsts.setdefault(self.bucket_of(day), day)
        starts = list(firsts.values())
        return list(zip(starts, [day - timedelta(days=1) for day in starts[1:]] + [self.end], strict=True))

    def hour_buckets(self) -> list[datetime]:
        """List the instants (UTC) at which the local hours begin, in order; 23 or 25 on a day the clocks change."""
        return clock(self.timezone).hours(self.start, self.end)

    def buckets(self) -> tuple[list[str], list[datetime]]:
        """Return the names of the buckets and the instants (UTC) they begin, in order; the first with the period."""
        if self.granularity == "hour":
            hours = self.hour_buckets()
            return [self.label_hour(at) for at in hours], hours
        day_start = clock(self.timezone).day_start
        return [day.isoformat() for day in self.day_buckets()], [day_start(first) for first, _ in self.day_spans()]

    def label_hour(self, starts_at: datetime) -> str:
        """Write the start of an hour as local time with offset, which tells the two 02:00 of autumn apart."""
        return starts_at.astimezone(clock(self.timezone).zone).isoformat()


def _add_months(first: date, months: int) -> date:
    """Return the first of the month so many months after the month of `first`."""
    count = first.year * 12 + first.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def _year_before(day: date) -> date:
    return day.replace(year=day.year - 1, day=28 if (day.month, day.day) == (2, 29) else day.day)


def resolve(start: str | None, end: str | None, granularity: str | None, timezone: str, now: datetime) -> Period:
    """Make the period a client asked for; by default the last 30 days, today included.

    Raises Invalid naming startDate, endDate or granularity and its limit.
    """
    problems: list[Detail] = []
    today = min(max(clock(timezone).day(now), FIRST_DAY), LAST_DAY)
    last = _read_day("endDate", end, problems) if end is not None else today
    first = _read_day("startDate", start, problems) if start is not None else None
    if first is None and start is None and last is not None:
        first = max(last - timedelta(days=DEFAULT_DAYS - 1), FIRST_DAY)
    if granularity is not None and granularity not in GRANULARITIES:
        problems.append(Detail("granularity", f"must be one of {', '.join(GRANULARITIES)}"))
    if first is None or last is None or problems:
        raise _invalid(problems)
    return _check(first, last, granularity, timezone, "startDate" if end is None else "endDate")


def _read_day(field: str, text: str, problems: list[Detail]) -> date | None:
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or not FIRST_DAY <= day <= LAST_DAY:
        problems.append(Detail(field, _DAY_RULE))
        return None
    return day


def _check(first: date, last: date, granularity: str | None, timezone: str, blamed: str) -> Period:
    days = (last - first).days + 1
    if days < 1:
        raise _invalid([Detail(blamed, f"the period would end on {last}, before it starts on {first}")])
    if days > MAX_DAYS:
        raise _invalid([Detail("startDate", f"must be at most {MAX_DAYS} days (5 years) before endDate, not {days}")])
    if granularity == "hour" and days > MAX_HOURLY_DAYS:
        problem = f"hour covers at most {MAX_HOURLY_DAYS} days, not {days}; take day"
        raise _invalid([Detail("granularity", problem)])
    chosen = next((g for g in GRANULARITIES if g == granularity), None) or default_granularity(days)
    return Period(first, last, timezone, chosen)


def _invalid(problems: list[Detail]) -> Invalid:
    return Invalid("The period can't be read.", details=problems)


def default_granularity(days: int) -> Granularity:
    """Choose buckets that give a graph between 4 and 92 points, 60 months at most."""
    if days <= 2:
        return "hour"
    if days <= 92:
        return "day"
    return "week" if days <= 366 else "month"
