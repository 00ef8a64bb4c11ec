"""Work spread over time, so that requests on the same processors find one of them free.

A fold of half a second's events at 10,000 a second is about 60 ms of work. Done at once it takes one of two processors
away, and requests queue for the other; so it is done in stretches of 2 ms with rests between.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

# Worked at a stretch before a rest.
STRETCH_S = 0.002
_LOOK_EVERY = 32
# Looked at so often where items take a microsecond or two: a generator's step for each would take a tenth of that.
_SLICE = 256
# How long a fold rests in all; the next one begins so much later, and figures are so much older.
RESTS_S = 0.3
# Longer rests would only make small folds late.
_MOST_REST = 9.0
# Whose oldest event has waited longer than this is behind and takes no rest.
BEHIND_S = 2.0


class Pace:
    """Rests `rest` times as long as each stretch of work took, RESTS_S in all at most; 0 never rests.

    For one thread. What the database works meanwhile counts as worked.
    """

    def __init__(self, rest: float = 0.0) -> None:
        self._rest = rest
        self._began_at = self._since = time.perf_counter()
        self.rested_s = 0.0

    @property
    def worked_s(self) -> float:
        """Seconds since the beginning, without the rests."""
        return time.perf_counter() - self._began_at - self.rested_s

    def spread(self, items: Iterable[Item]) -> Iterator[Item]:
        """Give out the items, resting where a stretch is over."""
        if not self._rest:
            yield from items
            return
        for number, item in enumerate(items):
            if number % _LOOK_EVERY == 0:
                self._pause()
            yield item

    def slices(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Give out the items some hundred at a time, resting where a stretch is over."""
        if not self._rest:
            yield items
            return
        for start in range(0, len(items), _SLICE):
            self._pause()
            yield items[start : start + _SLICE]

    def _pause(self) -> None:
        now = time.perf_counter()
        worked_s = now - self._since
        left_s = RESTS_S - self.rested_s
        if worked_s < STRETCH_S or left_s <= 0:
            return
        time.sleep(min(worked_s * self._rest, left_s))
        self._since = time.perf_counter()
        self.rested_s += self._since - now


class Pacer:
    """Chooses each fold's pace by what the one before took, so that its rests fill RESTS_S."""

    def __init__(self) -> None:
        self._worked_s = 0.0
        self._events = 1

    def begin(self, events: int, lag_s: float) -> Pace:
        """Return the pace for a fold of so many events, the oldest of which has waited for `lag_s` seconds."""
        if self._worked_s == 0.0 or lag_s > BEHIND_S:
            return Pace()
        return Pace(min(RESTS_S / (self._worked_s * max(events / self._events, 1.0)), _MOST_REST))

    def end(self, pace: Pace, events: int) -> None:
        """Learn from a fold that is over."""
        self._worked_s, self._events = pace.worked_s, max(events, 1)
