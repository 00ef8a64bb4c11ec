"""What events and sessions add to the summaries, gathered in memory before it is written."""

from collections.abc import Iterable
from datetime import date, datetime
from operator import itemgetter

from pulse.rollup.copying import NULL
from pulse.rollup.reading import ATTRIBUTES, ENGAGEMENT, PAGEVIEW, Event
from pulse.rollup.sessions import Change, Counted
from pulse.storage.localtime import LocalClock

TOTAL, PAGE, ENTRY_PAGE, EXIT_PAGE, SCREEN, EVENT = "total", "page", "entry_page", "exit_page", "screen", "event"
# A campaign with its source and medium, in this order with a separator between; of whole sessions, unlike the others:
# a visit's later events carry no campaign of their own.
CAMPAIGN, SEPARATOR = "campaign", "\x1f"
# What a missing attribute counts as; the other dimensions have no row for it.
MISSING = {"country": "(unknown)", "browser": "(unknown)", "os": "(unknown)", "source": "(direct)"}
SLOT_US = 10_000_000

_DEFAULTS = [MISSING.get(name) for name in ATTRIBUTES]
_labels = itemgetter(*map(ATTRIBUTES.index, ("utm_campaign", "utm_source", "utm_medium")))


class Row:
    """What is added to one summary row."""

    __slots__ = ("bounces", "duration_ms", "events", "pageviews", "sessions", "visitors")

    def __init__(self) -> None:
        self.pageviews = self.events = self.sessions = self.bounces = self.duration_ms = 0
        self.visitors: set[int] = set()

    def add(self, other: "Row") -> None:
        """Add another row to this one."""
        self.pageviews += other.pageviews
        self.events += other.events
        self.sessions += other.sessions
        self.bounces += other.bounces
        self.duration_ms += other.duration_ms
        self.visitors |= other.visitors

    def is_nothing(self) -> bool:
        """Tell whether adding this row changes nothing."""
        counts = self.pageviews, self.events, self.sessions, self.bounces, self.duration_ms
        return not any(counts) and not self.visitors


class LiveRow:
    """What is added to one slot of the last minutes; the time of the last event comes as text, too."""

    __slots__ = ("events", "last_at", "last_us", "pageviews", "visitors")

    def __init__(self) -> None:
        self.pageviews = self.events = self.last_us = 0
        self.last_at = ""
        self.visitors: set[int] = set()

    def add(self, other: "LiveRow") -> None:
        """Add another row to this one."""
        self.pageviews += other.pageviews
        self.events += other.events
        self.visitors |= other.visitors
        if other.last_us > self.last_us:
            self.last_us, self.last_at = other.last_us, other.last_at


class Day:
    """One project's local day: the total, and a dictionary of rows by value (as COPY's text) for each dimension."""

    __slots__ = ("campaigns", "entry_pages", "exit_pages", "labels", "pages", "profiles", "screens")

    def __init__(self) -> None:
        # By all attributes together: most events of a visitor share them, and are so counted once, not in 16 rows.
        self.profiles: dict[tuple[str, ...], Row] = {}
        self.pages: dict[str, Row] = {}
        self.entry_pages: dict[str, Row] = {}
        self.exit_pages: dict[str, Row] = {}
        self.screens: dict[str, Row] = {}
        self.labels: dict[str, Row] = {}
        self.campaigns: dict[str, Row] = {}

    def dimensions(self) -> list[tuple[str, dict[str, Row]]]:
        """Return every dimension's name and rows."""
        return [
            *self._spread(), (PAGE, self.pages), (ENTRY_PAGE, self.entry_pages), (EXIT_PAGE, self.exit_pages),
            (SCREEN, self.screens), (EVENT, self.labels), (CAMPAIGN, self.campaigns),
        ]  # fmt: skip

    def _spread(self) -> list[tuple[str, dict[str, Row]]]:
        """Return the total and the rows of each single attribute."""
        total = Row()
        by_attribute: list[dict[str, Row]] = [{} for _ in ATTRIBUTES]
        for attributes, profile in self.profiles.items():
            total.add(profile)
            pageviews, events, sessions = profile.pageviews, profile.events, profile.sessions
            bounces, duration_ms, visitors = profile.bounces, profile.duration_ms, profile.visitors
            for rows, value, default in zip(by_attribute, attributes, _DEFAULTS, strict=True):
                if value == NULL:
                    if default is None:
                        continue
                    value = default
                row = rows.get(value)
                if row is None:
                    row = rows[value] = Row()
                # Row.add, unrolled: 16 times a profile, calling it would take twice the time.
                row.pageviews += pageviews
                row.events += events
                row.sessions += sessions
                row.bounces += bounces
                row.duration_ms += duration_ms
                row.visitors |= visitors
        return [(TOTAL, {"": total}), *zip(ATTRIBUTES, by_attribute, strict=True)]


