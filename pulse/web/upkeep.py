"""Upkeep over HTTP: summaries counted anew, and the partitions of the big tables."""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from flask import Blueprint
from msgspec import Meta, Struct
from sqlalchemy import Connection

from pulse.errors import NotFound
from pulse.reports import goals, period
from pulse.reports.period import EndDate, StartDate
from pulse.rollup import requests
from pulse.rollup.requests import Rebuild
from pulse.storage import schema
from pulse.storage.localtime import clock
from pulse.storage.projects import Project, get_project, list_projects
from pulse.storage.schema import Partition
from pulse.storage.sql import load_queries
from pulse.web.http import Api
from pulse.web.service import service

Q = load_queries("upkeep")
blueprint = Blueprint("upkeep", __name__)
api = Api(blueprint, "Upkeep")

REBUILDS_SHOWN = 100

ProjectId = Annotated[int, Meta(ge=1, lt=2**31)]
Table = Literal["events", "sessions", "event_ids"]


class DaysToRebuild(Struct, rename="camel", frozen=True):
    """Days, both included, in each project's time zone; by default yesterday."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None


class ProjectDaysToRebuild(DaysToRebuild, rename="camel", frozen=True, kw_only=True):
    """Days of one project."""

    project_id: ProjectId


class PartitionRow(Struct, rename="camel", frozen=True):
    """One partition: rows of `table` from `startDate` up to, without, `endDate` (UTC days)."""

    name: str
    table: str
    start_date: date
    end_date: date
    rows: int  # as last estimated
    dead_rows: int
    size_bytes: int  # indexes included
    analyzed_at: datetime | None


class PartitionHealth(Struct, rename="camel", frozen=True):
    """Whether every partition that is needed soon is there; `problems` says in words what is not well."""

    healthy: bool
    problems: list[str]
    missing: list[str]
    partitions: int
    size_bytes: int
    ready_until: date | None  # events of days before this can be stored


class PartitionsMade(Struct, rename="camel", frozen=True):
    """Names of the partitions that were missing, and are there now."""

    created: list[str]


class PartitionsToAnalyze(Struct, rename="camel", frozen=True):
    """Which partitions to gather statistics of; by default those that hold the last eight days."""

    table: Table | None = None
    name: Annotated[str, Meta(max_length=63, description="One partition's name")] | None = None


class Analyzed(Struct, rename="camel", frozen=True):
    """A partition whose statistics are fresh now."""

    name: str
    duration_ms: float


@api(
    "POST", "/aggregation/daily", "Have days of a project counted anew from its events, in the background",
    scope="admin", body=ProjectDaysToRebuild, answer=list[Rebuild], status=202,
)  # fmt: skip
def rebuild_project(body: ProjectDaysToRebuild) -> list[Rebuild]:
    """Ask the background worker for a rebuild of the project's summaries, sooner or later its goals too."""
    with service().database.begin() as connection:
        project = get_project(connection, body.project_id)
        return _request(connection, [project], body)


@api(
    "POST", "/aggregation/daily/all", "Have days of every project counted anew, in the background",
    scope="admin", body=DaysToRebuild, answer=list[Rebuild], status=202,
)  # fmt: skip
def rebuild_all(body: DaysToRebuild) -> list[Rebuild]:
    """Ask for a rebuild of every project."""
    with service().database.begin() as connection:
        return _request(connection, list_projects(connection), body)


def _request(connection: Connection, projects: list[Project], body: DaysToRebuild) -> list[Rebuild]:
    wanted: dict[tuple[date, date], list[int]] = {}
    now = datetime.now(UTC)
    for project in projects:
        start, end = body.start_date, body.end_date
        if start is None and end is None:
            start = end = (clock(project.timezone).day(now) - timedelta(days=1)).isoformat()
        chosen = period.resolve(start, end, None, project.timezone, now)
        wanted.setdefault((chosen.start, chosen.end), []).append(project.id)
    made: list[Rebuild] = []
    for (first_day, last_day), project_ids in wanted.items():
        made += requests.request_rebuilds(connection, project_ids, first_day, last_day)
        for project_id in project_ids:
            goals.recount_goals(connection, project_id)
    return made


