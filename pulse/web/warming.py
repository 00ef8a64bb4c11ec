"""Reports of past days that are in use, computed for the new day before anybody asks."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from pulse.errors import PulseError
from pulse.reports.period import Comparison, Granularity
from pulse.storage.localtime import clock
from pulse.web.background import Background

log = logging.getLogger("pulse.web")

LOOK_EVERY_S = 60.0
# By then the sessions that were under way at midnight are over, and weeks and months that ended are added up.
SETTLED_AFTER = timedelta(minutes=45)
# What was asked once, or not for so long, is not computed.
LEAST_TIMES = 2
IN_USE_DAYS = 2
MAX_QUESTIONS = 300


class Question(NamedTuple):
    """A report of past days, told by how many days before today it starts and ends."""

    project_id: int
    starts_ago: int
    ends_ago: int
    granularity: Granularity | None
    limit: int
    compare: Comparison | None


class _Use:
    """How often a question was asked, the day of the last time, and the day for which it was computed."""

    __slots__ = ("times", "asked_on", "warmed_on")

    def __init__(self, asked_on: date) -> None:
        self.times = 0
        self.asked_on = self.warmed_on = asked_on


class Warmer:
    """What one process was asked of past days, asked anew of the days that follow once a project's day has ended.

    `answer` has the cache hold the answer of a question whose today is a day; `timezone_of` raises PulseError for a
    project that is gone. With Redis one process computes for all.
    """

    def __init__(
        self,
        answer: Callable[[Question, date], None],
        timezone_of: Callable[[int], str],
        stopping: threading.Event,
    ) -> None:
        self._answer = answer
        self._timezone_of = timezone_of
        self._stopping = stopping
        self._background = Background("warmer", self._run, stopping)
        self._uses: dict[Question, _Use] = {}

    def note(self, question: Question, today: date) -> None:
        """Somebody has asked a question."""
        use = self._uses.get(question)
        if use is None:
            if len(self._uses) >= MAX_QUESTIONS:
                self._uses.pop(min(self._uses, key=lambda one: self._uses[one].times), None)
            use = self._uses[question] = _Use(today)
        use.times += 1
        use.asked_on = today
        self._background.begin()

    def warm(self, now: datetime) -> int:
        """Ask what is due; return how many answers that were."""
        return sum(self._warm(question, use, now) for question, use in list(self._uses.items()))

    def _warm(self, question: Question, use: _Use, now: datetime) -> bool:
        try:
            calendar = clock(self._timezone_of(question.project_id))
            today = calendar.day(now)
            if (today - use.asked_on).days > IN_USE_DAYS:
                self._uses.pop(question, None)
                return False
            is_known = today in (use.asked_on, use.warmed_on)
            if is_known or use.times < LEAST_TIMES or now < calendar.day_start(today) + SETTLED_AFTER:
                return False
            use.warmed_on = today
            self._answer(question, today)
            return True
        except PulseError as error:
            log.info("a report of project %d was not computed beforehand: %s", question.project_id, error)
            self._uses.pop(question, None)
            return False

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self.warm(datetime.now(UTC))
            except Exception:
                log.exception("reports could not be computed beforehand")
