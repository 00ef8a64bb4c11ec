"""Events and sessions put down for the summaries as a fold meets them, each where it is counted."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime

from pulse.rollup.copying import unpack_texts
from pulse.rollup.reading import ENGAGEMENT, PAGEVIEW, Event
from pulse.rollup.sessions import Session
from pulse.rollup.summaries import (
    SLOT_US,
    Day,
    LiveRow,
    Row,
    Span,
    Summaries,
    Visits,
    name_campaign,
    to_live,
)
from pulse.storage.localtime import LocalClock


class _Campaigns(dict[bytes, str | None]):
    """The values of dimension 'campaign' by origin."""

    def __missing__(self, origin: bytes) -> str | None:
        found = self[origin] = name_campaign(unpack_texts(origin))
        return found


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
        self._campaigns = _Campaigns()

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
                    self._take_back(was)
                self.add_session(now)

    def add_session(self, session: Session) -> None:
        """Count one session that has events, on the day and hour of its beginning."""
        visits = self._visits_of(session)
        rows = visits.rows_of(session)
        if session.events == 1 == session.pageviews:
            for row in rows:
                row.sessions += 1
                row.bounces += 1
        else:
            for row in rows:
                row.sessions += 1
        if duration_ms := session.duration_ms:
            for row in rows:
                row.duration_ms += duration_ms
        campaign = self._campaigns[session.origin]
        if campaign is not None:
            row = visits.campaigns[campaign]
            row.sessions += 1
            row.bounces += session.bounces
            row.duration_ms += duration_ms
            row.pageviews += session.pageviews
            row.events += session.events
            # A sketch forgets nobody: who was counted for a session that a late event gives to another campaign
            # stays until the day is counted anew. Reports show no more visitors than sessions.
            row.crowds.append((session.visitor,))

    def _take_back(self, was: Session) -> None:
        """Subtract a session as it was counted; its visitor stays in the sketches."""
        visits = self._visits_of(was)
        rows = visits.rows_of(was)
        campaign = self._campaigns[was.origin]
        if campaign is not None:
            row = visits.campaigns[campaign]
            row.pageviews -= was.pageviews
            row.events -= was.events
            rows = (*rows, row)
        for row in rows:
            row.sessions -= 1
            row.bounces -= was.bounces
            row.duration_ms -= was.duration_ms

    def _go_on(self, was: Session, now: Session) -> None:
        """Count what is new in a session that began as before."""
        visits = self._visits_of(now)
        bounces = now.bounces - 1 if was.bounces else 0
        duration_ms = now.duration_ms - was.duration_ms
        if was.exit_path != now.exit_path:
            # The difference is put where it leaves now; what was counted before moves there, too.
            for path, sign in ((was.exit_path, -1), (now.exit_path, 1)):
                row = visits.exits[path]
                row.sessions += sign
                row.bounces += sign * was.bounces
                row.duration_ms += sign * was.duration_ms
        if bounces or duration_ms:
            for row in visits.rows_of(now):
                row.bounces += bounces
                row.duration_ms += duration_ms
        campaign = self._campaigns[now.origin]
        if campaign is not None:
            row = visits.campaigns[campaign]
            row.bounces += bounces
            row.duration_ms += duration_ms
            row.pageviews += now.pageviews - was.pageviews
            row.events += now.events - was.events

    def _visits_of(self, session: Session) -> Visits:
        """Return where a session is counted."""
        project_id = session.project_id
        at = project_id, session.started_us // SLOT_US
        visits = self._visits_from.get(at)
        if visits is None:
            hour_at = self._clocks[project_id].place(session.started_us).hour_at
            visits = self._visits_from[at] = self._visits[project_id, hour_at]
        return visits

    def summaries(self) -> Summaries:
        """Return the rows of all that was counted."""
        days: defaultdict[tuple[int, date], Day] = defaultdict(Day)
        hours: defaultdict[tuple[int, datetime], Row] = defaultdict(Row)
        live: dict[tuple[int, int, str], LiveRow] = {}
        for (project_id, at), span in self._hours.items():
            day, hour = days[project_id, self._clocks[project_id].day(at)], hours[project_id, at]
            day.add_span(span, hour, None)
        for (project_id, slot), span in self._slots.items():
            place = self._clocks[project_id].place(slot * SLOT_US)
            pages: defaultdict[bytes, LiveRow] = defaultdict(LiveRow)
            days[project_id, place.day].add_span(span, hours[project_id, place.hour_at], pages)
            live |= {(project_id, slot, path): row for path, row in to_live(pages).items()}
        for (project_id, at), visits in self._visits.items():
            days[project_id, self._clocks[project_id].day(at)].add_visits(visits, hours[project_id, at])
        return Summaries({key: day.dimensions() for key, day in days.items()}, hours, live)


def _goes_on(was: Session, now: Session) -> bool:
    """Tell whether a session has the beginning that it was counted with, and so differs in its end alone."""
    return (
        was.started_us == now.started_us
        and was.first_event_id == now.first_event_id
        and was.entry_path == now.entry_path
    )
