"""Campaign reports over HTTP, through the cache."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response
from sqlalchemy import Connection

from pulse.reports import campaign_comparison, period
from pulse.reports import campaigns as report
from pulse.reports.period import Period
from pulse.web.analytics import CLOSED_TTL_S, OPEN_TTL_S, answer_report, digest, find_project
from pulse.web.http import Api
from pulse.web.service import service

blueprint = Blueprint("campaigns", __name__)
api = Api(blueprint, "Campaigns")


def resolve_period(project_id: int, start: str | None, end: str | None, granularity: str | None = None) -> Period:
    """Return the period asked for in the project's time zone. Raises NotFound or Invalid."""
    return period.resolve(start, end, granularity, find_project(project_id).timezone, datetime.now(UTC))


def answer_period(
    kind: str, project_id: int, chosen: Period, parameters: str, compute: Callable[[Connection], Any]
) -> Response:
    """Answer a report of a period from the cache; one that still gathers events is computed anew after seconds."""

    def read() -> Any:
        return service().database.run(compute)

    is_open = chosen.ends_at > datetime.now(UTC)
    return answer_report(
        f"{kind}:project:{project_id}:{chosen.start}:{chosen.end}:{chosen.timezone}:{parameters}",
        read,
        ttl_s=OPEN_TTL_S if is_open else CLOSED_TTL_S,
        max_age_s=300,
        # The period before too, which comparisons read.
        version=service().last_change(project_id, chosen.previous().start, chosen.end),
    )


@api(
    "GET", "/projects/<int:project_id>/campaigns", "Campaigns by source and medium, most sessions first",
    scope="read", query=report.CampaignsQuery, answer=report.CampaignsReport,
)  # fmt: skip
def list_campaigns(project_id: int, query: report.CampaignsQuery) -> Response:
    """Answer the list."""
    chosen = resolve_period(project_id, query.start_date, query.end_date)
    return answer_period(
        "campaigns", project_id, chosen, f"list:{query.limit}",
        lambda connection: report.campaigns(connection, project_id, chosen, query.limit),
    )  # fmt: skip


@api(
    "GET", "/projects/<int:project_id>/campaigns/compare",
    "Campaigns beside each other, each with its series and against the period before",
    scope="read", query=campaign_comparison.CompareCampaignsQuery, answer=campaign_comparison.CampaignComparison,
)  # fmt: skip
def compare_campaigns(project_id: int, query: campaign_comparison.CompareCampaignsQuery) -> Response:
    """Answer the comparison."""
    chosen = resolve_period(project_id, query.start_date, query.end_date, query.granularity)
    names = campaign_comparison.read_names(query.campaigns)
    parameters = f"compare:{chosen.granularity}:{digest(repr(names))}"
    return answer_period(
        "campaigns", project_id, chosen, parameters,
        lambda connection: campaign_comparison.compare_campaigns(connection, project_id, chosen, names),
    )  # fmt: skip


@api(
    "GET", "/projects/<int:project_id>/campaigns/top", "The best campaigns by sessions, visitors or conversions",
    scope="read", query=report.TopCampaignsQuery, answer=report.TopCampaignsReport,
)  # fmt: skip
def top_campaigns(project_id: int, query: report.TopCampaignsQuery) -> Response:
    """Answer the best ones."""
    chosen = resolve_period(project_id, query.start_date, query.end_date)
    return answer_period(
        "campaigns", project_id, chosen, f"top:{query.metric}:{query.limit}",
        lambda connection: report.top_campaigns(connection, project_id, chosen, query.metric, query.limit),
    )  # fmt: skip
