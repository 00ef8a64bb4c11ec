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
    to_text,
)
from pulse.load.bench_data.counting import find_origins, list_origins
from pulse.load.bench_data.day import ENGAGEMENT, PAGEVIEW, Day, Ints
from pulse.rollup import reading
from pulse.rollup.copying import NULL, decode, pack_texts
from pulse.rollup.reading import Event, pack_screen

BATCH_EVENTS = 1_000
COLUMNS = (
    "occurred_at", "id", "batch_id", *ACTION_COLUMNS, "path", "engagement_ms", *ORIGIN_COLUMNS, "project_id",
    "visitor", "session_key", "client_session", "hostname", *AGENT_COLUMNS, *PLACE_COLUMNS,
)  # fmt: skip
_VIEW = {"event_type": "pageview", "event_name": NULL, "custom_data": NULL}
_ENGAGEMENT = {"event_type": "engagement", "event_name": NULL, "custom_data": NULL}


class Rows:
    """The events of one project's day in the two forms; makes each in about 1 µs an event."""

    def __init__(self, day: Day, catalogue: Catalogue, project_id: int, number: int) -> None:
        self.day, self.catalogue, self.project_id = day, catalogue, project_id
        self.at = np.datetime_as_string(day.at_ms.astype("datetime64[ms]"), timezone="UTC").tolist()
        self.paths = pick(catalogue.paths, day.path)
        self._origin = find_origins(day)
        self._head = np.where(day.kind == PAGEVIEW, 0, np.where(day.kind == ENGAGEMENT, 1, 2 + day.action))
        # (id, events): ids ascend with the time of the first event, as the group writer's do, and no two days' meet.
        self.batches = [
            (int(day.at_ms[start]) << 20 | number << 18 | place & 0x3FFFF, min(BATCH_EVENTS, len(day.at_ms) - start))
            for place, start in enumerate(range(0, len(day.at_ms), BATCH_EVENTS))
        ]

    def lines(self) -> Iterator[str]:
        """Give out the lines to copy, in the order of COLUMNS and of time."""
        day, sessions = self.day, self.day.sessions
        heads = join([_VIEW, _ENGAGEMENT, *self.catalogue.actions], ACTION_COLUMNS)
        agents, places = join(self.catalogue.agents, AGENT_COLUMNS), join(self.catalogue.places, PLACE_COLUMNS)
        who = [
            f"{self.project_id}\t{visitor}\t{key}\tt\t{self.catalogue.hostname}\t{agents[agent]}\t{places[place]}\n"
            for visitor, key, agent, place in zip(
                sessions.visitor.tolist(), sessions.key.tolist(), sessions.agent.tolist(), sessions.place.tolist(),
                strict=True,
            )
        ]  # fmt: skip
        seen = np.where(day.kind == ENGAGEMENT, day.engagement_ms.astype("U12"), NULL).tolist()
        batches = pick([str(batch) for batch, _ in self.batches], np.arange(len(self.at)) // BATCH_EVENTS)
        columns = (
            self.at, day.ids, batches, pick(heads, self._head), self.paths, seen,
            pick(join(list_origins(self.catalogue), ORIGIN_COLUMNS), self._origin), pick(who, day.session),
        )  # fmt: skip
        return map("\t".join, zip(*columns, strict=True))

    def events(self, since_us: int) -> list[Event]:
        """Return the same events as `pulse.rollup.reading` would, from a time on."""
        day, sessions, catalogue = self.day, self.day.sessions, self.catalogue
        start = int(np.searchsorted(day.at_ms * 1000, since_us))
        if start == len(day.at_ms):
            return []
        kinds = [reading.PAGEVIEW, reading.ENGAGEMENT, *repeat(reading.OTHER_EVENT, len(catalogue.actions))]
        session, head = day.session[start:], self._head[start:]
        agent = sessions.agent[session]
        origins = [{"hostname": catalogue.hostname, **facts} for facts in list_origins(catalogue)]
        paths = [pack_texts([decode(path)]) for path in catalogue.paths]
        return list(map(Event, *(
            pick(sessions.key.tolist(), session), (day.at_ms[start:] * 1000).tolist(),
            [bytes.fromhex(text.replace("-", "")) for text in day.ids[start:]], sessions.visitor[session].tolist(),
            repeat(self.project_id, len(session)), repeat(True, len(session)), pick(kinds, head),
            pick(paths, day.path[start:]), pick(_fields(origins, reading.ORIGIN), self._origin[start:]),
            pick(_fields(catalogue.places, reading.PLACE), sessions.place[session]),
            pick(_fields(catalogue.agents, reading.AGENT), agent), self._details(agent, head),
        )))  # fmt: skip

    def _details(self, agent: Ints, head: Ints) -> list[bytes]:
        """Return each event's screen and name."""
        labels = [None, "engagement", *(decode(action["event_name"]) for action in self.catalogue.actions)]
        found = [
            pack_screen(int(facts["screen_width"]), int(facts["screen_height"])) + pack_texts([label])
            for facts in self.catalogue.agents
            for label in labels
        ]
        return pick(found, agent * len(labels) + head)


def _fields(items: list[Facts], names: tuple[str, ...]) -> list[bytes]:
    """Return each item's facts as a group of attributes."""
    return [pack_texts([to_text(item.get(name, NULL)) for name in names]) for item in items]


def join(items: list[Facts], columns: tuple[str, ...]) -> list[str]:
    """Return some columns of each item as a piece of a line."""
    return ["\t".join(item[name] for name in columns) for item in items]


def pick(items: list[Any], index: Any) -> list[Any]:
    """Return the items of an array of indexes."""
    held = np.fromiter(items, dtype=object, count=len(items))
    picked: list[Any] = held[index].tolist()
    return picked
