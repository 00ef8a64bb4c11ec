"""What events and sessions add to the summaries, gathered in memory before it is written.

An event counts in some thirty rows. It is put down in five places only, each a list of visitors by page, origin, place,
agent, or screen and name; rows are made of the lists when all are complete, a list at a time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from operator import attrgetter
from typing import NamedTuple

from pulse.rollup.copying import NOTHING, unpack, unpack_texts
from pulse.rollup.reading import AGENT, ORIGIN, PLACE, Event, read_screen
from pulse.rollup.sessions import Session

TOTAL, PAGE, ENTRY_PAGE, EXIT_PAGE, SCREEN, EVENT = "total", "page", "entry_page", "exit_page", "screen", "event"
# A campaign with its source and medium, in this order with a separator between; of whole sessions, unlike the others:
# a visit's later events carry no campaign of their own.
CAMPAIGN, SEPARATOR = "campaign", "\x1f"
# What a missing attribute counts as; the other dimensions have no row for it.
MISSING = {"country": "(unknown)", "browser": "(unknown)", "os": "(unknown)", "source": "(direct)"}
# What real-time reports count by; no clock of our time changes its hour within one.
SLOT_US = 10_000_000

# Where a slot's events of all pages are counted: as no page's field is.
ALL_PAGES = b""

_visitor, _at_us = attrgetter("visitor"), attrgetter("at_us")
_LABELS = tuple(map(ORIGIN.index, ("utm_campaign", "utm_source", "utm_medium")))


class Row:
    """What is added to one summary row.

    Its visitors are in lists that other rows count, too, and are nobody's to change. One may be in them several times,
    which a sketch doesn't mind: making sets of them took longer than counting repetitions does.
    """

    __slots__ = ("bounces", "crowds", "duration_ms", "events", "pageviews", "sessions")

    def __init__(self) -> None:
        self.pageviews = self.events = self.sessions = self.bounces = self.duration_ms = 0
        self.crowds: list[Sequence[int]] = []

    @property
    def visitors(self) -> set[int]:
        """Everybody in the crowds."""
        return set().union(*self.crowds)

    def add(self, other: "Row") -> None:
        """Add another row to this one."""
        self.pageviews += other.pageviews
        self.events += other.events
        self.sessions += other.sessions
        self.bounces += other.bounces
        self.duration_ms += other.duration_ms
        self.crowds += other.crowds

    def count(self, pageviews: int, events: int, crowd: Sequence[int]) -> None:
        """Count events of some visitors."""
        self.pageviews += pageviews
        self.events += events
        self.crowds.append(crowd)

    def is_nothing(self) -> bool:
        """Tell whether adding this row changes nothing."""
        return not (
            self.events or self.pageviews or self.sessions or self.bounces or self.duration_ms or any(self.crowds)
        )


class LiveRow:
    """What is added to one slot of the last minutes; `last_us` is the time of the last event."""

    __slots__ = ("crowds", "events", "last_us", "pageviews")

    def __init__(self) -> None:
        self.pageviews = self.events = self.last_us = 0
        self.crowds: list[Sequence[int]] = []

    def add(self, other: "LiveRow") -> None:
        """Add another row to this one."""
        self.pageviews += other.pageviews
        self.events += other.events
        self.crowds += other.crowds
        self.last_us = max(self.last_us, other.last_us)

    def count(self, pageviews: int, events: int, crowd: Sequence[int], last_us: int) -> None:
        """Count events of some visitors."""
        self.pageviews += pageviews
        self.events += events
        self.crowds.append(crowd)
        self.last_us = max(self.last_us, last_us)


# Rows by value, by dimension.
Dimensions = list[tuple[str, dict[str, Row]]]


class Summaries(NamedTuple):
    """Rows by local day, by the instant at which a local hour began, and by slot and page; ids are projects'."""

    days: dict[tuple[int, date], Dimensions]
    hours: dict[tuple[int, datetime], Row]
    live: dict[tuple[int, int, str], LiveRow]


class Crowd:
    """The visitors of some events, one for each, by what the events have in common; of pages the events themselves."""

    __slots__ = ("agents", "details", "origins", "pages", "places")

    def __init__(self) -> None:
        self.origins: defaultdict[bytes, list[int]] = defaultdict(list)
        self.places: defaultdict[bytes, list[int]] = defaultdict(list)
        self.agents: defaultdict[bytes, list[int]] = defaultdict(list)
        self.details: defaultdict[bytes, list[int]] = defaultdict(list)
        self.pages: defaultdict[bytes, list[Event]] = defaultdict(list)


class Span:
    """What happened within an hour, or a slot of it that is still live: pageviews, and other events."""

    __slots__ = ("acts", "views")

    def __init__(self) -> None:
        self.views, self.acts = Crowd(), Crowd()


class Visits:
    """What is added to sessions that began in one hour; `entries` count as pages as well."""

    __slots__ = ("agents", "campaigns", "entries", "exits", "origins", "places")

    def __init__(self) -> None:
        self.origins: defaultdict[bytes, Row] = defaultdict(Row)
        self.places: defaultdict[bytes, Row] = defaultdict(Row)
        self.agents: defaultdict[bytes, Row] = defaultdict(Row)
        self.entries: defaultdict[bytes, Row] = defaultdict(Row)
        self.exits: defaultdict[bytes, Row] = defaultdict(Row)
        self.campaigns: defaultdict[str, Row] = defaultdict(Row)

    def rows_of(self, session: Session) -> tuple[Row, ...]:
        """Return the rows that a session is counted in, but that of its campaign."""
        return (
            self.origins[session.origin], self.places[session.place], self.agents[session.agent],
            self.entries[session.entry_path], self.exits[session.exit_path],
        )  # fmt: skip


