"""Sessions: connected events of one key, whatever the order in which they arrive."""

from collections.abc import Iterable
from operator import attrgetter
from struct import Struct

import msgspec

from pulse.rollup.copying import EPOCH_US, NOTHING
from pulse.rollup.reading import ATTRIBUTES, ENGAGEMENT, MARK, PAGEVIEW, Event

# Longest silence within a session; a client that names its sessions itself may be silent for a day.
GAP_US = 30 * 60 * 1_000_000
CLIENT_GAP_US = 24 * 3600 * 1_000_000

# In the order of `Session.row`.
COLUMNS = (
    "session_key", "started_at", "ended_at", "first_event_id", "visitor", "project_id", "client_session", "pageviews",
    "events", "entry_at", "entry_id", "exit_at", "exit_id", "entry_path", "exit_path", *ATTRIBUTES,
)  # fmt: skip

# A stored row up to `events` after where it is, then its first and last pageview, all of them there or none.
_STORED = Struct(">2x4xI4xIH4xq4xq4xq4x16s4xq4xi4x?4xi4xi")
_PAGES = Struct(">4xq4x16s4xq4x16s")
_NO_PAGES = NOTHING * 4
# The same to store, each field with its length.
_NEW = Struct(">hiqiqiqi16siqiii?iiii")
_NEW_PAGES = Struct(">iqi16siqi16s")
_length = Struct(">i")

_in_order = attrgetter("at_us", "id")


class Counted(msgspec.Struct, gc=False):
    """What the summaries hold of one session, and where: by its beginning, attributes, first and last page."""

    project_id: int
    started_us: int
    first_event_id: bytes
    origin: bytes
    place: bytes
    agent: bytes
    entry_path: bytes
    exit_path: bytes
    visitor: int
    bounces: int
    duration_ms: int
    pageviews: int
    events: int


class Session:
    """One session; times, ids and text are as in `Event`.

    `events` counts every event but engagement; a session without any (its first pageview is still on its way, or
    its tab was left open) is kept, so that what follows can join it, and counts nowhere. Without pageviews there is
    neither an entry nor an exit. `before` is what had been counted of the stored sessions that it was made from.
    """

    __slots__ = (
        "agent", "before", "client_session", "ended_us", "entry_id", "entry_path", "entry_us", "events", "exit_id",
        "exit_path", "exit_us", "first_event_id", "origin", "pageviews", "place", "project_id", "session_key",
        "started_us", "visitor",
    )  # fmt: skip

    def __init__(self, event: Event) -> None:
        """Begin a session with an event that is still to be absorbed."""
        self.project_id, self.session_key = event.project_id, event.session_key
        self.ended_us = event.at_us
        self.pageviews = self.events = self.entry_us = self.exit_us = 0
        self.entry_id = self.exit_id = b""
        self.entry_path = self.exit_path = NOTHING
        self.before: tuple[Counted, ...] = ()
        self._begin(event)

    @classmethod
    def read(cls, row: bytes) -> tuple[int, str, "Session"]:
        """Return a stored session from a row of block `read_sessions`, and where it is: its partition, and its place.

        Text is passed through: 1 µs.
        """
        self = cls.__new__(cls)
        (
            partition, block, line, self.session_key, started_us, ended_us, self.first_event_id, self.visitor,
            self.project_id, self.client_session, self.pageviews, self.events,
        ) = _STORED.unpack_from(row)  # fmt: skip
        self.started_us, self.ended_us = started_us + EPOCH_US, ended_us + EPOCH_US
        self.before = ()
        at = _STORED.size
        if self.pageviews:
            entry_us, self.entry_id, exit_us, self.exit_id = _PAGES.unpack_from(row, at)
            self.entry_us, self.exit_us = entry_us + EPOCH_US, exit_us + EPOCH_US
            at += _PAGES.size
        else:
            self.entry_us = self.exit_us = 0
            self.entry_id = self.exit_id = b""
            at += len(_NO_PAGES)
        paths, self.origin, self.place, self.agent = row[at:].split(MARK)
        end = 4 + max(_length.unpack_from(paths)[0], 0)
        self.entry_path, self.exit_path = paths[:end], paths[end:]
        return partition, f"({block},{line})", self

    def _begin(self, event: Event) -> None:
        self.started_us, self.first_event_id = event.at_us, event.id
        self.visitor, self.client_session = event.visitor, event.client_session
        self.origin, self.place, self.agent = event.origin, event.place, event.agent

    def row(self) -> bytes:
        """Return the row to store, in the order of COLUMNS."""
        head = _NEW.pack(
            len(COLUMNS), 8, self.session_key, 8, self.started_us - EPOCH_US, 8, self.ended_us - EPOCH_US,
            16, self.first_event_id, 8, self.visitor, 4, self.project_id, 1, self.client_session, 4, self.pageviews,
            4, self.events,
        )  # fmt: skip
        pages = _NO_PAGES
        if self.pageviews:
            pages = _NEW_PAGES.pack(
                8, self.entry_us - EPOCH_US, 16, self.entry_id, 8, self.exit_us - EPOCH_US, 16, self.exit_id
            )
        return b"".join((head, pages, self.entry_path, self.exit_path, self.origin, self.place, self.agent))

    @property
    def bounces(self) -> int:
        """1 for a session that is a single pageview, else 0."""
        return 1 if self.events == 1 == self.pageviews else 0

    @property
    def duration_ms(self) -> int:
        """From the first event to the last, in milliseconds."""
        return (self.ended_us - self.started_us) // 1000

    def remember(self) -> None:
        """Note what the summaries hold of this session, as long as it is as it was stored: nothing without events."""
        if self.events:
            self.before = (Counted(
                self.project_id, self.started_us, self.first_event_id, self.origin, self.place, self.agent,
                self.entry_path, self.exit_path, self.visitor, self.bounces, self.duration_ms, self.pageviews,
                self.events,
            ),)  # fmt: skip

    def absorb(self, event: Event) -> None:
        """Count one event in."""
        at_us = event.at_us
        if (at_us, event.id) < (self.started_us, self.first_event_id):
            self._begin(event)
        if at_us > self.ended_us:
            self.ended_us = at_us
        if event.kind == ENGAGEMENT:
            return
        self.events += 1
        if event.kind == PAGEVIEW:
            if not self.pageviews or (at_us, event.id) < (self.entry_us, self.entry_id):
                self.entry_us, self.entry_id, self.entry_path = at_us, event.id, event.path
            if not self.pageviews or (at_us, event.id) > (self.exit_us, self.exit_id):
                self.exit_us, self.exit_id, self.exit_path = at_us, event.id, event.path
            self.pageviews += 1

    def follow(self, event: Event) -> None:
        """Count in an event that comes after all that were counted so far, or is the one it began with."""
        self.ended_us = event.at_us
        if event.kind == ENGAGEMENT:
            return
        self.events += 1
        if event.kind == PAGEVIEW:
            if not self.pageviews:
                self.entry_us, self.entry_id, self.entry_path = event.at_us, event.id, event.path
            self.pageviews += 1
            self.exit_us, self.exit_id, self.exit_path = event.at_us, event.id, event.path

    def join(self, later: "Session") -> None:
        """Take in a session of the same key that began after the last event of this one."""
        self.ended_us = later.ended_us
        self.events += later.events
        if later.pageviews:
            if not self.pageviews:
                self.entry_us, self.entry_id, self.entry_path = later.entry_us, later.entry_id, later.entry_path
            self.exit_us, self.exit_id, self.exit_path = later.exit_us, later.exit_id, later.exit_path
        self.pageviews += later.pageviews
        self.before += later.before


