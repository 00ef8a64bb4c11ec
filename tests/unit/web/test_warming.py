"""Reports of past days that are in use are computed for the new day before anybody asks."""

import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from pulse.errors import NotFound
from pulse.web import warming
from pulse.web.warming import Question, Warmer

ZONE = "America/New_York"
TODAY = date(2026, 3, 8)  # the clocks change: the day after begins at 04:00 UTC, this one at 05:00
WEEK = Question(1, 7, 1, None, 10, "previous")
MONTH = Question(1, 30, 1, "day", 10, None)
SETTLED = datetime(2026, 3, 9, 4, 45, tzinfo=UTC)


class Asked:
    """Warmer whose answers are written down, as is what the projects are."""

    def __init__(self) -> None:
        self.answered: list[tuple[Question, date]] = []
        self.zones = {1: ZONE}
        stopping = threading.Event()
        stopping.set()
        self.warmer = Warmer(lambda question, day: self.answered.append((question, day)), self._find, stopping)

    def _find(self, project_id: int) -> str:
        if project_id not in self.zones:
            raise NotFound("no such project")
        return self.zones[project_id]

    def note(self, *questions: Question, today: date = TODAY) -> None:
        for question in questions:
            self.warmer.note(question, today)


@pytest.fixture
def asked() -> Asked:
    found = Asked()
    found.note(WEEK, WEEK)
    return found


def test_what_was_asked_twice_is_asked_once_for_the_next_day(asked: Asked) -> None:
    asked.note(MONTH)
    assert asked.warmer.warm(SETTLED) == 1
    assert asked.answered == [(WEEK, date(2026, 3, 9))]
    assert asked.warmer.warm(SETTLED + timedelta(hours=1)) == 0


def test_not_before_the_last_sessions_of_the_day_are_over(asked: Asked) -> None:
    assert asked.warmer.warm(SETTLED - timedelta(seconds=1)) == 0
    assert asked.warmer.warm(SETTLED) == 1


def test_what_was_asked_on_the_new_day_is_there_already(asked: Asked) -> None:
    asked.note(WEEK, today=date(2026, 3, 9))
    assert asked.warmer.warm(SETTLED) == 0
    assert asked.warmer.warm(SETTLED + timedelta(days=1)) == 1


def test_what_nobody_asks_any_more_is_left(asked: Asked) -> None:
    days = [asked.warmer.warm(SETTLED + timedelta(days=later)) for later in range(5)]
    assert days == [1, 1, 0, 0, 0]


def test_a_project_that_is_gone_is_left(asked: Asked) -> None:
    asked.zones.clear()
    assert asked.warmer.warm(SETTLED) == 0
    asked.zones[1] = ZONE
    assert asked.warmer.warm(SETTLED) == 0


def test_of_too_many_the_least_asked_goes(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "MAX_QUESTIONS", 2)
    asked.note(MONTH)
    asked.note(*2 * [MONTH._replace(limit=20)])
    asked.warmer.warm(SETTLED)
    assert {question for question, _ in asked.answered} == {WEEK, MONTH._replace(limit=20)}
