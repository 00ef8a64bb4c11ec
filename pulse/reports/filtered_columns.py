"""Filtered reports counted from columns: packed days, and what is not packed read into columns on the way."""

import math
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from pulse.reports.conditions import VISIT_COLUMNS, event_conditions, visit_conditions
from pulse.reports.facts import Counted, Reading
from pulse.reports.filters import EVENT_DIMENSIONS, VISIT_DIMENSIONS, Filters
from pulse.reports.matching import EVENT_VALUES
from pulse.reports.period import Period
from pulse.reports.scan import Scan
from pulse.storage import columns, segments
from pulse.storage.localtime import clock
from pulse.storage.segments import Conditions, Packed

# Visits that are read from the rows where days are not packed: today's, mostly. Up to so many, or as many as are
# packed; beyond, SQL counts faster. Read in pieces, so that no step of it keeps other requests waiting for long.
READ_VISITS = 50_000
PIECE_VISITS = 10_000
# A pack that so many sessions have left is read anew instead.
MAX_LOOSE = 500


class _Span(NamedTuple):
    """Instants between which the visits are read from the rows, and about how many they are."""

    starts_at: datetime
    ends_at: datetime
    visits: int


def count_columns(
    reading: Reading, project_id: int, period: Period, filters: Filters, limit: int
) -> Counted | None:
    """Count the visits and events that pass; None where too few days are packed. Raises Unavailable."""
    packs, missing = _find(reading, project_id, period)
    left = sum(span.visits for span in missing)
    if left > max(READ_VISITS, sum(pack.visits for pack in packs)):
        return None
    wanted = _wanted(filters, limit)
    scan = Scan(period, filters, limit)
    for pack, found in zip(packs, segments.load(reading.run, project_id, packs, wanted), strict=True):
        scan.add(found, pack.starts_at, pack.loose)
        reading.check()
    visit, visit_binds = visit_conditions(filters)
    event, event_binds = event_conditions(filters)
    conditions = Conditions(visit, event, {**visit_binds, **event_binds})
    for span in _pieces(missing):
        found = segments.read_between(reading.run, project_id, span.starts_at, span.ends_at, conditions)
        scan.add(found, span.starts_at)
        reading.check()
    loose = [pack for pack in packs if pack.loose]
    if loose:
        found = segments.read_loose(reading.run, project_id, loose, period.starts_at, conditions)
        scan.add(found, period.starts_at)
    return scan.result()


def _find(reading: Reading, project_id: int, period: Period) -> tuple[list[Packed], list[_Span]]:
    """Return the packed days of a period, and the spans between them."""
    calendar = clock(period.timezone)
    days = [period.start + timedelta(days=step) for step in range(period.days + 1)]
    starts = [calendar.day_start(day) for day in days]
    spans = dict(zip(starts, starts[1:], strict=False))
    found = segments.find(reading.run, project_id, period.starts_at, period.ends_at)
    packs = [pack for pack in found if spans.get(pack.starts_at) == pack.ends_at and len(pack.loose) <= MAX_LOOSE]
    packed = {pack.starts_at for pack in packs}
    left = [(day, start, end) for day, start, end in zip(days, starts, starts[1:], strict=False) if start not in packed]
    return packs, _join(left, segments.count_visits(reading.run, project_id, [day for day, _, _ in left]))


def _join(days: Sequence[tuple[date, datetime, datetime]], visits: dict[date, int]) -> list[_Span]:
    spans: list[_Span] = []
    for day, start, end in days:
        count = visits.get(day, 0)
        if spans and spans[-1].ends_at == start:
            last = spans.pop()
            spans.append(_Span(last.starts_at, end, last.visits + count))
        else:
            spans.append(_Span(start, end, count))
    return spans


def _pieces(spans: list[_Span]) -> Iterator[_Span]:
    for span in spans:
        count = max(1, math.ceil(span.visits / PIECE_VISITS))
        step = (span.ends_at - span.starts_at) / count
        ends = [span.starts_at + step * number for number in range(count)] + [span.ends_at]
        for start, end in zip(ends, ends[1:], strict=False):
            yield _Span(start, end, span.visits // count)


def _wanted(filters: Filters, limit: int) -> set[str]:
    """Return the columns that the filters and lists need."""
    if limit:
        return {*columns.VISIT_DIMENSIONS, *columns.EVENT_DIMENSIONS}
    of_visits = {VISIT_COLUMNS[one.dimension] for one in filters if one.dimension in VISIT_DIMENSIONS}
    of_events = {EVENT_VALUES[one.dimension][0] for one in filters if one.dimension in EVENT_DIMENSIONS}
    return of_visits | of_events | ({"kind"} if of_events else set())