@api(
    "GET", "/aggregation/daily", "Rebuilds asked for, under way and done, newest first",
    scope="admin", answer=list[Rebuild],
)  # fmt: skip
def list_rebuilds() -> list[Rebuild]:
    """List the newest rebuilds."""
    with service().database.begin() as connection:
        return requests.list_rebuilds(connection, REBUILDS_SHOWN)


@api(
    "GET", "/partitions/list", "Partitions by table and start, with their sizes",
    scope="admin", answer=list[PartitionRow],
)  # fmt: skip
def list_partitions() -> list[PartitionRow]:
    """List every partition."""
    with service().database.begin() as connection:
        return _read_partitions(connection)


def _read_partitions(connection: Connection) -> list[PartitionRow]:
    sizes = {row.name: row for row in connection.execute(Q.partition_sizes)}
    found = [(p, sizes[p.name]) for p in schema.list_partitions(connection) if p.name in sizes]
    return [
        PartitionRow(p.name, p.parent, p.starts_on, p.ends_on, s.rows, s.dead_rows, s.bytes, s.analyzed_at)
        for p, s in found
    ]


@api(
    "GET", "/partitions/health", "Whether the partitions needed soon are there",
    scope="admin", answer=PartitionHealth,
)  # fmt: skip
def check_partitions() -> PartitionHealth:
    """Compare what there is with what there must be."""
    today = datetime.now(UTC).date()
    with service().database.begin() as connection:
        rows = _read_partitions(connection)
        missing = schema.missing_partitions(connection, today)
    return PartitionHealth(
        healthy=not missing,
        problems=[_describe(p, today) for p in missing],
        missing=[p.name for p in missing],
        partitions=len(rows),
        size_bytes=sum(row.size_bytes for row in rows),
        ready_until=_ready_until(rows, today),
    )


def _describe(partition: Partition, today: date) -> str:
    if partition.starts_on <= today < partition.ends_on:
        return f"{partition.name} is missing: rows of today can't be stored. POST /api/v1/partitions/create makes it."
    return (
        f"{partition.name} is missing: rows from {partition.starts_on} to {partition.ends_on} can't be stored."
        " POST /api/v1/partitions/create makes it."
    )


def _ready_until(rows: list[PartitionRow], today: date) -> date | None:
    ends: date | None = None
    for row in rows:  # in order of their start
        if row.table == "events" and row.end_date > today and (row.start_date <= today or row.start_date == ends):
            ends = row.end_date
    return ends


@api("POST", "/partitions/create", "Make the partitions that are missing", scope="admin", answer=PartitionsMade)
def create_partitions() -> PartitionsMade:
    """Make what the background worker makes every hour."""
    with service().database.begin() as connection:
        schema.list_partitions(connection)  # says in our own words that the database is away, if it is
    return PartitionsMade(schema.make_partitions(service().database.primary))


@api(
    "POST", "/partitions/analyze", "Gather the planner's statistics of partitions, now",
    scope="admin", body=PartitionsToAnalyze, answer=list[Analyzed],
)  # fmt: skip
def analyze_partitions(body: PartitionsToAnalyze) -> list[Analyzed]:
    """Analyse each in a transaction of its own: some 30,000 rows are read of each, whatever its size."""
    with service().database.begin() as connection:
        found = schema.list_partitions(connection)
    chosen = _choose(found, body)
    done = []
    for partition in chosen:
        started_at = time.perf_counter()
        with service().database.begin() as connection:
            connection.exec_driver_sql(f"/* upkeep.analyze */ ANALYZE {partition.name}")
        done.append(Analyzed(partition.name, round((time.perf_counter() - started_at) * 1000, 2)))
    return done


def _choose(found: list[Partition], body: PartitionsToAnalyze) -> list[Partition]:
    if body.table is not None:
        found = [p for p in found if p.parent == body.table]
    if body.name is not None:
        named = [p for p in found if p.name == body.name]
        if not named:
            raise NotFound(f"There is no partition {body.name[:63]!r}{f' of {body.table}' if body.table else ''}.")
        return named
    today = datetime.now(UTC).date()
    return [p for p in found if p.starts_on <= today and p.ends_on > today - timedelta(days=8)]
