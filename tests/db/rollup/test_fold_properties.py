"""Any history, folded in any order and any batches, gives what a recount of its raw events gives."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from pulse.rollup.fold import LIVE_KEEP, fold_once
from pulse.rollup.reading import MARK
from pulse.rollup.rebuild import rebuild
from pulse.rollup.spans import add_up
from tests.db.rollup.conftest import commit_batch, cover, make_event, make_project
from tests.db.rollup.recount import recount_live
from tests.db.rollup.state import check, check_spans, stored_daily, stored_live

FAR = datetime(2090, 1, 1, tzinfo=UTC)
# What is folded together with the history of each example.
OTHER_ZONE = "America/St_Johns"
# Local times about midnight of days on which clocks change, or don't.
TURNS = [
    ("UTC", datetime(2026, 3, 1)), ("Asia/Kolkata", datetime(2026, 3, 15)), ("Asia/Kathmandu", datetime(2026, 3, 15)),
    ("America/New_York", datetime(2026, 3, 8)), ("America/New_York", datetime(2025, 11, 2)),
    ("Australia/Lord_Howe", datetime(2026, 4, 5)), ("Australia/Lord_Howe", datetime(2025, 10, 5)),
    ("Pacific/Apia", datetime(2011, 12, 30)), ("America/Havana", datetime(2026, 3, 8)),
    # Ends of months and of weeks: of a leap year's February, of a month in which the clocks change, and on a Monday.
    ("Asia/Kolkata", datetime(2024, 3, 1)), ("Europe/Berlin", datetime(2024, 4, 1)), ("UTC", datetime(2026, 6, 1)),
]  # fmt: skip


@pytest.fixture
def shared(engine: Engine) -> Iterator[Engine]:
    """One database for all examples: each has projects of its own."""
    for _, turn in TURNS:
        at = turn.replace(tzinfo=UTC)
        cover(engine, at - timedelta(days=5), at + timedelta(days=5))
    yield engine


# What has two values of its own each, so that none can pass for another.
OTHERS = ("hostname", "referrer", "utm_medium", "utm_term", "utm_content", "region", "city", "os", "language")
steps = st.one_of(
    st.integers(0, 4 * 60),
    st.sampled_from([0, 29 * 60, 30 * 60, 30 * 60 + 1, 3600, 5 * 3600, 24 * 3600, 24 * 3600 + 1]),
)
people = st.fixed_dictionaries(
    {
        "visitor": st.integers(-3, 3).map(lambda n: n * 2**61 + n),
        "key": st.integers(1, 3),
        "client_session": st.booleans(),
        "country": st.sampled_from([None, "DE", "US"]),
        "source": st.sampled_from([None, "Google"]),
        "utm_campaign": st.sampled_from([None, "a\tb\\n", "spring"]),
        "utm_source": st.sampled_from([None, "a\x1fb"]),
        "browser": st.sampled_from([None, "Firefox"]),
        "device": st.sampled_from(["desktop", "mobile"]),
        "channel": st.sampled_from(["Direct", "Search"]),
        **{name: st.sampled_from([None, f"{name} 1", f"{name} 2"]) for name in OTHERS},
        "is_other": st.booleans(),
    }
)
acts = st.fixed_dictionaries(
    {
        "person": st.integers(0, 3),
        "step_s": steps,
        "micro": st.sampled_from([0, 1, 999_999]),
        "event_type": st.sampled_from(["pageview"] * 4 + ["click", "custom", "engagement", "engagement"]),
        "event_name": st.sampled_from([None, "Sign up", ""]),
        "path": st.sampled_from([None, "/", "/a", "/\\N", "/ünï\n", "(other)"]),
        "screen": st.sampled_from([(None, None), (1920, 1080), (390, None), (0, 1)]),
        "mark": st.sampled_from([None, None, 0, 3, 8]),
        "batch": st.integers(0, 4),
    }
)


def _id(mark: int | None) -> str:
    """Return an id as clients may choose it, with what parts of rows begin with at some place."""
    found = uuid4()
    return str(found if mark is None else UUID(bytes=found.bytes[:mark] + MARK + found.bytes[mark:8]))


def _history(
    projects: list[int], zone: str, turn: datetime, who: list[Any], what: list[Any]
) -> list[tuple[int, Any]]:
    at = (turn - timedelta(hours=5)).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    history = []
    for act in what:
        at += timedelta(seconds=act["step_s"])
        person = who[act["person"] % len(who)]
        fields = {name: value for name, value in person.items() if name not in ("key", "client_session", "is_other")}
        width, height = act["screen"]
        event = make_event(
            projects[person["is_other"]], at + timedelta(microseconds=act["micro"]), **fields, path=act["path"],
            id=_id(act["mark"]),
            session_key=person["key"] * 2 + person["client_session"], client_session=person["client_session"],
            event_type=act["event_type"], event_name=act["event_name"], screen_width=width, screen_height=height,
        )  # fmt: skip
        history.append((act["batch"], event))
    return history


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(TURNS), st.lists(people, min_size=1, max_size=4), st.lists(acts, min_size=1, max_size=25),
    st.sampled_from([1, 7, 10_000]), st.booleans(), st.sampled_from([None, 1, 3]),
)  # fmt: skip
def test_every_history_folds_to_its_recount(
    shared: Engine, turn: tuple[str, datetime], who: list[Any], what: list[Any], max_events: int, again: bool,
    adds_up_after: int | None,
) -> None:
    zone, at = turn
    projects = [make_project(shared, zone), make_project(shared, OTHER_ZONE)]
    history = _history(projects, zone, at, who, what)
    events = [event for _, event in history]
    for number in range(5):
        part = [event for batch, event in history if batch == number]
        if part:
            commit_batch(shared, part)
        if number % 2 or number == 4:
            while fold_once(shared, max_events).batches:
                pass
        if number == adds_up_after:
            # Whatever comes after this comes late.
            add_up(shared, FAR)
    zones = dict(zip(projects, (zone, OTHER_ZONE), strict=True))
    check(shared, events, zones)
    days = {key[:2] for key in stored_daily(shared, projects)}
    if again:
        for project_id in {project_id for project_id, _ in days}:
            own = [day for project, day in days if project == project_id]
            rebuild(shared, project_id, min(own), max(own))
        check(shared, events, zones, anew=True)
    add_up(shared, FAR)
    check_spans(shared, events, zones)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(people, min_size=1, max_size=4), st.lists(acts, min_size=1, max_size=25), st.sampled_from([1, 10_000]))
def test_what_is_live_folds_to_its_recount(engine: Engine, who: list[Any], what: list[Any], max_events: int) -> None:
    # Hours that are too old to be live, and some that are to come, belong to it.
    turn = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)
    projects = [make_project(engine, "UTC"), make_project(engine, OTHER_ZONE)]
    history = _history(projects, "UTC", turn, who, what)
    events = [event for _, event in history]
    cover(engine, events[0]["occurred_at"], events[-1]["occurred_at"])
    since = datetime.now(UTC) - LIVE_KEEP + timedelta(minutes=5)  # before that the clock decides
    for number in range(5):
        commit_batch(engine, [event for batch, event in history if batch == number])
        while fold_once(engine, max_events).batches:
            pass
    stored = {key: row for key, row in stored_live(engine, projects).items() if key[1] >= since}
    assert stored == {key: row for key, row in recount_live(events).items() if key[1] >= since}
    check(engine, events, dict(zip(projects, ("UTC", OTHER_ZONE), strict=True)))
