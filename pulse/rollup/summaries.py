"""What events and sessions add to the summaries, gathered in memory before it is written.

An event counts in some thirty rows. It is put down in five places only, each a list of visitors by page, origin, place,
agent, or screen and name; rows are made of the lists when all are complete, a list at a time.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import NamedTuple

from pulse.rollup.copying import NOTHING, unpack, unpack_texts
from pulse.rollup.reading import AGENT, ENGAGEMENT, ORIGIN, PAGEVIEW, PLACE, Event, read_screen
from pulse.rollup.sessions import Session
from pulse.storage.localtime import LocalClock

TOTAL, PAGE, ENTRY_PAGE, EXIT_PAGE, SCREEN, EVENT = "total", "page", "entry_page", "exit_page", "screen", "event"
# A campaign with its source and medium, in this order with a separator between; of whole sessions, unlike the others:
# a visit's later events carry no campaign of their own.
CAMPAIGN, SEPARATOR = "campaign", "\x1f"
# What a missing attribute counts as; the other dimensions have no row for it.
MISSING = {"country": "(unknown)", "browser": "(unknown)", "os": "(unknown)", "source": "(direct)"}
# What real-time reports count by; no clock of our time changes its hour within one.
SLOT_US = 10_000_000

_LABELS = tuple(map(ORIGIN.index, ("utm_campaign", "utm_source", "utm_medium")))


class Row:
    """What is added to one summary row.

    Its visitors are in sets that other rows count, too, and are nobody's to change: adding up sets themselves would
    take as long as counting their members.
    """

    __slots__ = ("bounces", "crowds", "duration_ms", "events", "pageviews", "sessions")

    def __init__(self) -> None:
        self.pageviews = self.events = self.sessions = self.bounces = self.duration_ms = 0
        self.crowds: list[set[int]] = []

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

    def count(self, pageviews: int, events: int, crowd: set[int]) -> None:
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
        self.crowds: list[set[int]] = []

    def add(self, other: "LiveRow") -> None:
        """Add another row to this one."""
        self.pageviews += other.pageviews
        self.events += other.events
        self.crowds += other.crowds
        self.last_us = max(self.last_us, other.last_us)


# Rows by value, by dimension.
Dimensions = list[tuple[str, dict[str, Row]]]


class Summaries(NamedTuple):
    """Rows by local day, by the instant at which a local hour began, and by slot and page; ids are projects'."""

    days: dict[tuple[int, date], Dimensions]
    hours: dict[tuple[int, datetime], Row]
    live: dict[tuple[int, int, str], LiveRow]


class Crowd:
    """The visitors of some events, once for each, by what the events have in common; of pages the events themselves."""

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

    def add_crowd(self, crowd: Crowd, is_view: bool, hour: Row) -> None:
        """Count events of this day, and of this hour."""
        parts = (
            (crowd.origins, self.origins), (crowd.places, self.places), (crowd.agents, self.agents),
            (crowd.details, self.details),
        )  # fmt: skip
        for lists, rows in parts:
            for value, visitors in lists.items():
                count, who = len(visitors), set(visitors)
                rows[value].count(count if is_view else 0, count, who)
                if lists is crowd.agents:
                    hour.count(count if is_view else 0, count, who)
        for path, events in crowd.pages.items():
            count = len(events)
            self.pages[path].count(count if is_view else 0, count, {event.visitor for event in events})

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


