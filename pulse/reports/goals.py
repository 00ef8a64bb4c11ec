"""Goals: what a project wants its visitors to do, and how many do it."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Connection, Row

from pulse.errors import Conflict, Detail, Invalid, NotFound
from pulse.reports.overview import percentage
from pulse.reports.period import DateRange, EndDate, Period, StartDate
from pulse.reports.visitors import count_joined
from pulse.storage import changes
from pulse.storage.projects import get_project
from pulse.storage.sketch import estimate
from pulse.storage.sql import load_queries

Q = load_queries("goals")

MAX_GOALS = 50
MAX_WILDCARDS = 10

# No control characters (PostgreSQL stores no NUL), and something to see.
GoalName = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
EventType = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00]+$", description="An event's type")]
EventName = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00]+$", description="An event's name")]
PathPattern = Annotated[
    str,
    Meta(min_length=1, max_length=1024, pattern=r"^[/*][^\x00]*$", description="A path; * stands for any characters"),
]
ValueKey = Annotated[
    str,
    Meta(min_length=1, max_length=255, pattern=r"^[^\x00]+$", description="The key of a number in custom_data"),
]


class EventGoal(Struct, rename="camel", frozen=True, tag_field="kind", tag="event"):
    """Completed by an event of this name and type; at least one of them is given."""

    name: GoalName
    event_name: EventName | None = None
    event_type: EventType | None = None


class PageGoal(Struct, rename="camel", frozen=True, tag_field="kind", tag="page"):
    """Completed by a pageview of this path."""

    name: GoalName
    path: PathPattern


class ValueGoal(Struct, rename="camel", frozen=True, tag_field="kind", tag="value"):
    """Completed by an event whose custom data hold a number under this key; the numbers are summed."""

    name: GoalName
    value_key: ValueKey
    event_name: EventName | None = None
    event_type: EventType | None = None


GoalDefinition = EventGoal | PageGoal | ValueGoal


class GoalsQuery(Struct, rename="camel", frozen=True):
    """Query parameters of the goals' figures."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None


class Goal(Struct, rename="camel", frozen=True):
    """A goal; `status` is `counting` while events stored before its making or change are still being counted."""

    id: int
    project_id: int
    kind: Literal["event", "page", "value"]
    name: str
    event_name: str | None
    event_type: str | None
    path: str | None
    value_key: str | None
    status: Literal["ready", "counting"]
    created_at: datetime
    updated_at: datetime


class GoalFigures(Goal, rename="camel", frozen=True, kw_only=True):
    """A goal in a period; `conversionRate` is the percentage of all visitors who completed it."""

    completions: int
    unique_visitors: int
    conversion_rate: float
    value: float


class GoalsReport(Struct, rename="camel", frozen=True):
    """All goals of a project in a period, oldest first."""

    date_range: DateRange
    goals: list[GoalFigures]


class GoalPoint(Struct, rename="camel", frozen=True):
    """One day of a goal."""

    period: date
    completions: int
    unique_visitors: int
    value: float


class GoalReport(GoalFigures, rename="camel", frozen=True, kw_only=True):
    """A goal in a period, with the days on which it was completed, in order."""

    date_range: DateRange
    time_series: list[GoalPoint]


def list_goals(connection: Connection, project_id: int) -> list[Goal]:
    """Return a project's goals, oldest first."""
    return [_to_goal(row) for row in connection.execute(Q.list_goals, {"project_id": project_id, "id": None})]


def list_goals_of(connection: Connection, project_ids: Sequence[int]) -> dict[int, list[Goal]]:
    """Return the same of several projects."""
    found: dict[int, list[Goal]] = {project_id: [] for project_id in project_ids}
    for row in connection.execute(Q.list_goals_of, {"project_ids": list(project_ids)}):
        found[row.project_id].append(_to_goal(row))
    return found


def get_goal(connection: Connection, project_id: int, goal_id: int) -> Goal:
    """Return one goal. Raises NotFound."""
    row = None
    if 0 < goal_id < 2**31:
        row = connection.execute(Q.list_goals, {"project_id": project_id, "id": goal_id}).first()
    if row is None:
        raise NotFound(f"There is no goal {goal_id} in project {project_id}.")
    return _to_goal(row)


def create_goal(connection: Connection, project_id: int, definition: GoalDefinition) -> Goal:
    """Store a goal. Raises NotFound, Invalid, or Conflict for a name that is taken or a goal too many."""
    columns = _columns(definition)
    get_project(connection, project_id)
    connection.execute(Q.lock_project, {"project_id": project_id})
    if len(list_goals(connection, project_id)) >= MAX_GOALS:
        raise Conflict(f"A project has at most {MAX_GOALS} goals; delete one first.")
    goal_id = connection.execute(Q.create_goal, {"project_id": project_id, **columns}).scalar()
    if goal_id is None:
        raise _name_taken(definition.name)
    _note_change(connection, project_id)
    return get_goal(connection, project_id, goal_id)


