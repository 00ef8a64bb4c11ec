"""Sessions: connected events of one key, whatever the order in which they arrive."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import attrgetter
from struct import Struct

import msgspec
from msgspec.structs import replace

from pulse.rollup.copying import EPOCH_US, NOTHING
from pulse.rollup.reading import ATTRIBUTES, ENGAGEMENT, MARK, PAGEVIEW, Event, Share

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
# What follows on them: paths and attributes.
_AFTER_PAGES = slice(_STORED.size + _PAGES.size, None)
_AFTER_NO_PAGES = slice(_STORED.size + len(_NO_PAGES), None)
# The same to store, each field with its length.
_NEW = Struct(">hiqiqiqi16siqiii?iiii")
_NEW_PAGES = Struct(">iqi16siqi16s")
_COUNT = len(COLUMNS)
# What a session that goes on has new.
CHANGES = (
    "partition", "place", "ended_at", "pageviews", "events", "entry_at", "entry_id", "exit_at", "exit_id", "entry_path",
    "exit_path",
)  # fmt: skip
_CHANGED = Struct(">hiIiIHiqiiii")
_length = Struct(">i")

_in_order = attrgetter("at_us", "id")
_is_named = attrgetter("client_session")

# Events by project and session key.
Groups = defaultdict[tuple[int, int], list[Event]]
# Where a row is: partition, block, line, and the time and id of the event it begins with.
Place = tuple[int, int, int, int, bytes]


class Session(msgspec.Struct, gc=False):
    """One session; times, ids and text are as in `Event`.

    `events` counts every event but engagement; a session without any (its first pageview is still on its way, or
    its tab was left open) is kept, so that what follows can join it, and counts nowhere. Without pageviews there is
    neither an entry nor an exit. `before` are the stored sessions that it was made from, as they had been counted.
    `stored` is where its row is, if it was read.
    """

    session_key: int
    started_us: int
    ended_us: int
    first_event_id: bytes
    visitor: int
    project_id: int
    client_session: bool
    pageviews: int
    events: int
    entry_us: int
    entry_id: bytes
    exit_us: int
    exit_id: bytes
    entry_path: bytes
    exit_path: bytes
    origin: bytes
    place: bytes
    agent: bytes
    before: "tuple[Session, ...]" = ()
    stored: Place | None = None

    @classmethod
    def begin(cls, event: Event) -> "Session":
        """Return a session of one event; 0.2 µs."""
        at_us, event_id = event.at_us, event.id
        if event.kind == PAGEVIEW:
            path = event.path
            return cls(
                event.session_key, at_us, at_us, event_id, event.visitor, event.project_id, event.client_session, 1, 1,
                at_us, event_id, at_us, event_id, path, path, event.origin, event.place, event.agent,
            )  # fmt: skip
        return cls(
            event.session_key, at_us, at_us, event_id, event.visitor, event.project_id, event.client_session, 0,
            0 if event.kind == ENGAGEMENT else 1, 0, b"", 0, b"", NOTHING, NOTHING,
            event.origin, event.place, event.agent,
        )  # fmt: skip

    @classmethod
    def read(cls, row: bytes, share: Share) -> "Session":
        """Return a stored session from a row of block `read_sessions`; text is passed through: 0.8 µs."""
        (
            partition, block, line, session_key, started_us, ended_us, first_event_id, visitor, project_id,
            client_session, pageviews, events,
        ) = _STORED.unpack_from(row)  # fmt: skip
        if pageviews:
            entry_us, entry_id, exit_us, exit_id = _PAGES.unpack_from(row, _STORED.size)
            entry_us, exit_us = entry_us + EPOCH_US, exit_us + EPOCH_US
            paths, origin, place, agent = row[_AFTER_PAGES].split(MARK)
        else:
            entry_us = exit_us = 0
            entry_id = exit_id = b""
            paths, origin, place, agent = row[_AFTER_NO_PAGES].split(MARK)
        end = _length.size + max(_length.unpack_from(paths)[0], 0)
        entry_path, exit_path = paths[:end], paths[end:]
        started_us += EPOCH_US
        return cls(
            session_key, started_us, ended_us + EPOCH_US, first_event_id, visitor, project_id,
            client_session, pageviews, events, entry_us, entry_id, exit_us, exit_id,
            share(entry_path, entry_path), share(exit_path, exit_path), share(origin, origin), share(place, place),
            share(agent, agent), (), (partition, block, line, started_us, first_event_id),
        )  # fmt: skip

    def row(self) -> bytes:
        """Return the row to store, in the order of COLUMNS."""
        head = _NEW.pack(
            _COUNT, 8, self.session_key, 8, self.started_us - EPOCH_US, 8, self.ended_us - EPOCH_US,
            16, self.first_event_id, 8, self.visitor, 4, self.project_id, 1, self.client_session, 4, self.pageviews,
            4, self.events,
        )  # fmt: skip
        return b"".join((head, self._pages(), self.entry_path, self.exit_path, self.origin, self.place, self.agent))

    def _pages(self) -> bytes:
        if not self.pageviews:
            return _NO_PAGES
        return _NEW_PAGES.pack(
            8, self.entry_us - EPOCH_US, 16, self.entry_id, 8, self.exit_us - EPOCH_US, 16, self.exit_id
        )

    @property
    def goes_on(self) -> bool:
        """Whether its row is there and only later events came: it then is the same but for CHANGES."""
        if self.stored is None:
            return False
        return self.stored[3] == self.started_us and self.stored[4] == self.first_event_id

    def changes(self) -> bytes:
        """Return a row of CHANGES, of a session that goes on."""
        assert self.stored is not None
        partition, block, line, *_ = self.stored
        head = _CHANGED.pack(
            len(CHANGES), 4, partition, 6, block, line, 8, self.ended_us - EPOCH_US, 4, self.pageviews, 4, self.events
        )
        return b"".join((head, self._pages(), self.entry_path, self.exit_path))

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
            self.before = (replace(self),)

    def absorb(self, event: Event) -> None:
        """Count one event in."""
        at_us = event.at_us
        if (at_us, event.id) < (self.started_us, self.first_event_id):
            self.started_us, self.first_event_id = at_us, event.id
            self.visitor, self.client_session = event.visitor, event.client_session
            self.origin, self.place, self.agent = event.origin, event.place, event.agent
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
        """Count in an event that comes after all that were counted so far."""
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


def connect(events: list[Event], stored: Sequence[Session] = ()) -> list[Session]:
    """Return every session of one key, in order: of its new events and the stored ones that they may join.

    The events get sorted. Two neighbours are one session when the silence between them is no longer than the gap.
    """
    if len(events) > 1:
        _put_in_order(events)
    elif not stored:
        return [Session.begin(events[0])]  # the quick way: half of all keys
    if not stored:
        return _append([Session.begin(events[0])], events, 1)
    if len(stored) == 1 and events[0].at_us > stored[0].ended_us:
        return _append([stored[0]], events, 0)
    return _insert(events, stored)


def _put_in_order(events: list[Event]) -> None:
    """Sort the events by time, and by id where that is the same; they nearly always come so."""
    last_us, last_id = 0, b""
    for event in events:
        if event.at_us <= last_us and (event.at_us < last_us or event.id < last_id):
            events.sort(key=_in_order)
            return
        last_us, last_id = event.at_us, event.id


def find_gap(events: Iterable[Event]) -> int:
    """Return the longest silence within a session of some events."""
    return CLIENT_GAP_US if any(map(_is_named, events)) else GAP_US


def find_bounds(events: Sequence[Event]) -> tuple[int, int]:
    """Return when a session must end at the earliest, and begin at the latest, to be joined by any of the events."""
    times, gap_us = [event.at_us for event in events], find_gap(events)
    return min(times) - gap_us, max(times) + gap_us


def _append(connected: list[Session], events: Sequence[Event], already: int) -> list[Session]:
    """Connect events that come after all of the session there is, which has the first of them `already`.

    Nearly all do.
    """
    current = connected[0]
    for event in islice(events, already, None):
        silence_us = event.at_us - current.ended_us
        if silence_us > GAP_US and silence_us > find_gap(events):
            current = Session.begin(event)
            connected.append(current)
        else:
            current.follow(event)
    return connected


def _insert(events: Sequence[Event], stored: Iterable[Session]) -> list[Session]:
    """Connect events that may come before, between or within the sessions there are.

    Stored sessions are further apart than the gap, so an interval stands for all its events.
    """
    gap_us = find_gap(events)
    pieces: list[tuple[int, bool, bytes, Session | Event]] = [(e.at_us, True, e.id, e) for e in events]
    pieces += [(s.started_us, False, s.first_event_id, s) for s in stored]
    pieces.sort()
    connected: list[Session] = []
    current: Session | None = None
    for start_us, _, _, piece in pieces:
        if current is None or start_us - current.ended_us > gap_us:
            current = piece if isinstance(piece, Session) else Session.begin(piece)
            connected.append(current)
        elif isinstance(piece, Session):
            current.join(piece)
        else:
            current.absorb(piece)
    return connected


def group_events(events: Iterable[Event], groups: Groups | None = None) -> Groups:
    """Gather events by project and session key, in groups that are there already if any are given."""
    groups = defaultdict(list) if groups is None else groups
    for event in events:
        groups[event.project_id, event.session_key].append(event)
    return groups