class Day:
    """One project's local day: the same as rows, by what events and sessions have in common."""

    __slots__ = ("agents", "campaigns", "details", "entries", "exits", "origins", "pages", "places")

    def __init__(self) -> None:
        self.origins: defaultdict[bytes, Row] = defaultdict(Row)
        self.places: defaultdict[bytes, Row] = defaultdict(Row)
        self.agents: defaultdict[bytes, Row] = defaultdict(Row)
        self.details: defaultdict[bytes, Row] = defaultdict(Row)
        self.pages: defaultdict[bytes, Row] = defaultdict(Row)
        self.entries: defaultdict[bytes, Row] = defaultdict(Row)
        self.exits: defaultdict[bytes, Row] = defaultdict(Row)
        self.campaigns: defaultdict[str, Row] = defaultdict(Row)

    def add_span(self, span: Span, hour: Row, live: defaultdict[bytes, LiveRow] | None) -> None:
        """Count what happened on this day, in this hour, and by page in a slot that is still live."""
        self._add_crowd(span.views, True, hour, live)
        self._add_crowd(span.acts, False, hour, live)

    def _add_crowd(self, crowd: Crowd, is_view: bool, hour: Row, live: defaultdict[bytes, LiveRow] | None) -> None:
        parts = (
            (crowd.origins, self.origins), (crowd.places, self.places), (crowd.agents, self.agents),
            (crowd.details, self.details),
        )  # fmt: skip
        for lists, rows in parts:
            for value, visitors in lists.items():
                count = len(visitors)
                rows[value].count(count if is_view else 0, count, visitors)
                if lists is crowd.agents:
                    hour.count(count if is_view else 0, count, visitors)
        for path, events in crowd.pages.items():
            count, who = len(events), list(map(_visitor, events))
            self.pages[path].count(count if is_view else 0, count, who)
            if live is not None:
                last_us = max(map(_at_us, events))
                for key in (path, ALL_PAGES):
                    live[key].count(count if is_view else 0, count, who, last_us)

    def add_visits(self, visits: Visits, hour: Row) -> None:
        """Count sessions that began on this day, in this hour."""
        parts = (
            (visits.origins, self.origins), (visits.places, self.places), (visits.agents, self.agents),
            (visits.entries, self.pages), (visits.entries, self.entries), (visits.exits, self.exits),
        )  # fmt: skip
        for found, rows in parts:
            for value, row in found.items():
                rows[value].add(row)
        for campaign, row in visits.campaigns.items():
            self.campaigns[campaign].add(row)
        for row in visits.agents.values():
            hour.add(row)

    def dimensions(self) -> Dimensions:
        """Return every dimension's name and rows."""
        total = Row()
        for row in self.agents.values():
            total.add(row)
        screens, labels = _spread_details(self.details)
        return [
            (TOTAL, {"": total}),
            *_spread(ORIGIN, self.origins), *_spread(PLACE, self.places), *_spread(AGENT, self.agents),
            (PAGE, _by_text(self.pages)), (ENTRY_PAGE, _by_text(self.entries)), (EXIT_PAGE, _by_text(self.exits)),
            (SCREEN, screens), (EVENT, labels), (CAMPAIGN, self.campaigns),
        ]  # fmt: skip


def _spread(names: Sequence[str], groups: dict[bytes, Row]) -> Dimensions:
    """Return the rows of each attribute of a group."""
    parts: list[tuple[str, defaultdict[str, Row]]] = [(name, defaultdict(Row)) for name in names]
    defaults = [MISSING.get(name) for name in names]
    for fields, group in groups.items():
        for (_, rows), value, default in zip(parts, unpack_texts(fields), defaults, strict=True):
            if value is not None:
                rows[value].add(group)
            elif default is not None:
                rows[default].add(group)
    return [*parts]


def _spread_details(details: dict[bytes, Row]) -> tuple[dict[str, Row], dict[str, Row]]:
    """Return the rows of screens and of events by name."""
    screens, labels = defaultdict[str, Row](Row), defaultdict[str, Row](Row)
    for fields, row in details.items():
        width, height, label = unpack(fields)
        screen = read_screen(width, height)
        if screen is not None:
            screens[screen].add(row)
        if label is not None:
            labels[label.decode()].add(row)
    return screens, labels


def _by_text(rows: dict[bytes, Row]) -> dict[str, Row]:
    return {path[4:].decode(): row for path, row in rows.items() if path != NOTHING}


def name_campaign(origin: Sequence[str | None]) -> str | None:
    """Return the value of dimension 'campaign' for the attributes of ORIGIN, None without one.

    A separator within a label becomes a space, so that the value can be taken apart again.
    """
    campaign, *others = (origin[number] for number in _LABELS)
    if campaign is None:
        return None
    return SEPARATOR.join([(label or "").replace(SEPARATOR, " ") for label in (campaign, *others)])


def to_live(pages: Mapping[bytes, LiveRow]) -> dict[str, LiveRow]:
    """Return a slot's rows by page, and of all events under ''."""
    found = {"": pages[ALL_PAGES]}
    for path, row in pages.items():
        if len(path) > len(NOTHING):  # neither NULL nor empty
            found[path[4:].decode()] = row
    return found
