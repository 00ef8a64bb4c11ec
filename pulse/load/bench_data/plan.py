"""What a set of bench data consists of: its projects, how many events each of their days gets, and its size on disk."""

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from pulse.storage.localtime import clock

# Bytes on disk of an event with all that is made of it (indexes, its part of a session, summaries), and what the set
# takes besides: summaries grow with days and pages rather than with events, and PostgreSQL's log stands beside them.
BYTES_PER_EVENT = 390
BYTES_PER_DAY = 1_000_000
LOG_BYTES = 5 * 2**30

_WEEKDAYS = (1.04, 1.10, 1.12, 1.08, 0.98, 0.72, 0.66)
_GROWTH = 0.35
_NOISE = 0.08
_SETS = uuid.UUID("5a0c1f0e-3f5b-4e0c-9a5d-8c1f6f1a7e21")


@dataclass(frozen=True, slots=True)
class Site:
    """One project's part of the set: its share of the events, and how varied what happens there is."""

    number: int
    name: str
    timezone: str
    share: float
    pages: int
    campaigns: int
    referrers: int


SITES = (
    Site(0, "Bench large", "Europe/Berlin", 0.72, 2_000, 50, 200),
    Site(1, "Bench medium", "America/New_York", 0.25, 500, 20, 80),
    Site(2, "Bench small", "Asia/Kolkata", 0.03, 60, 4, 10),
)


@dataclass(frozen=True, slots=True)
class Task:
    """One project's local day to fill; `writer` marks its batches as this set's."""

    site: Site
    project_id: int
    day: date
    events: int
    usual_events: int
    starts_ms: int
    ends_ms: int
    seed: int
    writer: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A set: so many events over the `days` up to `last_day`, for the given projects in the order of SITES."""

    events: int
    days: int
    last_day: date
    seed: int
    project_ids: tuple[int, ...]
    timezones: tuple[str, ...]

    @property
    def first_day(self) -> date:
        """The first day."""
        return self.last_day - timedelta(days=self.days - 1)

    @property
    def disk_bytes(self) -> int:
        """What the set takes on disk, with the log that PostgreSQL writes ahead."""
        return self.events * BYTES_PER_EVENT + self.days * BYTES_PER_DAY * len(self.project_ids) + LOG_BYTES

    def writer(self, number: int) -> str:
        """Return the name that marks the batches of one project: another for every other set."""
        text = f"{self.seed}/{self.events}/{self.days}/{self.last_day}/{number}/{len(self.project_ids)}"
        return str(uuid.uuid5(_SETS, text))

    def tasks(self) -> Iterator[Task]:
        """Give out every project's days, oldest first; the events of all tasks together are `events` exactly."""
        sites = SITES[: len(self.project_ids)]
        shares = _split(self.events, [site.share for site in sites])
        for site, project_id, zone, events in zip(sites, self.project_ids, self.timezones, shares, strict=True):
            calendar = clock(zone)
            days = [self.first_day + timedelta(days=step) for step in range(self.days)]
            busy = [_busyness(self.seed, site.number, day, step / self.days) for step, day in enumerate(days)]
            for day, count in zip(days, _split(events, busy), strict=True):
                starts, ends = calendar.day_start(day), calendar.day_start(day + timedelta(days=1))
                if count and starts < ends:
                    yield Task(
                        site, project_id, day, count, math.ceil(events / self.days), round(starts.timestamp() * 1000),
                        round(ends.timestamp() * 1000), self.seed, self.writer(site.number),
                    )  # fmt: skip


def _split(total: int, weights: list[float]) -> list[int]:
    """Share a number out by weights, to the last one."""
    ends = np.rint(np.cumsum(weights) / sum(weights) * total).astype(int)
    return [int(count) for count in np.diff(ends, prepend=0)]


def _busyness(seed: int, number: int, day: date, done: float) -> float:
    """Return a day's weight: by weekday, slowly growing, never quite the same."""
    noise = np.random.default_rng([seed, number, day.toordinal(), 1]).normal(0, _NOISE)
    return _WEEKDAYS[day.weekday()] * (1 + _GROWTH * done) * math.exp(noise)
