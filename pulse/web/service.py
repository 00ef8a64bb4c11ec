"""What a request works with: the parts of one running web process."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import date
from typing import Generic, TypeVar, cast

from flask import current_app

from pulse.config import Config
from pulse.errors import PulseError, Unavailable
from pulse.ingest.rates import Rates
from pulse.ingest.visitor import Identity
from pulse.ingest.writer import GroupWriter
from pulse.storage import changes
from pulse.storage.engine import Database
from pulse.storage.projects import DEVELOPMENT_KEY, ApiKey, Project, find_key, find_logins, get_project

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# How long it takes at most until a key revoked, or a project changed, through another process is noticed.
REMEMBER_S = 2.0


class Remembered(Generic[K, V]):
    """Answers of the database kept for REMEMBER_S, and for longer while the database is away; at most `size`."""

    def __init__(self, load: Callable[[K], V], size: int = 10_000) -> None:
        self._load = load
        self._size = size
        self._held: dict[K, tuple[float, V]] = {}

    def get(self, key: K) -> V:
        """Return the answer for `key`. Raises what loading raises, unless an old answer can stand in."""
        held = self._held.get(key)
        if held is not None:
            if held[0] > time.monotonic():
                return held[1]
            # Whoever comes first asks; the others go on with what is known, or hundreds would ask at once.
            self._held[key] = (time.monotonic() + REMEMBER_S, held[1])
        try:
            value = self._load(key)
        except Unavailable:
            if held is None:
                raise
            value = held[1]
        except PulseError:
            self._held.pop(key, None)
            raise
        if len(self._held) >= self._size:
            self._held.clear()
        self._held[key] = (time.monotonic() + REMEMBER_S, value)
        return value

    def forget(self) -> None:
        """Ask anew from now on."""
        self._held.clear()


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

    def __post_init__(self) -> None:
        self.keys: Remembered[str, ApiKey | None] = Remembered(self._find_key)
        self.projects: Remembered[int, Project] = Remembered(self._get_project)
        self.logins: Remembered[str, int | None] = Remembered(self._find_logins)
        self._changes: Remembered[int, list[changes.Change]] = Remembered(self._read_changes)
        self.stopping = threading.Event()

    def _find_key(self, text: str) -> ApiKey | None:
        if text == DEVELOPMENT_KEY and self.config.env == "production":
            return None  # everybody knows it; a database that began in development may still hold it
        with self.ingest.begin() as connection:
            return find_key(connection, text)

    def _find_logins(self, email: str) -> int | None:
        with self.database.begin() as connection:
            return find_logins(connection, email)

    def _get_project(self, project_id: int) -> Project:
        with self.database.begin() as connection:
            return get_project(connection, project_id)

    def _read_changes(self, project_id: int) -> list[changes.Change]:
        # From where reports read: whoever sees a change sees the figures it is about.
        with self.database.read() as connection:
            return changes.read(connection, project_id)

    def last_change(self, project_id: int, first_day: date, last_day: date) -> float:
        """Return when past days of a project changed last, in seconds since 1970; 0 where they did not for long."""
        return changes.last_change(self._changes.get(project_id), first_day, last_day)

    def forget(self) -> None:
        """Drop what is remembered of keys and projects, after a change made here."""
        self._changes.forget()
        self.keys.forget()
        self.logins.forget()
        self.projects.forget()


def service() -> Service:
    """Return the parts of the running application."""
    return cast(Service, current_app.extensions["pulse"])
