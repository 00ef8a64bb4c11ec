"""Bench data before they reach a database: repeatable, exact in number, and like visitors."""

from collections import Counter
from datetime import date
from typing import Any

import click
import numpy as np
import pytest

from pulse.load.bench_data.catalogue import read_catalogue
from pulse.load.bench_data.command import Count
from pulse.load.bench_data.counting import Counter as DayCounter
from pulse.load.bench_data.counting import find_visits
from pulse.load.bench_data.day import PAGEVIEW, Day, make_day
from pulse.load.bench_data.plan import SITES, Plan, Task
from pulse.load.bench_data.rows import COLUMNS, Rows
from pulse.rollup.sessions import connect, group_events
from pulse.rollup.summaries import Row, Tally
from pulse.storage.localtime import clock, epoch_us

ZONES = tuple(site.timezone for site in SITES)
PLAN = Plan(100_000, 30, date(2026, 4, 5), 1, (1, 2, 3), ZONES)


def draw(task: Task) -> Day:
    return make_day(task, read_catalogue(task.site))


def lines(task: Task) -> list[str]:
    return list(Rows(draw(task), read_catalogue(task.site), task.project_id, task.site.number).lines())


def test_the_events_of_all_days_are_those_asked_for() -> None:
    tasks = list(PLAN.tasks())
    assert len(tasks) == 90
    assert sum(task.events for task in tasks) == 100_000
    assert all(len(draw(task).at_ms) == task.events for task in tasks[::13])
    weekdays = Counter[bool]()
    for task in tasks:
        weekdays[task.day.weekday() >= 5] += task.events
    assert weekdays[True] / 8 < weekdays[False] / 22, "weekends are quieter"


def test_the_same_seed_and_days_give_the_same_rows() -> None:
    one, other = next(iter(PLAN.tasks())), next(iter(PLAN.tasks()))
    assert lines(one) == lines(other)
    elsewhere = next(iter(Plan(100_000, 30, date(2026, 4, 5), 2, (1, 2, 3), ZONES).tasks()))
    assert not set(lines(one)) & set(lines(elsewhere))


def test_every_line_has_every_column() -> None:
    for task in list(PLAN.tasks())[::29]:
        assert {len(line.split("\t")) for line in lines(task)} == {len(COLUMNS)}


def test_a_day_lies_within_its_local_day_when_the_clock_changes() -> None:
    for task in PLAN.tasks():
        if task.day == date(2026, 3, 29) and task.site.timezone == "Europe/Berlin":
            day = draw(task)
            assert task.ends_ms - task.starts_ms == 23 * 3_600_000
            assert task.starts_ms <= day.at_ms.min() and day.at_ms.max() < task.ends_ms
            assert (np.diff(day.at_ms) >= 0).all()


def test_visits_look_like_visits() -> None:
    task = Task(SITES[0], 1, date(2026, 4, 1), 60_000, 60_000, 1_775_000_000_000, 1_775_086_400_000, 1, "")
    day, catalogue = draw(task), read_catalogue(task.site)
    views = day.kind == PAGEVIEW
    pages = np.bincount(day.session[views])
    assert 0.35 < (pages == 1).mean() < 0.5
    assert pages.max() > 10
    paths = np.bincount(day.path[views], minlength=len(catalogue.paths))
    assert paths[0] > 5 * paths[20:30].mean() > 5 * paths[1000:].mean()
    assert len({catalogue.places[place]["country"] for place in day.sessions.place}) == 60
    hours = np.bincount((day.at_ms - task.starts_ms) // 3_600_000, minlength=24)
    assert hours[12] > 3 * hours[3]
    assert len(set(day.ids)) == len(day.ids)


def test_visitors_come_back_on_other_days_as_who_they_are() -> None:
    first, second = (
        Task(SITES[0], 1, date(2026, 4, number), 60_000, 60_000, 0, 86_400_000, 1, "") for number in (1, 2)
    )
    days = [draw(task).sessions for task in (first, second)]
    facts = [dict(zip(day.visitor.tolist(), zip(day.agent, day.place, strict=True), strict=True)) for day in days]
    both = facts[0].keys() & facts[1].keys()
    assert len(both) > 0.03 * len(facts[1])
    assert all(facts[0][visitor] == facts[1][visitor] for visitor in both)


@pytest.mark.parametrize(("text", "count"), [("10m", 10_000_000), ("500K", 500_000), ("1_000", 1_000)])
def test_numbers_are_read(text: str, count: int) -> None:
    assert Count().convert(text, None, None) == count


@pytest.mark.parametrize("text", ["", "10", "-5m", "1e6", "9999999m", "١٠٠٠m"])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no number from 1,000 to 1,000,000,000"):
        Count().convert(text, None, None)


def test_a_day_is_counted_as_the_fold_counts_its_events() -> None:
    for task in (next(iter(PLAN.tasks())), max(PLAN.tasks(), key=lambda task: (task.site.number, task.events))):
        catalogue = read_catalogue(task.site)
        rows = Rows(draw(task), catalogue, task.project_id, task.site.number)
        calendar = clock(ZONES[task.site.number])
        events = rows.events(0)
        tally = Tally({task.project_id: calendar})
        tally.add_events(events)
        tally.add_sessions(session for group in group_events(events).values() for session in connect(group))

        counter = DayCounter(rows.day, find_visits(rows.day), catalogue)
        summaries = tally.summaries()
        ((_, dimensions),) = summaries.days.items()
        assert figures_of(dict(counter.dimensions())) == figures_of(dict(dimensions))
        hours = calendar.hours(task.day, task.day)
        found = dict(zip(hours, counter.hours(np.array([epoch_us(at) // 1000 for at in hours])), strict=True))
        found = {at: row for at, row in found.items() if not row.is_nothing()}
        assert figures_of({"": found}) == figures_of({"": {at: row for (_, at), row in summaries.hours.items()}})


def figures_of(dimensions: dict[str, dict[Any, Row]]) -> dict[tuple[str, Any], tuple[Any, ...]]:
    names = ("pageviews", "events", "sessions", "bounces", "duration_ms", "visitors")
    return {
        (dimension, value): tuple(getattr(row, name) for name in names)
        for dimension, rows in dimensions.items()
        for value, row in rows.items()
    }
