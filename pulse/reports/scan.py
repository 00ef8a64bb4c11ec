"""One pass over columns of visits and events: filters tried once for each value, figures added up for each value."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pulse.reports import facts
from pulse.reports.conditions import VISIT_COLUMNS
from pulse.reports.facts import Counted, Sum
from pulse.reports.filters import EVENT_DIMENSIONS, MISSING, VISIT_DIMENSIONS, Filter, Filters
from pulse.reports.matching import EVENT_VALUES, passing
from pulse.reports.period import Period
from pulse.storage.columns import Column, Columns
from pulse.storage.localtime import epoch_us
from pulse.storage.turns import yield_to_requests

Array = NDArray[Any]
_MINUTE_US = 60_000_000
_FIGURES = ("sessions", "pageviews", "events", "bounces")
# What the lists of these are ordered by; the others by pageviews.
_ORDER = {"entry_page": "sessions", "exit_page": "sessions", "event": "events"}
_OF_EVENTS = ("page", "event", "screen")


class Tally:
    """Figures of each value of a dimension, over several dictionaries; a value that no list shows is None."""

    def __init__(self) -> None:
        self.places: dict[Any, int] = {}
        self._sums = {name: np.zeros(0, np.int64) for name in _FIGURES}
        self._ids: list[Array] = []
        self._visitors: list[Array] = []

    def place(self, values: Iterable[Any]) -> Array:
        """Return the place of each value among all seen so far, -1 for None."""
        places = self.places
        found = [-1 if value is None else places.setdefault(value, len(places)) for value in values]
        more = len(places) - len(self._sums["sessions"])
        if more:
            self._sums = {name: np.concatenate([sums, np.zeros(more, np.int64)]) for name, sums in self._sums.items()}
        return np.array(found, np.int64)

    def add(self, places: Array, codes: Array, **weights: Array | None) -> None:
        """Add rows of a dictionary, each figure with its weights (None: one a row)."""
        shown = np.flatnonzero(places >= 0)
        for name, weight in weights.items():
            counts = np.bincount(codes, weight, minlength=len(places))
            # Values that share a place (a missing one, and one written like it) are both added.
            np.add.at(self._sums[name], places[shown], counts[shown].astype(np.int64))

    def sample(self, ids: Array, visitors: Array) -> None:
        """Keep whose rows had which value."""
        kept = ids >= 0
        self._ids.append(ids[kept])
        self._visitors.append(visitors[kept])

    def top(self, limit: int | None, order: str, counted: str, mask: int) -> list[Sum]:
        """Return the first values (all without a limit); a value without any of `counted` is none."""
        sums, values = self._sums, list(self.places)
        ranks = sums[order]
        there = np.flatnonzero(sums[counted] > 0)
        if limit is not None and len(there) > limit:
            least = -np.partition(-ranks[there], limit - 1)[limit - 1]
            there = there[ranks[there] >= least]
        chosen = sorted(there.tolist(), key=lambda place: (-ranks[place], values[place]))[:limit]
        visitors, rows = self._count(mask)
        return [
            Sum(
                values[place], int(sums["sessions"][place]), int(sums["pageviews"][place]), int(sums["events"][place]),
                int(sums["bounces"][place]), 0.0, int(visitors[place]), int(rows[place]),
            )
            for place in chosen
        ]  # fmt: skip

    def _count(self, mask: int) -> tuple[Array, Array]:
        """Return the distinct visitors of each value and their rows, of those whose hash the mask leaves."""
        size = len(self.places)
        if not self._ids:
            return np.zeros(size, np.int64), np.zeros(size, np.int64)
        ids, visitors = np.concatenate(self._ids), np.concatenate(self._visitors)
        kept = visitors & mask == 0
        ids = ids[kept]
        people, person = np.unique(visitors[kept], return_inverse=True)
        pairs = np.unique(ids * max(len(people), 1) + person)
        return np.bincount(pairs // max(len(people), 1), minlength=size), np.bincount(ids, minlength=size)


class Scan:
    """What passes of the columns added so far."""

    def __init__(self, period: Period, filters: Filters, limit: int) -> None:
        self._visit_filters = [one for one in filters if one.dimension in VISIT_DIMENSIONS]
        self._event_filters = [one for one in filters if one.dimension in EVENT_DIMENSIONS]
        self._bounds_us = np.array([epoch_us(at) for at in period.buckets()[1]], np.int64)
        self._limit = limit
        self._sessions = 0
        self._duration_ms = 0
        self._total, self._buckets = Tally(), Tally()
        self._tallies = {name: Tally() for name in (*VISIT_DIMENSIONS, *_OF_EVENTS)} if limit else {}

    def add(self, found: Columns, starts_at: datetime, left_out: Sequence[int] = ()) -> None:
        """Count the visits of a span that begins at `starts_at`, but for those of some session keys."""
        passes = _choose(self._visit_filters, lambda one: (found.dimensions[VISIT_COLUMNS[one.dimension]], None))
        if left_out:
            assert found.session_keys is not None
            kept = ~np.isin(found.session_keys, np.array(left_out, np.int64))
            passes = kept if passes is None else passes & kept
        figures = found.figures
        hits, pageviews, events = None, figures.pageviews, figures.events
        if self._event_filters:
            hits = _choose(self._event_filters, lambda one: _event_column(found, one))
            pageviews, events = _count_hits(found, hits)
            passes = events > 0 if passes is None else passes & (events > 0)
        yield_to_requests()
        chosen = np.flatnonzero(passes) if passes is not None else np.arange(found.visits)
        if len(chosen):
            self._add_visits(found, starts_at, chosen, pageviews, events)
            if self._limit:
                self._add_events(found, chosen, passes, hits)

    def _add_visits(
        self, found: Columns, starts_at: datetime, chosen: Array, pageviews: Array, events: Array
    ) -> None:
        figures = found.figures
        views = pageviews[chosen].astype(np.float64)
        acts = events[chosen].astype(np.float64)
        bounces = _bounces(found)[chosen].astype(np.float64)
        self._sessions += len(chosen)
        self._duration_ms += int(figures.duration_ms[chosen].sum(dtype=np.int64))
        whole: dict[str, Array | None] = {"sessions": None, "pageviews": views, "events": acts, "bounces": bounces}
        minutes = epoch_us(starts_at) + figures.minute[chosen].astype(np.int64) * _MINUTE_US
        buckets = np.searchsorted(self._bounds_us, minutes, side="right")
        visitors = found.visitors[chosen]
        sampled = np.flatnonzero(visitors & facts.sample_mask(self._sessions) == 0)
        visitors = visitors[sampled]
        numbers = range(len(self._bounds_us) + 1)
        for tally, values, codes in (
            (self._total, [""], np.zeros(len(chosen), np.int64)), (self._buckets, numbers, buckets)
        ):  # fmt: skip
            places = tally.place(values)
            tally.add(places, codes, **whole)
            tally.sample(places[codes[sampled]], visitors)
        for name in VISIT_DIMENSIONS if self._limit else ():
            column, tally = found.dimensions[VISIT_COLUMNS[name]], self._tallies[name]
            codes = column.codes[chosen]
            missing = MISSING.get(name)
            places = tally.place(missing if value is None else value for value in column.values)
            tally.add(places, codes, sessions=None, pageviews=views)
            tally.sample(places[codes[sampled]], visitors)
            yield_to_requests()

    def _add_events(self, found: Columns, chosen: Array, passes: Array | None, hits: Array | None) -> None:
        figures = found.figures
        held = figures.held
        shown = hits
        if passes is not None:
            of_chosen = np.repeat(passes, held)
            shown = of_chosen if hits is None else of_chosen & hits
        kinds = found.dimensions["kind"]
        views = _is_view(kinds)[kinds.codes if shown is None else kinds.codes[shown]].astype(np.float64)
        is_sampled = np.zeros(found.visits, np.bool_)
        is_sampled[chosen] = found.visitors[chosen] & facts.sample_mask(self._sessions) == 0
        sampled = np.repeat(is_sampled, held)
        visitors = np.repeat(found.visitors[is_sampled], held[is_sampled])
        if hits is not None:
            visitors = visitors[hits[sampled]]
            sampled &= hits
        yield_to_requests()
        for name in _OF_EVENTS:
            column_name, value_of = EVENT_VALUES[name]
            column, tally = found.dimensions[column_name], self._tallies[name]
            places = tally.place(map(value_of, column.values))
            codes = column.codes if shown is None else column.codes[shown]
            tally.add(places, codes, pageviews=views, events=None)
            tally.sample(places[column.codes[sampled]], visitors)
            if name == "page":
                self._add_entries(found, chosen, hits, places)
            yield_to_requests()

    def _add_entries(self, found: Columns, chosen: Array, hits: Array | None, places: Array) -> None:
        """Count the visits on the page each began on, where that pageview passes."""
        figures = found.figures
        entered = chosen[figures.enters[chosen] == 1]
        first = _begins(found)[entered]
        if hits is not None:
            entered, first = entered[hits[first]], first[hits[first]]
        bounces = _bounces(found)[entered].astype(np.float64)
        self._tallies["page"].add(places, found.dimensions["path"].codes[first], sessions=None, bounces=bounces)

    def result(self) -> Counted:
        """Return the figures, lists in order."""
        mask = facts.sample_mask(self._sessions)
        totals = self._total.top(None, "sessions", "sessions", mask)
        total = totals[0] if totals else Sum("", 0, 0, 0, 0, 0.0, 0, 0)
        buckets = {int(one.value): one for one in self._buckets.top(None, "sessions", "sessions", mask)}
        lists = {}
        for name, tally in self._tallies.items():
            counted = "events" if name in _OF_EVENTS else "sessions"
            lists[name] = tally.top(self._limit, _ORDER.get(name, "pageviews"), counted, mask)
            yield_to_requests()
        return Counted(total._replace(duration_s=self._duration_ms / 1000), buckets, lists)


def _choose(filters: list[Filter], column_of: Callable[[Filter], Any]) -> Array | None:
    """Return which rows pass all filters, None for all of them."""
    chosen: Array | None = None
    for one in filters:
        column, value_of = column_of(one)
        values = column.values if value_of is None else map(value_of, column.values)
        passes = passing(one, values)
        if not passes.all():
            found = passes[column.codes]
            chosen = found if chosen is None else chosen & found
    return chosen


def _event_column(found: Columns, one: Filter) -> tuple[Column, Callable[..., str | None]]:
    name, value_of = EVENT_VALUES[one.dimension]
    return found.dimensions[name], value_of


def _count_hits(found: Columns, hits: Array | None) -> tuple[Array, Array]:
    """Return how many pageviews and events of each visit pass."""
    kinds = found.dimensions["kind"]
    views = _is_view(kinds)[kinds.codes]
    begins = _begins(found)
    ends = begins + found.figures.held
    counts = []
    for shown in (views if hits is None else views & hits, hits):
        if shown is None:
            counts.append(found.figures.held.astype(np.int64))
            continue
        so_far = np.concatenate([[0], np.cumsum(shown, dtype=np.int64)])
        counts.append(so_far[ends] - so_far[begins])
    return counts[0], counts[1]


def _is_view(kinds: Column) -> Array:
    return np.fromiter((kind[0] == "pageview" for kind in kinds.values), np.bool_, len(kinds.values))


def _begins(found: Columns) -> Array:
    """Return the place of each visit's first event."""
    held = found.figures.held
    return np.cumsum(held, dtype=np.int64) - held


def _bounces(found: Columns) -> Array:
    return (found.figures.pageviews == 1) & (found.figures.events == 1)
