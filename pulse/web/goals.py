"""Goals and funnels over HTTP."""

from datetime import UTC, datetime

import msgspec
from flask import Blueprint, Response

from pulse.errors import NotFound
from pulse.reports import funnel as funnels
from pulse.reports import goals as store
from pulse.reports.goals import Goal, GoalDefinition, GoalReport, GoalsQuery, GoalsReport
from pulse.web.analytics import OPEN_TTL_S, answer_report, digest, find_project
from pulse.web.campaigns import answer_period, resolve_period
from pulse.web.computing import Slots
from pulse.web.http import Api
from pulse.web.projects import Deleted
from pulse.web.service import service

blueprint = Blueprint("goals", __name__)
api = Api(blueprint, "Goals")

# Funnels counted at once by a process: each reads all events of its days, on every core.
_funnels = Slots(2, "Too many funnels are being counted; try again shortly.")


@api(
    "GET", "/projects/<int:project_id>/goals", "Goals with their completions, visitors, conversion rate and value",
    scope="read", query=GoalsQuery, answer=GoalsReport,
)  # fmt: skip
def list_goals(project_id: int, query: GoalsQuery) -> Response:
    """Answer all goals; the cache's key holds the goals as they are, so that a change shows as soon as it is known."""
    chosen = resolve_period(project_id, query.start_date, query.end_date)
    goals = service().list_goals(project_id)
    return answer_period(
        "goals", project_id, chosen, digest(repr(goals)),
        lambda connection: store.goals_report(connection, project_id, chosen, goals),
    )  # fmt: skip


@api(
    "POST", "/projects/<int:project_id>/goals", "Make a goal; events stored already are counted in the background",
    scope="read", body=GoalDefinition, answer=Goal, status=201,
)  # fmt: skip
def create_goal(project_id: int, body: GoalDefinition) -> Goal:
    """Store a goal."""
    with service().database.begin() as connection:
        made = store.create_goal(connection, project_id, body)
    service().forget()
    return made


@api(
    "GET", "/projects/<int:project_id>/goals/<int:goal_id>", "One goal with its days",
    scope="read", query=GoalsQuery, answer=GoalReport,
)  # fmt: skip
def get_goal(project_id: int, goal_id: int, query: GoalsQuery) -> Response:
    """Answer a goal."""
    chosen = resolve_period(project_id, query.start_date, query.end_date)
    goal = next((one for one in service().list_goals(project_id) if one.id == goal_id), None)
    if goal is None:
        raise NotFound(f"There is no goal {goal_id} in project {project_id}.")
    return answer_period(
        "goals", project_id, chosen, f"{goal_id}:{digest(repr(goal))}",
        lambda connection: store.goal_report(connection, project_id, chosen, goal),
    )  # fmt: skip


@api(
    "PUT", "/projects/<int:project_id>/goals/<int:goal_id>",
    "Replace a goal; unless only its name changes, it is counted anew",
    scope="read", body=GoalDefinition, answer=Goal,
)  # fmt: skip
def change_goal(project_id: int, goal_id: int, body: GoalDefinition) -> Goal:
    """Change a goal."""
    find_project(project_id)
    with service().database.begin() as connection:
        changed = store.change_goal(connection, project_id, goal_id, body)
    service().forget()
    return changed


@api(
    "DELETE", "/projects/<int:project_id>/goals/<int:goal_id>", "Delete a goal and its figures",
    scope="read", answer=Deleted,
)  # fmt: skip
def delete_goal(project_id: int, goal_id: int) -> Deleted:
    """Remove a goal."""
    find_project(project_id)
    with service().database.begin() as connection:
        store.delete_goal(connection, project_id, goal_id)
    service().forget()
    return Deleted(goal_id)


@api(
    "POST", "/projects/<int:project_id>/goals/funnel", "How many visitors take one step after another",
    scope="read", body=funnels.FunnelRequest, answer=funnels.FunnelReport,
)  # fmt: skip
def funnel(project_id: int, body: funnels.FunnelRequest) -> Response:
    """Answer a funnel, counted once for all who ask the same."""
    chosen = resolve_period(project_id, body.start_date, body.end_date)
    is_open = chosen.ends_at > datetime.now(UTC)

    def compute() -> funnels.FunnelReport:
        with _funnels.turn():
            return service().database.run(lambda connection: funnels.funnel(connection, project_id, chosen, body))

    key = f"{chosen.start}:{chosen.end}:{chosen.timezone}:{digest(msgspec.json.encode(body).decode())}"
    return answer_report(
        f"funnel:project:{project_id}:{key}", compute, ttl_s=OPEN_TTL_S * 5 if is_open else 300, max_age_s=60,
        version=service().last_change(project_id, chosen.start, chosen.end), renew=False,
    )  # fmt: skip