def _row(rows: dict[str, Row], value: str) -> Row:
    row = rows.get(value)
    if row is None:
        row = rows[value] = Row()
    return row


def name_campaign(attributes: tuple[str, ...]) -> str | None:
    """Return the value of dimension 'campaign' for a session's attributes, None without one.

    A separator within a label becomes a space, so that the value can be taken apart again.
    """
    labels = _labels(attributes)
    if labels[0] == NULL:
        return None
    return SEPARATOR.join(["" if label == NULL else label.replace(SEPARATOR, " ") for label in labels])


class Tally:
    """Everything a fold adds to the summaries, by local day and hour of each project."""

    def __init__(self, clocks: dict[int, LocalClock]) -> None:
        self._clocks = clocks
        self.days: dict[tuple[int, date], Day] = {}
        self.hours: dict[tuple[int, datetime], Row] = {}
        self.live: dict[tuple[int, int, str], LiveRow] = {}

    def _place(self, project_id: int, at_us: int) -> tuple[Day, Row]:
        place = self._clocks[project_id].place(at_us)
        day = self.days.get((project_id, place.day))
        if day is None:
            day = self.days[project_id, place.day] = Day()
        hour = self.hours.get((project_id, place.hour_at))
        if hour is None:
            hour = self.hours[project_id, place.hour_at] = Row()
        return day, hour

    def add_events(self, events: Iterable[Event]) -> None:
        """Count events on their own day and hour; engagement is none."""
        for event in events:
            if event.kind == ENGAGEMENT:
                continue
            visitor = event.visitor
            day, hour = self._place(event.project_id, event.at_us)
            profile = day.profiles.get(event.attributes)
            if profile is None:
                profile = day.profiles[event.attributes] = Row()
            touched = [hour, profile]
            if event.path != NULL:
                touched.append(_row(day.pages, event.path))
            if event.label != NULL:
                touched.append(_row(day.labels, event.label))
            if event.screen != NULL:
                touched.append(_row(day.screens, event.screen))
            pageviews = 1 if event.kind == PAGEVIEW else 0
            for row in touched:
                row.pageviews += pageviews
                row.events += 1
                row.visitors.add(visitor)

    def add_live(self, events: Iterable[Event], since_us: int) -> None:
        """Count events no older than `since_us` in their slot, for the project and for the page."""
        for event in events:
            if event.at_us < since_us or event.kind == ENGAGEMENT:
                continue
            slot = event.at_us // SLOT_US
            paths = ("",) if event.path in (NULL, "") else ("", event.path)
            for path in paths:
                row = self.live.get((event.project_id, slot, path))
                if row is None:
                    row = self.live[event.project_id, slot, path] = LiveRow()
                row.pageviews += event.kind == PAGEVIEW
                row.events += 1
                row.visitors.add(event.visitor)
                if event.at_us > row.last_us:
                    row.last_us, row.last_at = event.at_us, event.at

    def add_changes(self, changes: Iterable[Change]) -> None:
        """Count sessions as they are now instead of what was counted of them before."""
        for before, session in changes:
            now = session.counted()
            if len(before) == 1 and now is not None and before[0].is_place_of(now):
                # A session that just goes on.
                was = before[0]
                self._count(
                    now, 0, now.bounces - was.bounces, now.duration_ms - was.duration_ms,
                    now.pageviews - was.pageviews, now.events - was.events,
                )  # fmt: skip
                continue
            for was in before:
                self._count(was, -1, -was.bounces, -was.duration_ms, -was.pageviews, -was.events)
            if now is not None:
                self.add_session(now)

    def add_session(self, counted: Counted) -> None:
        """Count one session, on the day and hour of its beginning."""
        self._count(counted, 1, counted.bounces, counted.duration_ms, counted.pageviews, counted.events)

    def _count(
        self, session: Counted, sessions: int, bounces: int, duration_ms: int, pageviews: int, events: int
    ) -> None:
        campaign = name_campaign(session.attributes)
        if not (sessions or bounces or duration_ms or (campaign is not None and events)):
            return
        day, hour = self._place(session.project_id, session.started_us)
        profile = day.profiles.get(session.attributes)
        if profile is None:
            profile = day.profiles[session.attributes] = Row()
        touched = [hour, profile]
        if session.entry_path != NULL:
            touched += (_row(day.pages, session.entry_path), _row(day.entry_pages, session.entry_path))
        if session.exit_path != NULL:
            touched.append(_row(day.exit_pages, session.exit_path))
        if campaign is not None:
            row = _row(day.campaigns, campaign)
            row.pageviews += pageviews
            row.events += events
            if sessions > 0:
                # A sketch forgets nobody: who was counted for a session that a late event gives to another campaign
                # stays until the day is counted anew. Reports show no more visitors than sessions.
                row.visitors.add(session.visitor)
            touched.append(row)
        for row in touched:
            row.sessions += sessions
            row.bounces += bounces
            row.duration_ms += duration_ms
