"""Past days that changed, noted by whoever changes them, so that caches may keep answers about past days for long."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from pulse.storage.sql import load_queries

Q = load_queries("changes")

# Longer than any answer is kept as fresh.
KEEP = timedelta(days=2)
# What reports can ask for (pulse/reports/period.py): all days.
EVER = date(2000, 1, 1), date(2099, 12, 31)


class Change(NamedTuple):
    """Days of a project, and when they changed last, in seconds since 1970."""

    first_day: date
    last_day: date
    changed_at: float


def note(connection: Connection, days: Iterable[tuple[int, date, date]]) -> None:
    """Note days (project, first, last) that change with this transaction; called last in it, as it takes a lock."""
    found = sorted(set(days))
    if found:
        project_ids, first_days, last_days = map(list, zip(*found, strict=True))
        connection.execute(Q.lock)
        connection.execute(Q.note, {"project_ids": project_ids, "first_days": first_days, "last_days": last_days})


def read(connection: Connection, project_id: int) -> list[Change]:
    """Return a project's changes of the last days."""
    return [Change(*row) for row in connection.execute(Q.read, {"project_id": project_id})]


def read_of(connection: Connection, project_ids: Sequence[int]) -> dict[int, list[Change]]:
    """Return the changes of several projects."""
    found: dict[int, list[Change]] = {project_id: [] for project_id in project_ids}
    for project_id, *change in connection.execute(Q.read_of, {"project_ids": list(project_ids)}):
        found[project_id].append(Change(*change))
    return found


def last_change(changes: Iterable[Change], first_day: date, last_day: date) -> float:
    """Return when days between the first and the last changed last, 0 where they did not."""
    found = (one.changed_at for one in changes if one.first_day <= last_day and one.last_day >= first_day)
    return max(found, default=0.0)


def prune(engine: Engine) -> int:
    """Delete changes older than KEEP; return how many."""
    with engine.begin() as connection:
        return connection.execute(Q.prune, {"keep": KEEP}).rowcount
