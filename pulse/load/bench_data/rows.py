"""A day as rows of COPY, and as the fold reads them."""

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np

from pulse.load.bench_data.catalogue import (
    ACTION_COLUMNS,
    AGENT_COLUMNS,
    ORIGIN_COLUMNS,
    PLACE_COLUMNS,
    Catalogue,
    Facts,
)
from pulse.load.bench_data.day import ENGAGEMENT, PAGEVIEW, Day
from pulse.rollup import reading
from pulse.rollup.copying import NULL
from pulse.rollup.reading import ATTRIBUTES, Event

BATCH_EVENTS = 1_000
COLUMNS = (
    "occurred_at", "id", "batch_id", *ACTION_COLUMNS, "path", "engagement_ms", *ORIGIN_COLUMNS, "project_id",
    "visitor", "session_key", "client_session", "hostname", *AGENT_COLUMNS, *PLACE_COLUMNS,
)  # fmt: skip
_VIEW = {"event_type": "pageview", "event_name": NULL, "custom_data": NULL}
_ENGAGEMENT = {"event_type": "engagement", "event_name": NULL, "custom_data": NULL}


class Rows:
    """The events of one project's day in the two forms; makes both in about 2 µs an event."""

    def __init__(self, day: Day, catalogue: Catalogue, project_id: int, number: int) -> None:
        self._project_id = project_id
        self._catalogue = catalogue
        self._day = day
        self._at = np.datetime_as_string(day.at_ms.astype("datetime64[ms]"), timezone="UTC").tolist()
        self._paths = _pick(catalogue.paths, day.path)
        # The first page keeps the campaign of its address, the first pageview the referrer as well.
        self._origin = np.where(day.page > 0, 0, np.where(day.kind == PAGEVIEW, 1, 2))
        self._origin = np.where(self._origin, day.sessions.arrival[day.session] * 2 + self._origin, 0)
        self._head = np.where(day.kind == PAGEVIEW, 0, np.where(day.kind == ENGAGEMENT, 1, 2 + day.action))
        # (id, events): ids ascend with the time of the first event, as the group writer's do, and no two days' meet.
        self.batches = [
            (int(day.at_ms[start]) << 20 | number << 18 | place & 0x3FFFF, min(BATCH_EVENTS, len(day.at_ms) - start))
            for place, start in enumerate(range(0, len(day.at_ms), BATCH_EVENTS))
        ]

    def lines(self) -> Iterator[str]:
        """Give out the lines to copy, in the order of COLUMNS and of time."""
        day, sessions = self._day, self._day.sessions
        heads = _join([_VIEW, _ENGAGEMENT, *self._catalogue.actions], ACTION_COLUMNS)
        agents, places = _join(self._catalogue.agents, AGENT_COLUMNS), _join(self._catalogue.places, PLACE_COLUMNS)
        who = [
            f"{self._project_id}\t{visitor}\t{key}\tt\t{self._catalogue.hostname}\t{agents[agent]}\t{places[place]}\n"
            for visitor, key, agent, place in zip(
                sessions.visitor.tolist(), sessions.key.tolist(), sessions.agent.tolist(), sessions.place.tolist(),
                strict=True,
            )
        ]  # fmt: skip
        seen = np.where(day.kind == ENGAGEMENT, day.engagement_ms.astype("U12"), NULL).tolist()
        batches = _pick([str(batch) for batch, _ in self.batches], np.arange(len(self._at)) // BATCH_EVENTS)
        columns = (
            self._at, day.ids, batches, _pick(heads, self._head), self._paths, seen,
            _pick(_join(self._origins(), ORIGIN_COLUMNS), self._origin), _pick(who, day.session),
        )  # fmt: skip
        return map("\t".join, zip(*columns, strict=True))

    def events(self) -> list[Event]:
        """Return the same events as `pulse.rollup.reading` would."""
        day, sessions, catalogue = self._day, self._day.sessions, self._catalogue
        screens = [f"{agent['screen_width']}x{agent['screen_height']}" for agent in catalogue.agents]
        kinds = [reading.PAGEVIEW, reading.ENGAGEMENT, *repeat(reading.OTHER_EVENT, len(catalogue.actions))]
        labels = [NULL, "engagement", *(action["event_name"] for action in catalogue.actions)]
        agent, place = sessions.agent[day.session], sessions.place[day.session]
        return [
            Event(self._project_id, *fields)
            for fields in zip(
                _pick([str(key) for key in sessions.key.tolist()], day.session), (day.at_ms * 1000).tolist(), self._at,
                day.ids, sessions.visitor[day.session].tolist(), [True] * len(self._at), _pick(kinds, self._head),
                self._paths, self._attributes(agent, place), _pick(screens, agent), _pick(labels, self._head),
                strict=True,
            )
        ]  # fmt: skip

    def _origins(self) -> list[Facts]:
        """Return the facts that `_origin` counts: within the site, then each arrival's two."""
        inside = self._catalogue.inside
        return [inside, *(facts for arrival in self._catalogue.arrivals for facts in (arrival.first, arrival.then))]

    def _attributes(self, agent: Any, place: Any) -> list[tuple[str, ...]]:
        """Return each event's attributes; equal ones are one tuple."""
        catalogue, origins = self._catalogue, self._origins()
        wide, high = len(catalogue.agents), len(catalogue.places)
        combined = (self._origin * high + place) * wide + agent
        distinct, index = np.unique(combined, return_inverse=True)
        found = []
        for number in distinct.tolist():
            rest, chosen = divmod(number, wide)
            origin, where = divmod(rest, high)
            facts = {
                "hostname": catalogue.hostname, **origins[origin], **catalogue.places[where],
                **catalogue.agents[chosen],
            }  # fmt: skip
            found.append(tuple(facts.get(name, NULL) for name in ATTRIBUTES))
        return _pick(found, index)


def _join(items: list[Facts], columns: tuple[str, ...]) -> list[str]:
    return ["\t".join(item[name] for name in columns) for item in items]


def _pick(items: list[Any], index: Any) -> list[Any]:
    """Return the items of an array of indexes."""
    held = np.fromiter(items, dtype=object, count=len(items))
    picked: list[Any] = held[index].tolist()
    return picked
