"""A drawn day counted into summary rows, as the fold would count its events one by one; a tenth of that time.

A day's sessions lie wholly in it, and each begins with a pageview: so all sums are by position in arrays.
"""

from typing import NamedTuple

import numpy as np

from pulse.load.bench_data.catalogue import ORIGIN_COLUMNS, Catalogue, Facts, to_text
from pulse.load.bench_data.day import ACTION, ENGAGEMENT, PAGEVIEW, Day, Ints
from pulse.rollup import summaries
from pulse.rollup.copying import NULL, decode, encode
from pulse.rollup.reading import ATTRIBUTES, ORIGIN
from pulse.rollup.summaries import MISSING, Dimensions, Row, name_campaign


class Visits(NamedTuple):
    """Arrays with one item a session: its first and last event and last pageview as places in the day, and counts."""

    first: Ints
    last: Ints
    exit: Ints
    pageviews: Ints
    events: Ints
    bounces: Ints
    duration_ms: Ints


class Part(NamedTuple):
    """Pageviews, events, sessions, bounces and milliseconds of each item of a list; pairs (item, person), each once."""

    figures: Ints
    items: Ints
    people: Ints


def list_origins(catalogue: Catalogue) -> list[Facts]:
    """Return the facts that an event's origin counts: within the site, then each arrival's two."""
    return [catalogue.inside, *(facts for arrival in catalogue.arrivals for facts in (arrival.first, arrival.then))]


def find_origins(day: Day) -> Ints:
    """Return each event's origin: the first page keeps the campaign of its address, its pageview the referrer too."""
    step = np.where(day.page > 0, 0, np.where(day.kind == PAGEVIEW, 1, 2))
    origins: Ints = np.where(step, day.sessions.arrival[day.session] * 2 + step, 0)
    return origins


def find_visits(day: Day) -> Visits:
    """Return the day's sessions."""
    count, places = len(day.sessions.visitor), np.arange(len(day.session))
    is_view, is_counted = day.kind == PAGEVIEW, day.kind != ENGAGEMENT
    first, last, exits = (np.empty(count, np.int64) for _ in range(3))
    first[day.session[::-1]] = places[::-1]  # of several, the last one written stays
    last[day.session] = places
    exits[day.session[is_view]] = places[is_view]
    pageviews = np.bincount(day.session[is_view], minlength=count)
    events = np.bincount(day.session[is_counted], minlength=count)
    bounces = ((pageviews == 1) & (events == 1)).astype(np.int64)
    return Visits(first, last, exits, pageviews, events, bounces, day.at_ms[last] - day.at_ms[first])