class Tally:
    """Everything a fold adds to the summaries; events no older than `live_since_us` are live, too."""

    def __init__(self, clocks: dict[int, LocalClock], live_since_us: float = float("inf")) -> None:
        self._clocks = clocks
        self._live_since_us = live_since_us
        self._hours: defaultdict[tuple[int, datetime], Span] = defaultdict(Span)
        self._slots: defaultdict[tuple[int, int], Span] = defaultdict(Span)
        self._visits: defaultdict[tuple[int, datetime], Visits] = defaultdict(Visits)
        # The same by the slots that sessions began in: a look at the calendar takes twice as long.
        self._visits_from: dict[tuple[int, int], Visits] = {}
        self._campaigns: dict[bytes, str | None] = {}

    def add_events(self, events: Iterable[Event]) -> None:
        """Count events in their own hour; engagement is none."""
        project_id, slot, span = 0, -1, Span()
        for event in events:
            kind = event.kind
            if kind == ENGAGEMENT:
                continue
            at_us = event.at_us
            if at_us // SLOT_US != slot or event.project_id != project_id:
                project_id = event.project_id
                if at_us >= self._live_since_us:
                    slot = at_us // SLOT_US
                    span = self._slots[project_id, slot]
                else:
                    slot = -1
                    span = self._hours[project_id, self._clocks[project_id].place(at_us).hour_at]
            crowd = span.views if kind == PAGEVIEW else span.acts
            visitor = event.visitor
            crowd.origins[event.origin].append(visitor)
            crowd.places[event.place].append(visitor)
            crowd.agents[event.agent].append(visitor)
            crowd.details[event.details].append(visitor)
            crowd.pages[event.path].append(event)

    def add_sessions(self, sessions: Iterable[Session]) -> None:
        """Count sessions as they are now instead of what was counted of them before."""
        for now in sessions:
            before = now.before
            if not before:
                if now.events:
                    self.add_session(now)
            elif len(before) == 1 and _goes_on(before[0], now):
                self._go_on(before[0], now)
            else:
                for was in before:
                    self._count(was, -1, -was.bounces, -was.duration_ms, -was.pageviews, -was.events)
                self.add_session(now)

    def add_session(self, session: Session) -> None:
        """Count one session that has events, on the day and hour of its beginning."""
        self._count(session, 1, session.bounces, session.duration_ms, session.pageviews, session.events)

    def _go_on(self, was: Session, now: Session) -> None:
        """Count what is new in a session that began as before."""
        self._count(
            now, 0, now.bounces - was.bounces, now.duration_ms - was.duration_ms, now.pageviews - was.pageviews,
            now.events - was.events,
        )  # fmt: skip
        if was.exit_path != now.exit_path:
            # The difference was put where it leaves now; what was counted before moves there, too.
            exits = self._visits_of(now).exits
            for path, sign in ((was.exit_path, -1), (now.exit_path, 1)):
                row = exits[path]
                row.sessions += sign
                row.bounces += sign * was.bounces
                row.duration_ms += sign * was.duration_ms

    def _visits_of(self, session: Session) -> Visits:
        """Return where a session is counted."""
        project_id = session.project_id
        at = project_id, session.started_us // SLOT_US
        visits = self._visits_from.get(at)
        if visits is None:
            hour_at = self._clocks[project_id].place(session.started_us).hour_at
            visits = self._visits_from[at] = self._visits[project_id, hour_at]
        return visits

    def _count(
        self, session: Session, sessions: int, bounces: int, duration_ms: int, pageviews: int, events: int
    ) -> None:
        origin = session.origin
        campaign = self._campaigns.get(origin, "")
        if campaign == "":
            campaign = self._campaigns[origin] = name_campaign(unpack_texts(origin))
        if not (sessions or bounces or duration_ms or (campaign is not None and events)):
            return
        visits = self._visits_of(session)
        touched = [
            visits.origins[origin], visits.places[session.place], visits.agents[session.agent],
            visits.entries[session.entry_path], visits.exits[session.exit_path],
        ]  # fmt: skip
        if campaign is not None:
            row = visits.campaigns[campaign]
            row.pageviews += pageviews
            row.events += events
            if sessions > 0:
                # A sketch forgets nobody: who was counted for a session that a late event gives to another campaign
                # stays until the day is counted anew. Reports show no more visitors than sessions.
                row.crowds.append({session.visitor})
            touched.append(row)
        for row in touched:
            row.sessions += sessions
            row.bounces += bounces
            row.duration_ms += duration_ms

    def summaries(self) -> Summaries:
        """Return the rows of all that was counted."""
        days: defaultdict[tuple[int, date], Day] = defaultdict(Day)
        hours: defaultdict[tuple[int, datetime], Row] = defaultdict(Row)
        spans = [(project_id, at, span) for (project_id, at), span in self._hours.items()]
        for (project_id, slot), span in self._slots.items():
            spans.append((project_id, self._clocks[project_id].place(slot * SLOT_US).hour_at, span))
        for project_id, at, span in spans:
            day, hour = days[project_id, self._clocks[project_id].day(at)], hours[project_id, at]
            day.add_crowd(span.views, True, hour)
            day.add_crowd(span.acts, False, hour)
        for (project_id, at), visits in self._visits.items():
            days[project_id, self._clocks[project_id].day(at)].add_visits(visits, hours[project_id, at])
        live: dict[tuple[int, int, str], LiveRow] = {}
        for (project_id, slot), span in self._slots.items():
            for path, row in _to_live(span).items():
                live[project_id, slot, path] = row
        return Summaries({key: day.dimensions() for key, day in days.items()}, hours, live)


def _goes_on(was: Session, now: Session) -> bool:
    """Tell whether a session has the beginning that it was counted with, and so differs in its end alone."""
    beginning = was.started_us, was.first_event_id, was.entry_path
    return beginning == (now.started_us, now.first_event_id, now.entry_path)


def _to_live(span: Span) -> dict[str, LiveRow]:
    """Return a slot's rows by page, and of all events under ''."""
    found: defaultdict[str, LiveRow] = defaultdict(LiveRow)
    total = found[""]
    for pages, is_view in ((span.views.pages, True), (span.acts.pages, False)):
        for path, events in pages.items():
            row = LiveRow()
            row.events, row.pageviews = len(events), len(events) if is_view else 0
            row.crowds.append({event.visitor for event in events})
            row.last_us = max([event.at_us for event in events])
            total.add(row)
            if len(path) > len(NOTHING):  # neither NULL nor empty
                found[path[4:].decode()].add(row)
    return found
