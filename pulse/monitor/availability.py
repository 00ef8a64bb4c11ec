"""How much of the time the service was ready and failed under 1 % of its requests, by the minutes kept."""

from time import time

import msgspec
from sqlalchemy import Connection

from pulse.monitor.meter import MINUTE_S, SLICE_S
from pulse.monitor.samples import DAY_S, HOUR_S, Q

TARGET_PERCENT = 99.9
MONTH_S = 30 * DAY_S
# With fewer minutes the share is told and not judged: of three, one is 33 %.
MIN_MINUTES = 10
# Figures this old are of a time in which nobody could write: the minutes since then were not available.
LATE_S = 120


class Share(msgspec.Struct, rename="camel"):
    """Available minutes of a span; `percent` is null before the first minute. `since` is epoch seconds."""

    minutes: int
    available_minutes: int
    percent: float | None
    status: str
    since: float


class Availability(msgspec.Struct, rename="camel"):
    """The last 24 hours and the last 30 days, or as much of them as was kept; as of `at`, epoch seconds."""

    at: float
    day: Share
    month: Share


def read(connection: Connection, now: float | None = None) -> Availability:
    """Count the available minutes (an index scan of 1,440 and one of 720 rows)."""
    now = time() if now is None else now
    last = connection.execute(Q.last_sample, {"step_s": SLICE_S}).scalar()
    oldest = connection.execute(Q.first_samples).one()
    this_minute = int(now) // MINUTE_S * MINUTE_S
    written_until = 0 if last is None else (last + SLICE_S) // MINUTE_S * MINUTE_S
    until = min(max(written_until, this_minute - LATE_S), this_minute)
    # The first minute is left out: the service was started somewhere in it.
    first = until if oldest.minute is None else oldest.minute + MINUTE_S
    # An hour counts whole when it was over before the minutes begin; in the one with the first minute, a service that
    # was started at its very end would have been away for all of it.
    if oldest.hour is not None and (until if oldest.minute is None else oldest.minute) - oldest.hour >= HOUR_S:
        first = oldest.hour
    day = _count(connection, MINUTE_S, max(first, until - DAY_S), until)
    return Availability(now, day, _count(connection, HOUR_S, max(first, until - MONTH_S), until))


def _count(connection: Connection, step_s: int, first: int, until: int) -> Share:
    start = first // step_s * step_s
    values = {"step_s": step_s, "first": start, "until": until}
    available = int(connection.execute(Q.available_minutes, values).scalar_one())
    minutes = max((until - first) // MINUTE_S, 0)
    available = min(available, minutes)
    if not minutes:
        return Share(0, 0, None, "noData", float(first))
    percent = 100.0 * available / minutes
    status = "noData" if minutes < MIN_MINUTES else "met" if percent >= TARGET_PERCENT else "missed"
    return Share(minutes, available, round(percent, 3), status, float(first))