class Counter:
    """Counts one day."""

    def __init__(self, day: Day, visits: Visits, catalogue: Catalogue) -> None:
        self._day, self._visits, self._catalogue = day, visits, catalogue
        people, self._person = np.unique(day.sessions.visitor, return_inverse=True)
        # As objects: each hash becomes a Python number once, not once for each row that it is in.
        self._people = people.astype(object)
        self._counted = np.flatnonzero(day.kind != ENGAGEMENT)
        self._session = day.session[self._counted]
        self._is_view = day.kind[self._counted] == PAGEVIEW

    def dimensions(self) -> Dimensions:
        """Return the rows of all dimensions."""
        day, sessions, catalogue = self._day, self._day.sessions, self._catalogue
        agents, places = len(catalogue.agents), len(catalogue.places)
        origins, arrived = list_origins(catalogue), sessions.arrival * 2 + 1
        agent = self._whole(agents, sessions.agent)
        place = self._whole(places, sessions.place)
        origin = self._part(len(origins), find_origins(day)[self._counted], arrived)
        paths = day.path
        page = self._part(len(catalogue.paths), paths[self._counted], paths[self._visits.first])
        total = self._spread(agent, [""] * agents)
        found = [(summaries.TOTAL, total)]
        for name in ATTRIBUTES:
            if name == "hostname":
                found.append((name, {decode(catalogue.hostname): total[""]}))
                continue
            part, items = (
                (origin, origins) if name in ORIGIN_COLUMNS
                else (place, catalogue.places) if name in catalogue.places[0] else (agent, catalogue.agents)
            )  # fmt: skip
            default = MISSING.get(name, NULL)
            values = [value if (value := item.get(name, NULL)) != NULL else default for item in items]
            found.append((name, self._spread(part, values)))
        screens = [f"{item['screen_width']}x{item['screen_height']}" for item in catalogue.agents]
        return [
            *found,
            (summaries.PAGE, self._spread(page, catalogue.paths)),
            (summaries.ENTRY_PAGE, self._spread(self._of_sessions(page, paths[self._visits.first]), catalogue.paths)),
            (summaries.EXIT_PAGE, self._spread(self._of_sessions(page, paths[self._visits.exit]), catalogue.paths)),
            (summaries.SCREEN, self._spread(_without_sessions(agent), screens)),
            (summaries.EVENT, self._spread(self._actions(), [item["event_name"] for item in catalogue.actions])),
            (summaries.CAMPAIGN, self._spread(self._arrivals(), self._list_campaigns())),
        ]  # fmt: skip

    def hours(self, begins_ms: Ints) -> list[Row]:
        """Return a row for each hour that begins at one of these times, which ascend."""
        hour = np.searchsorted(begins_ms, self._day.at_ms, side="right") - 1
        part = self._part(len(begins_ms), hour[self._counted], hour[self._visits.first])
        rows = self._spread(part, [str(number) for number in range(len(begins_ms))])
        return [rows.get(str(number), Row()) for number in range(len(begins_ms))]

    def _part(self, items: int, of_event: Ints, of_session: Ints) -> Part:
        """Count the events and sessions that have each item."""
        figures = np.concatenate([self._of_events(items, of_event), self._of_visits(items, of_session)])
        return Part(figures, *self._who(of_event, self._person[self._session]))

    def _whole(self, items: int, of_session: Ints) -> Part:
        """As `_part`, where all events of a session have its item."""
        figures = [self._of_events(items, of_session[self._session]), self._of_visits(items, of_session)]
        return Part(np.concatenate(figures), *self._who(of_session, self._person))

    def _of_events(self, items: int, of_event: Ints) -> Ints:
        return np.stack([
            np.bincount(of_event[self._is_view], minlength=items), np.bincount(of_event, minlength=items),
        ])  # fmt: skip

    def _of_visits(self, items: int, of_session: Ints) -> Ints:
        visits = self._visits
        sums = [np.bincount(of_session, weights, items) for weights in (None, visits.bounces, visits.duration_ms)]
        return np.stack(sums).astype(np.int64)  # exact: far below 2^53

    def _who(self, items: Ints, people: Ints) -> tuple[Ints, Ints]:
        """Return each pair once, in the order of items."""
        pairs = np.unique(items.astype(np.int64) * len(self._people) + people)
        found: tuple[Ints, Ints] = np.divmod(pairs, len(self._people))
        return found

    def _of_sessions(self, part: Part, of_session: Ints) -> Part:
        """Return sessions alone, by another of their items."""
        figures = np.zeros_like(part.figures)
        figures[2:] = self._of_visits(figures.shape[1], of_session)
        return Part(figures, *_NOBODY)

    def _actions(self) -> Part:
        """Return the named events by action; they are nobody's sessions."""
        acts = self._day.kind[self._counted] == ACTION
        action = self._day.action[self._counted[acts]]
        figures = np.zeros((5, len(self._catalogue.actions)), np.int64)
        figures[1] = np.bincount(action, minlength=figures.shape[1])
        return Part(figures, *self._who(action, self._person[self._session[acts]]))

    def _arrivals(self) -> Part:
        """Return what whole sessions did, by arrival."""
        arrival, visits = self._day.sessions.arrival, self._visits
        items = len(self._catalogue.arrivals)
        sums = [np.bincount(arrival, weights, items) for weights in (visits.pageviews, visits.events)]
        figures = np.concatenate([np.stack(sums).astype(np.int64), self._of_visits(items, arrival)])
        return Part(figures, *self._who(arrival, self._person))

    def _list_campaigns(self) -> list[str]:
        firsts = (arrival.first for arrival in self._catalogue.arrivals)
        names = (name_campaign([to_text(facts.get(name, NULL)) for name in ORIGIN]) for facts in firsts)
        return [NULL if name is None else encode(name) for name in names]

    def _spread(self, part: Part, values: list[str]) -> dict[str, Row]:
        """Return a row for each distinct value of the items; NULL has none."""
        number = {value: place for place, value in enumerate(dict.fromkeys(values))}
        of_item = np.array([number[value] for value in values])
        figures = np.zeros((5, len(number)), np.int64)
        np.add.at(figures.T, of_item, part.figures.T)
        numbers, people = part.items, part.people
        if len(number) < len(values):
            numbers, people = self._who(of_item[numbers], people)
        ends = np.searchsorted(numbers, np.arange(len(number)), side="right").tolist()
        who, rows, start = self._people[people].tolist(), {}, 0
        for value, end, sums in zip(number, ends, figures.T.tolist(), strict=True):
            if value != NULL and any(sums):
                row = rows[decode(value)] = Row()
                row.pageviews, row.events, row.sessions, row.bounces, row.duration_ms = sums
                row.crowds = [who[start:end]]
            start = end
        return rows


_NOBODY = (np.empty(0, np.int64), np.empty(0, np.int64))


def _without_sessions(part: Part) -> Part:
    figures = part.figures.copy()
    figures[2:] = 0
    return part._replace(figures=figures)
