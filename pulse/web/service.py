"""What a request works with: the parts of one running web process."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import cast

from flask import current_app

from pulse.config import Config
from pulse.errors import Unavailable
from pulse.ingest.local_copy import Copy, LocalCopy, changes_board
from pulse.ingest.rates import Rates
from pulse.ingest.visitor import Identity
from pulse.ingest.writer import GroupWriter
from pulse.reports.goals import Goal, list_goals, list_goals_of
from pulse.storage import changes
from pulse.storage.engine import Database
from pulse.storage.projects import (
    DEVELOPMENT_KEY,
    ApiKey,
    Project,
    find_key,
    find_keys,
    find_logins,
    find_logins_of,
    get_project,
    get_projects,
)
from pulse.web.remembered import Refresher, Remembered


@dataclass
class Service:
    """One web process's settings, database, writer, rate limits and short memory of keys and projects.

    `ingest` is the same database through connections that only events use: reports that keep all others busy, or take
    their time, do not hold up an event's key.
    """

    config: Config
    database: Database
    ingest: Database
    writer: GroupWriter
    rates: Rates
    identity: Identity
    secret_key: bytes
    local_copy: LocalCopy

    def __post_init__(self) -> None:
        self._board = changes_board(self.config.data_dir)
        read = self._board.read
        self.keys: Remembered[str, ApiKey | None] = Remembered(self._find_key, self._find_keys, read)
        self.projects: Remembered[int, Project] = Remembered(self._get_project, self._get_projects, read)
        self.logins: Remembered[str, int | None] = Remembered(self._find_logins, self._find_logins_of, read)
        self._goals: Remembered[int, list[Goal]] = Remembered(self._list_goals, self._list_goals_of, read)
        self._changes: Remembered[int, list[changes.Change]] = Remembered(
            self._read_changes, self._read_changes_of, read
        )
        self.stopping = threading.Event()
        self._refresher = Refresher(
            (self.keys, self.projects, self.logins, self._goals, self._changes), self.stopping
        )

    def _find_key(self, text: str) -> ApiKey | None:
        if text == DEVELOPMENT_KEY and self.config.env == "production":
            return None  # everybody knows it; a database that began in development may still hold it
        copy = self._read_copy_if_away()
        if copy is None:
            try:
                with self.ingest.begin() as connection:
                    return find_key(connection, text)
            except Unavailable:
                copy = self.local_copy.read()
                if copy is None:
                    raise
        key = copy.find_key(text)
        if key is None:  # it may have been made a moment ago
            raise Unavailable("The database is away, and nothing is known of this key yet.", retry_after_s=5)
        return key

    def _read_copy_if_away(self) -> Copy | None:
        """Return the copy once events go to the spool: an answer of PostgreSQL may be seconds in coming."""
        return self.local_copy.read() if self.writer.is_away else None

    def _find_keys(self, texts: Sequence[str]) -> dict[str, ApiKey | None]:
        with self.ingest.begin() as connection:
            return {**dict.fromkeys(texts), **find_keys(connection, texts)}

    def _find_logins(self, email: str) -> int | None:
        with self.database.begin() as connection:
            return find_logins(connection, email)

    def _find_logins_of(self, emails: Sequence[str]) -> dict[str, int | None]:
        with self.database.begin() as connection:
            return {**dict.fromkeys(emails), **find_logins_of(connection, emails)}

    def _get_project(self, project_id: int) -> Project:
        copy = self._read_copy_if_away()
        if copy is None or project_id not in copy.projects:
            try:
                with self.database.begin() as connection:
                    return get_project(connection, project_id)
            except Unavailable:
                copy = self.local_copy.read()
                if copy is None or project_id not in copy.projects:
                    raise
        return copy.projects[project_id]

    def _get_projects(self, project_ids: Sequence[int]) -> dict[int, Project]:
        with self.database.begin() as connection:
            return get_projects(connection, project_ids)

    def _list_goals(self, project_id: int) -> list[Goal]:
        with self.database.begin() as connection:
            return list_goals(connection, project_id)

    def _list_goals_of(self, project_ids: Sequence[int]) -> dict[int, list[Goal]]:
        with self.database.begin() as connection:
            return list_goals_of(connection, project_ids)

    def _read_changes(self, project_id: int) -> list[changes.Change]:
        # From where reports read: whoever sees a change sees the figures it is about.
        with self.database.read() as connection:
            return changes.read(connection, project_id)

    def _read_changes_of(self, project_ids: Sequence[int]) -> dict[int, list[changes.Change]]:
        with self.database.read() as connection:
            return changes.read_of(connection, project_ids)

    def last_change(self, project_id: int, first_day: date, last_day: date) -> float:
        """Return when past days of a project changed last, in seconds since 1970; 0 where they did not for long.

        Infinity while nobody knows: PostgreSQL is away and was not asked before.
        """
        if self.writer.is_away and not self._changes.knows(project_id):
            return math.inf
        try:
            return changes.last_change(self._changes.get(project_id), first_day, last_day)
        except Unavailable:
            return math.inf

    def list_goals(self, project_id: int) -> list[Goal]:
        """Return a project's goals; while one is being counted, as the database has them at this moment."""
        goals = self._goals.get(project_id)
        if any(goal.status == "counting" for goal in goals):
            return self._list_goals(project_id)
        return goals

    def generation(self) -> bytes:
        """Return what is another thing as soon as all that is remembered must be forgotten."""
        return self._board.read()

    def forget(self) -> None:
        """Have all that is remembered forgotten after a change made here: at once by every process on this machine."""
        self._board.bump()


def service() -> Service:
    """Return the parts of the running application."""
    return cast(Service, current_app.extensions["pulse"])
