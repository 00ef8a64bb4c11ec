"""One project's day, drawn at once with numpy: sessions, their pages and events, in the order of time.

Repeatable: what is drawn depends on seed, site, day and number of events alone. A visitor is a number whose facts are
hashes of it, so that somebody who was here on another day is found again without remembering anybody.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pulse.load.bench_data.catalogue import Catalogue, draw
from pulse.load.bench_data.plan import Task
from pulse.load.traffic import MEAN_READING_S, RETURNING_SHARE, read_site

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# How busy each hour of the local day is.
_HOURS = (3, 2, 2, 2, 3, 4, 5, 7, 8, 9, 9, 9, 10, 10, 10, 10, 9, 9, 9, 10, 10, 8, 6, 4)
MAX_PAGES = 30
# Whoever comes back does so after this many days on average.
MEAN_ABSENCE_DAYS = 9.0
# Some tabs are closed without a word: their last page has no engagement event.
SILENT_SHARE = 0.15
PAGEVIEW, ACTION, ENGAGEMENT = 0, 1, 2


@dataclass(frozen=True)
class Sessions:
    """Arrays with one item a session; the last four are indexes into the catalogue's lists."""

    visitor: Ints
    key: Ints
    agent: npt.NDArray[np.intp]
    place: npt.NDArray[np.intp]
    arrival: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Day:
    """A day's events in the order of time, as arrays with one item each.

    `session` is an index into `sessions`, `kind` one of the three above, `page` counts the pages of a session from 0.
    """

    sessions: Sessions
    session: npt.NDArray[np.intp]
    at_ms: Ints
    kind: Ints
    page: Ints
    path: npt.NDArray[np.intp]
    action: npt.NDArray[np.intp]
    engagement_ms: Ints
    ids: list[str]


def make_day(task: Task, catalogue: Catalogue) -> Day:
    """Draw a day of exactly `task.events` events, all within it."""
    source = np.random.default_rng([task.seed, task.site.number, task.day.toordinal(), 0])
    pages = _draw_pages(source, task.events)
    session = np.repeat(np.arange(len(pages)), pages)
    page = np.arange(len(session)) - np.repeat(np.cumsum(pages) - pages, pages)
    reading_s = np.minimum(source.exponential(MEAN_READING_S, len(session)) + 1.5, 600)
    acts = source.random(len(session)) < read_site()["actionShare"]
    speaks = (page < np.repeat(pages, pages) - 1) | (source.random(len(session)) >= SILENT_SHARE)

    # Each page becomes its pageview, perhaps an action, perhaps an engagement event; only the first so many count.
    sizes = 1 + acts + speaks
    of_page = np.repeat(np.arange(len(sizes)), sizes)[: task.events]
    place = np.arange(len(of_page)) - (np.cumsum(sizes) - sizes)[of_page]
    kind = np.where(place == 0, PAGEVIEW, np.where((place == 1) & acts[of_page], ACTION, ENGAGEMENT))

    spent_s = reading_s + 0.1
    before_s = np.cumsum(spent_s) - spent_s
    before_s -= before_s[np.cumsum(pages) - pages][session]
    offset_s = before_s[of_page] + reading_s[of_page] * np.choose(kind, (0.0, 0.7, 1.0))
    length_s = np.add.reduceat(spent_s, np.cumsum(pages) - pages)
    at_ms = _draw_starts(source, task, length_s)[session[of_page]] + np.rint(offset_s * 1000).astype(np.int64)

    count = int(session[of_page[-1]]) + 1
    sessions = _draw_sessions(source, task, catalogue, count)
    order = np.argsort(at_ms, kind="stable")
    path = draw(catalogue.path_sums, source.random(len(session)))
    action = draw(catalogue.action_sums, source.random(len(of_page)))
    of_page, at_ms = of_page[order], at_ms[order]
    return Day(
        sessions=sessions,
        session=session[of_page],
        at_ms=at_ms,
        kind=kind[order],
        page=page[of_page],
        path=path[of_page],
        action=action,
        engagement_ms=np.rint(reading_s[of_page] * 1000).astype(np.int64),
        ids=_make_ids(source, at_ms),
    )


