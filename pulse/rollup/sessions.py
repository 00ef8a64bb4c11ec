"""Sessions: connected events of one key, whatever the order in which they arrive."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pulse.rollup.copying import NULL
from pulse.rollup.reading import ATTRIBUTES, ENGAGEMENT, PAGEVIEW, Event

# Longest silence within a session; a client that names its sessions itself may be silent for a day.
GAP_US = 30 * 60 * 1_000_000
CLIENT_GAP_US = 24 * 3600 * 1_000_000

# In the order of `Session.fields`.
COLUMNS = (
    "project_id", "session_key", "started_at", "ended_at", "first_event_id", "visitor", "client_session",
    "pageviews", "events", "entry_at", "entry_id", "entry_path", "exit_at", "exit_id", "exit_path", *ATTRIBUTES,
)  # fmt: skip


class Counted(NamedTuple):
    """What the summaries hold of one session, and where: by its beginning, attributes, first and last page."""

    project_id: int
    started_us: int
    attributes: tuple[str, ...]
    entry_path: str
    exit_path: str
    visitor: int
    bounces: int
    duration_ms: int
    pageviews: int
    events: int

    def is_place_of(self, other: "Counted") -> bool:
        """Tell whether another is counted in the same rows, so that only figures differ."""
        return self[:6] == other[:6]


class Session:
    """One session; text is COPY's (see copying.py), times come as text and as microseconds since 1970.

    `events` counts every event but engagement; a session without any (its first pageview is still on its way, or
    its tab was left open) is kept, so that what follows can join it, and counts nowhere.
    """

    __slots__ = (
        "attributes", "client_session", "ended_at", "ended_us", "entry_at", "entry_id", "entry_path", "entry_us",
        "events", "exit_at", "exit_id", "exit_path", "exit_us", "first_event_id", "pageviews", "project_id",
        "session_key", "started_at", "started_us", "visitor",
    )  # fmt: skip

    def __init__(self, event: Event) -> None:
        """Begin a session with an event that is still to be absorbed."""
        self.project_id = event.project_id
        self.session_key = event.session_key
        self.ended_us, self.ended_at = event.at_us, event.at
        self.pageviews = self.events = 0
        self.entry_us = self.exit_us = 0
        self.entry_at = self.entry_id = self.entry_path = NULL
        self.exit_at = self.exit_id = self.exit_path = NULL
        self._begin(event)

    @classmethod
    def read(cls, fields: list[str]) -> "Session":
        """Return a stored session, from the columns of block `read_sessions`."""
        self = cls.__new__(cls)
        (
            _, _, project_id, self.session_key, started_us, self.started_at, ended_us, self.ended_at,
            self.first_event_id, visitor, client_session, pageviews, events,
            entry_us, self.entry_at, self.entry_id, self.entry_path,
            exit_us, self.exit_at, self.exit_id, self.exit_path, *attributes,
        ) = fields  # fmt: skip
        self.project_id, self.visitor, self.client_session = int(project_id), int(visitor), client_session == "t"
        self.started_us, self.ended_us = int(started_us), int(ended_us)
        self.pageviews, self.events = int(pageviews), int(events)
        self.entry_us = 0 if entry_us == NULL else int(entry_us)
        self.exit_us = 0 if exit_us == NULL else int(exit_us)
        self.attributes = tuple(attributes)
        return self

    def _begin(self, event: Event) -> None:
        self.started_us, self.started_at, self.first_event_id = event.at_us, event.at, event.id
        self.visitor, self.client_session, self.attributes = event.visitor, event.client_session, event.attributes

    def fields(self) -> list[str]:
        """Return the row to store, in the order of COLUMNS."""
        return [
            str(self.project_id), self.session_key, self.started_at, self.ended_at, self.first_event_id,
            str(self.visitor), "t" if self.client_session else "f", str(self.pageviews), str(self.events),
            self.entry_at, self.entry_id, self.entry_path, self.exit_at, self.exit_id, self.exit_path, *self.attributes,
        ]  # fmt: skip

    def counted(self) -> "Counted | None":
        """Return what the summaries hold of this session, None while they hold nothing."""
        if self.events == 0:
            return None
        return Counted(
            self.project_id, self.started_us, self.attributes, self.entry_path, self.exit_path, self.visitor,
            int(self.pageviews == 1 and self.events == 1), (self.ended_us - self.started_us) // 1000,
            self.pageviews, self.events,
        )  # fmt: skip

    def absorb(self, event: Event) -> None:
        """Count one event in."""
        at_us, kind = event.at_us, event.kind
        if (at_us, event.id) < (self.started_us, self.first_event_id):
            self._begin(event)
        if at_us > self.ended_us:
            self.ended_us, self.ended_at = at_us, event.at
        if kind == ENGAGEMENT:
            return
        self.events += 1
        if kind == PAGEVIEW:
            self.pageviews += 1
            if self.entry_at == NULL or (at_us, event.id) < (self.entry_us, self.entry_id):
                self.entry_us, self.entry_at, self.entry_id, self.entry_path = at_us, event.at, event.id, event.path
            if self.exit_at == NULL or (at_us, event.id) > (self.exit_us, self.exit_id):
                self.exit_us, self.exit_at, self.exit_id, self.exit_path = at_us, event.at, event.id, event.path

    def join(self, later: "Session") -> None:
        """Take in a session of the same key that began after the last event of this one."""
        self.ended_us, self.ended_at = later.ended_us, later.ended_at
        self.events += later.events
        self.pageviews += later.pageviews
        if later.entry_at == NULL:
            return
        if self.entry_at == NULL:
            self.entry_us, self.entry_at = later.entry_us, later.entry_at
            self.entry_id, self.entry_path = later.entry_id, later.entry_path
        self.exit_us, self.exit_at = later.exit_us, later.exit_at
        self.exit_id, self.exit_path = later.exit_id, later.exit_path


class Change(NamedTuple):
    """A session as it is now, and what had been counted of those it was made from."""

    before: list[Counted]
    session: Session


class Group:
    """The new events of one key, and the sessions of that key which they may join."""

    __slots__ = ("events", "gap_us", "sessions")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sessions: list[Session] = []
        self.gap_us = GAP_US

    def connect(self) -> Iterator["Change"]:
        """Give out every session there is now, in order.

        Two neighbours are one session when the silence between them is no longer than the gap. Stored sessions are
        further apart than that, so an interval stands for all its events.
        """
        pieces: list[tuple[int, bool, str, Session | Event]] = [(e.at_us, True, e.id, e) for e in self.events]
        pieces += [(s.started_us, False, s.first_event_id, s) for s in self.sessions]
        pieces.sort()
        current: Session | None = None
        before: list[Counted] = []
        for start_us, _, _, piece in pieces:
            counted = piece.counted() if isinstance(piece, Session) else None
            if current is None or start_us - current.ended_us > self.gap_us:
                if current is not None:
                    yield Change(before, current)
                current, before = piece if isinstance(piece, Session) else Session(piece), []
            elif isinstance(piece, Session):
                current.join(piece)
            if counted is not None:
                before.append(counted)
            if isinstance(piece, Event):
                current.absorb(piece)
        if current is not None:
            yield Change(before, current)


def group_events(events: Iterable[Event]) -> dict[tuple[int, str], Group]:
    """Gather events by project and session key."""
    groups: dict[tuple[int, str], Group] = {}
    for event in events:
        key = event.project_id, event.session_key
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group()
        group.events.append(event)
        if event.client_session:
            group.gap_us = CLIENT_GAP_US
    return groups
