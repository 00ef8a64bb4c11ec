"""A drawn day packed into columns, as the background worker packs it from its rows; without reading them."""

from datetime import UTC, datetime

import numpy as np
from sqlalchemy import Connection

from pulse.load.bench_data.catalogue import Facts, to_text
from pulse.load.bench_data.counting import Visits, list_origins
from pulse.load.bench_data.day import ACTION, ENGAGEMENT, Ints
from pulse.load.bench_data.plan import Task
from pulse.load.bench_data.rows import Rows
from pulse.rollup.copying import NULL, decode
from pulse.rollup.packing import LEAST_VISITS, MOST_VISITS
from pulse.storage import segments
from pulse.storage.columns import VISIT_DIMENSIONS, Column, Columns, Figures, Value


def pack_day(connection: Connection, task: Task, rows: Rows, visits: Visits) -> None:
    """Pack a day in the transaction that fills it, where nothing else is in it.

    That transaction holds the fold's lock shared and the day's: nobody else changes its sessions until the commit.
    """
    bounds = [datetime.fromtimestamp(at_ms / 1000, UTC) for at_ms in (task.starts_ms, task.ends_ms)]
    # The worker asks for so many on any day of the project; what it would pack besides is packed from the rows.
    if LEAST_VISITS // 2 <= len(visits.first) <= MOST_VISITS:
        begun_at = segments.begin(connection, task.project_id, *bounds)
        if begun_at is not None:
            found = make_columns(rows, visits, task.starts_ms)
            segments.finish(connection, task.project_id, bounds[0], begun_at, found)


def make_columns(rows: Rows, visits: Visits, starts_ms: int) -> Columns:
    """Return the day's visits in order of their beginning, and their events, visit by visit in the order of time."""
    day, sessions, catalogue = rows.day, rows.day.sessions, rows.catalogue
    order = np.lexsort((sessions.key, day.at_ms[visits.first]))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    counted = np.flatnonzero(day.kind != ENGAGEMENT)
    counted = counted[np.argsort(place[day.session[counted]], kind="stable")]

    agents, places, origins = catalogue.agents, catalogue.places, list_origins(catalogue)
    agent, where, origin = (found[order] for found in (sessions.agent, sessions.place, sessions.arrival * 2 + 1))
    paths: list[Value] = [decode(path) for path in catalogue.paths]
    dimensions = {
        "hostname": Column([catalogue.hostname], np.zeros(len(order), np.uint8)),
        "entry_path": _column(paths, day.path[visits.first[order]]),
        "exit_path": _column(paths, day.path[visits.exit[order]]),
    }
    for name in VISIT_DIMENSIONS:
        if name not in dimensions:
            items, chosen = next(
                ((items, chosen) for items, chosen in ((agents, agent), (places, where)) if name in items[0]),
                (origins, origin),
            )
            dimensions[name] = _column([_value(item, name) for item in items], chosen)
    kinds: list[Value] = [("pageview", None)]
    kinds += [(_value(action, "event_type"), _value(action, "event_name")) for action in catalogue.actions]
    screens: list[Value] = [f"{item['screen_width']}x{item['screen_height']}" for item in agents]
    kind: Ints = np.where(day.kind[counted] == ACTION, 1 + day.action[counted], 0)
    dimensions["path"] = _column(paths, day.path[counted])
    dimensions["kind"] = _column(kinds, kind)
    dimensions["screen"] = _column(screens, sessions.agent[day.session[counted]])

    begins_ms = day.at_ms[visits.first[order]]
    figures = Figures(
        minute=(begins_ms - starts_ms) // 60_000,
        duration_ms=visits.duration_ms[order],
        pageviews=visits.pageviews[order],
        events=visits.events[order],
        held=visits.events[order],
        enters=np.ones(len(order), np.uint8),
    )
    return Columns(figures, sessions.visitor[order], sessions.key[order], dimensions)


def _column(values: list[Value], chosen: Ints) -> Column:
    """Return the distinct values of the items that are chosen, and which each has."""
    number = {value: place for place, value in enumerate(dict.fromkeys(values))}
    used, codes = np.unique(np.array([number[value] for value in values])[chosen], return_inverse=True)
    distinct = list(number)
    return Column([distinct[place] for place in used.tolist()], codes)


def _value(facts: Facts, name: str) -> str | None:
    return to_text(facts.get(name, NULL))
