"""Past days packed into columns for filtered reports, by the background worker, a few at a time."""

import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Engine

from pulse.rollup.reading import Q as FOLD
from pulse.storage import segments
from pulse.storage.localtime import clock
from pulse.storage.schema import first_kept_on
from pulse.storage.segments import Q, plain

# A day's visits go on for a while after it has ended, and each that does must be read beside its pack.
SETTLED_AFTER = timedelta(hours=1)
# A pack is made anew at once when so many of its sessions have changed, else when it is so old.
MANY_LOOSE, REST = 200, timedelta(hours=1)
# A pack that was begun and not finished by then has been given up.
PATIENCE = timedelta(minutes=15)
# Projects that never had so many visits a day are read from their rows just as fast.
LEAST_VISITS = 500
# A busier day would take gigabytes at once; it is read from its rows.
MOST_VISITS = 2_000_000
# Other jobs of the lane wait so long at most, but for one day.
TURN_S = 1.0
LOOK_EVERY_S = 60.0


class Day(NamedTuple):
    """A project's local day, as instants."""

    project_id: int
    starts_at: datetime
    ends_at: datetime


class Packer:
    """Packs what is missing, newest days first, and makes anew what has changed much."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Day, date]] = []
        self._looked_at = -LOOK_EVERY_S

    def run(self, now: datetime | None = None) -> int:
        """Pack for TURN_S, at least a day; return how many."""
        started = time.monotonic()
        if not self._waiting and started - self._looked_at >= LOOK_EVERY_S:
            self._waiting = find_waiting(self._engine, now or datetime.now(UTC))
            self._looked_at = started
        done = 0
        while self._waiting and (not done or time.monotonic() - started < TURN_S):
            day, _ = self._waiting.pop()
            pack(self._engine, day)
            done += 1
        return done


def find_waiting(engine: Engine, now: datetime) -> list[tuple[Day, date]]:
    """Return the days to pack with their local dates, the last of them first: new ones, then those to make anew.

    Packs that are of no day any more (the project's time zone has changed) are deleted.
    """
    with engine.begin() as connection:
        kept_since = first_kept_on(connection)
        if kept_since is None:
            return []
        limits = {"many": MANY_LOOSE, "rest": REST, "patience": PATIENCE}
        packs = {Day(*row[:3]): row.is_due for row in connection.execute(Q.packs, limits)}
        oldest = datetime.combine(kept_since, datetime.min.time(), UTC)
        new: list[tuple[Day, date]] = []
        due: list[tuple[Day, date]] = []
        for row in connection.execute(Q.projects, {"kept_since": kept_since, "visits": LEAST_VISITS}).all():
            days = _days(row.timezone, row.first_day, now)
            visits = segments.count_visits(plain(connection), row.project_id, list(days))
            for day, (starts_at, ends_at) in days.items():
                found = Day(row.project_id, starts_at, ends_at)
                if starts_at >= oldest and visits.get(day, 0) <= MOST_VISITS:
                    is_due = packs.pop(found, None)
                    if is_due is not False:
                        (new if is_due is None else due).append((found, day))
            for stale in [pack for pack in packs if pack.project_id == row.project_id]:
                segments.forget_day(connection, stale.project_id, stale.starts_at)
    return sorted(due, key=lambda item: item[1]) + sorted(new, key=lambda item: item[1])


def _days(zone_name: str, first_day: date, now: datetime) -> dict[date, tuple[datetime, datetime]]:
    """Return the spans of the local days from the first on that have ended and settled."""
    days, day = {}, first_day
    while (span := _span(zone_name, day))[1] + SETTLED_AFTER <= now:
        days[day] = span
        day += timedelta(days=1)
    return days


@lru_cache(maxsize=20_000)
def _span(zone_name: str, day: date) -> tuple[datetime, datetime]:
    calendar = clock(zone_name)
    return calendar.day_start(day), calendar.day_start(day + timedelta(days=1))


def pack(engine: Engine, day: Day) -> bool:
    """Pack one day; tell whether the pack is there, and not deleted again meanwhile.

    The fold's lock is held for a moment only, so that no fold is under way when the pack is begun: what folds change
    from then on is noted in it. 110,000 events take 0.5 s.
    """
    with engine.begin() as connection:
        connection.execute(FOLD.begin_fold)
        begun_at = segments.begin(connection, *day)
    if begun_at is None:
        return False
    with engine.begin() as connection:
        connection.execute(FOLD.begin_rebuild)  # a busy day takes longer than requests may
        found = segments.read_between(plain(connection), *day)
        return segments.finish(connection, day.project_id, day.starts_at, begun_at, found)