def change_goal(connection: Connection, project_id: int, goal_id: int, definition: GoalDefinition) -> Goal:
    """Replace a goal's definition; unless only its name changes, it is counted from the beginning.

    Raises NotFound, Invalid or Conflict.
    """
    columns = _columns(definition)
    get_goal(connection, project_id, goal_id)
    connection.execute(Q.lock_project, {"project_id": project_id})
    place = {"id": goal_id, "project_id": project_id}
    held = connection.execute(Q.lock_goal, place).mappings().first()
    if held is None:
        raise NotFound(f"There is no goal {goal_id} in project {project_id}.")
    if connection.execute(Q.name_taken, {**place, "name": definition.name}).scalar_one():
        raise _name_taken(definition.name)
    if all(held[column] == value for column, value in columns.items() if column != "name"):
        connection.execute(Q.rename_goal, {"id": goal_id, "name": definition.name})
    else:
        connection.execute(Q.redefine_goal, {"id": goal_id, **columns})
        connection.execute(Q.delete_figures, {"id": goal_id})
        _note_change(connection, project_id)
    return get_goal(connection, project_id, goal_id)


def delete_goal(connection: Connection, project_id: int, goal_id: int) -> None:
    """Remove a goal and its figures. Raises NotFound."""
    get_goal(connection, project_id, goal_id)
    connection.execute(Q.delete_goal, {"id": goal_id, "project_id": project_id})
    _note_change(connection, project_id)


def _note_change(connection: Connection, project_id: int) -> None:
    """Note that campaigns have other conversions on all days from now on."""
    changes.note(connection, [(project_id, *changes.EVER)])


def recount_goals(connection: Connection, project_id: int | None) -> None:
    """Have the goals of a project, or of all, counted anew in the background."""
    connection.execute(Q.recount_goals, {"project_id": project_id})


def goals_report(connection: Connection, project_id: int, period: Period, goals: list[Goal]) -> GoalsReport:
    """Return the figures of goals in a period."""
    return GoalsReport(period.date_range, _read_figures(connection, project_id, period, goals))


def goal_report(connection: Connection, project_id: int, period: Period, goal: Goal) -> GoalReport:
    """Return one goal's figures and its days."""
    figures = _read_figures(connection, project_id, period, [goal])[0]
    rows = connection.execute(Q.series, {"id": goal.id, "start": period.start, "end": period.end})
    points = [
        GoalPoint(row.day, row.completions, min(estimate([bytes(row.visitors)]), row.completions), float(row.value))
        for row in sorted(rows, key=lambda row: row.day)
    ]
    return GoalReport(**msgspec.structs.asdict(figures), date_range=period.date_range, time_series=points)


def _read_figures(connection: Connection, project_id: int, period: Period, goals: list[Goal]) -> list[GoalFigures]:
    span = {"start": period.start, "end": period.end}
    rows = {row.goal_id: row for row in connection.execute(Q.figures, {**span, "ids": [goal.id for goal in goals]})}
    days = connection.execute(Q.everybody, {"project_id": project_id, "start": period.start, "days": period.days})
    everybody = estimate(bytes(row.visitors) for row in days) if rows else 0
    return [_to_figures(goal, rows.get(goal.id), everybody) for goal in goals]


def _to_figures(goal: Goal, row: Row[Any] | None, everybody: int) -> GoalFigures:
    completions = row.completions if row else 0
    # Estimates: never more than there are completions, nor more than everybody.
    visitors = min(count_joined(row.sketches, row.lengths), completions) if row else 0
    return GoalFigures(
        **msgspec.structs.asdict(goal),
        completions=completions,
        unique_visitors=visitors,
        conversion_rate=min(percentage(visitors, everybody), 100.0),
        value=float(row.value) if row else 0.0,
    )


def _to_goal(row: Row[Any]) -> Goal:
    columns = row._asdict()
    del columns["revision"]
    status: Literal["ready", "counting"] = "ready" if columns.pop("counted") else "counting"
    return Goal(**columns, status=status)


def _columns(definition: GoalDefinition) -> dict[str, Any]:
    """Return a definition's columns. Raises Invalid for what the types alone can't say."""
    columns = dict.fromkeys(("event_type", "event_name", "path", "value_key"))
    columns |= {"kind": definition.__struct_config__.tag, **msgspec.structs.asdict(definition)}
    if isinstance(definition, EventGoal) and definition.event_name is None and definition.event_type is None:
        raise _invalid("eventName", "is required where eventType is not given")
    if isinstance(definition, PageGoal) and definition.path.count("*") > MAX_WILDCARDS:
        raise _invalid("path", f"must hold at most {MAX_WILDCARDS} wildcards (*)")
    if columns["event_type"] == "engagement":
        raise _invalid("eventType", "can't be engagement, which only says how long a page was read")
    return columns


def _invalid(field: str, problem: str) -> Invalid:
    return Invalid("The goal can't be used.", details=[Detail(field, problem)])


def _name_taken(name: str) -> Conflict:
    problem = Detail("name", "must be the project's only one")
    return Conflict(f"There is a goal named {name!r} already.", details=[problem])