def _draw_pages(source: np.random.Generator, events: int) -> npt.NDArray[np.int64]:
    """Return the number of pages of as many sessions as make at least so many events: one page each at the least."""
    site = read_site()
    found: list[npt.NDArray[np.int64]] = []
    missing = events
    while missing > 0:
        count = missing // 3 + 10
        further = source.exponential(site["meanFurtherPages"], count).astype(np.int64)
        pages = np.where(source.random(count) < site["bounceShare"], 1, np.minimum(2 + further, MAX_PAGES))
        # Sessions past the last event are never begun.
        pages = pages[: int(np.searchsorted(np.cumsum(pages), missing)) + 1]
        found.append(pages)
        missing -= int(pages.sum())
    return np.concatenate(found)


def _draw_starts(source: np.random.Generator, task: Task, length_s: Floats) -> Ints:
    """Return when sessions begin: by the hours' rhythm, early enough to end on that day."""
    hours = np.cumsum(_HOURS) / sum(_HOURS)
    part = (draw(hours, source.random(len(length_s))) + source.random(len(length_s))) / len(_HOURS)
    day_ms = task.ends_ms - task.starts_ms
    starts = np.minimum(part * day_ms, day_ms - length_s * 1000 - 1000)
    return task.starts_ms + np.maximum(starts, 0).astype(np.int64)


def _draw_sessions(source: np.random.Generator, task: Task, catalogue: Catalogue, count: int) -> Sessions:
    """Return who comes, and from where: half are new, the others were first here on an earlier day."""
    site = np.uint64(task.seed * 1_000_003 + task.site.number)
    returns = source.random(count) < RETURNING_SHARE
    absence = source.geometric(1 / MEAN_ABSENCE_DAYS, count)
    home = np.where(returns, task.day.toordinal() - absence, task.day.toordinal())
    born_a_day = max(task.usual_events // 12, 1)  # about six events a session, half of them by somebody new
    number = np.where(returns, source.integers(0, born_a_day, count), np.arange(count))
    visitor = _hash((home * (1 << 32) + number).astype(np.uint64), site)
    return Sessions(
        visitor=visitor.view(np.int64),
        key=_hash(visitor ^ np.arange(count, dtype=np.uint64), _salt(task)).view(np.int64),
        agent=draw(catalogue.agent_sums, _to_chance(_hash(visitor, np.uint64(1)))),
        place=draw(catalogue.place_sums, _to_chance(_hash(visitor, np.uint64(2)))),
        arrival=draw(catalogue.arrival_sums, source.random(count)),
    )


def _salt(task: Task) -> np.uint64:
    """Return a number of one set's day: no two sets have a session in common, or their visits would be joined."""
    text = f"{task.writer}/{task.day}"
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def _hash(values: npt.NDArray[np.uint64], salt: np.uint64) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each value: the finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    mixed: Any = values + np.array([salt], dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x1234567)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashed: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return hashed


def _to_chance(hashed: npt.NDArray[np.uint64]) -> Floats:
    return (hashed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _make_ids(source: np.random.Generator, at_ms: Ints) -> list[str]:
    """Return a UUID version 7 of each time, as 32 hexadecimal digits."""
    parts = np.empty((len(at_ms), 2), dtype=">u8")
    random = source.integers(0, 1 << 62, (len(at_ms), 2), dtype=np.uint64)
    parts[:, 0] = (at_ms.astype(np.uint64) << np.uint64(16)) | np.uint64(0x7000) | (random[:, 0] & np.uint64(0xFFF))
    parts[:, 1] = random[:, 1] | np.uint64(1 << 63)
    digits = parts.tobytes().hex()
    return [digits[start : start + 32] for start in range(0, len(digits), 32)]