class Group:
    """The new events of one key, and the sessions of that key which they may join."""

    __slots__ = ("_span", "events", "gap_us", "sessions")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sessions: list[Session] = []
        self.gap_us = GAP_US
        self._span: tuple[int, int] | None = None

    def span(self) -> tuple[int, int]:
        """Return when a session must end at the earliest, and begin at the latest, to be joined by any of the events.

        Asked for when all events are there: the answer is kept.
        """
        if self._span is None:
            times = [event.at_us for event in self.events]
            self._span = min(times) - self.gap_us, max(times) + self.gap_us
        return self._span

    def connect(self) -> list[Session]:
        """Return every session there is now, in order.

        Two neighbours are one session when the silence between them is no longer than the gap.
        """
        events, sessions = self.events, self.sessions
        if len(events) > 1:
            events.sort(key=_in_order)
        if not sessions:
            return self._append(None)
        if len(sessions) == 1 and events[0].at_us > sessions[0].ended_us:
            return self._append(sessions[0])
        return self._insert()

    def _append(self, current: Session | None) -> list[Session]:
        """Connect events that come after all of the session there is, if any: nearly always so."""
        connected = [] if current is None else [current]
        for event in self.events:
            if current is None or event.at_us - current.ended_us > self.gap_us:
                current = Session(event)
                connected.append(current)
            current.follow(event)
        return connected

    def _insert(self) -> list[Session]:
        """Connect events that may come before, between or within the sessions there are.

        Stored sessions are further apart than the gap, so an interval stands for all its events.
        """
        pieces: list[tuple[int, bool, bytes, Session | Event]] = [(e.at_us, True, e.id, e) for e in self.events]
        pieces += [(s.started_us, False, s.first_event_id, s) for s in self.sessions]
        pieces.sort()
        connected: list[Session] = []
        current: Session | None = None
        for start_us, _, _, piece in pieces:
            if current is None or start_us - current.ended_us > self.gap_us:
                current = piece if isinstance(piece, Session) else Session(piece)
                connected.append(current)
            elif isinstance(piece, Session):
                current.join(piece)
            if isinstance(piece, Event):
                current.absorb(piece)
        return connected


def group_events(
    events: Iterable[Event], groups: dict[tuple[int, int], Group] | None = None
) -> dict[tuple[int, int], Group]:
    """Gather events by project and session key, in groups that are there already if any are given."""
    groups = {} if groups is None else groups
    for event in events:
        key = event.project_id, event.session_key
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group()
        group.events.append(event)
        if event.client_session:
            group.gap_us = CLIENT_GAP_US
    return groups
