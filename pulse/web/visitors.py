"""One visitor's data over HTTP, for a site that passes its own visitor ids: everything stored, and its deletion.

Both need an administrator: a `read` key sees events by pseudonym alone, and these tell whose pseudonym it is.
"""

from datetime import date
from typing import Annotated

import msgspec
from flask import Blueprint, Response
from msgspec import Meta, Struct
from sqlalchemy import Connection

from pulse.ingest import batch
from pulse.ingest.spool import Spool
from pulse.reports.visitor_data import VisitorData, export_visitor
from pulse.rollup import erasure
from pulse.rollup.erasure import Erasure
from pulse.storage import schema
from pulse.storage.projects import get_project
from pulse.web.exports import Download, send
from pulse.web.http import Api
from pulse.web.service import service

blueprint = Blueprint("visitors", __name__)
api = Api(blueprint, "Visitors")

# As the tracking endpoints take it.
VisitorId = Annotated[
    str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00]+$", description="The visitor_id that the site sends")
]


class OneVisitor(Struct, rename="camel", frozen=True):
    """Whose data it is about: in the body, so that it stands in no log of addresses."""

    visitor_id: VisitorId


class PlannedErasure(Erasure, rename="camel", frozen=True, kw_only=True):
    """An erasure, and in words what it does and what it can't do; raw events are kept from `kept_since` on."""

    kept_since: date | None
    plan: list[str]


def _named(project_id: int, body: OneVisitor) -> int:
    with service().database.begin() as connection:
        get_project(connection, project_id)
    return service().identity.named_visitor(project_id, body.visitor_id)


def _plan(connection: Connection, found: Erasure) -> PlannedErasure:
    kept_since = schema.first_kept_on(connection)
    return PlannedErasure(
        **msgspec.structs.asdict(found), kept_since=kept_since, plan=erasure.explain(found, kept_since)
    )


@api(
    "POST", "/projects/<int:project_id>/visitors/export", "Download all that is stored of one visitor, as JSON",
    scope="admin", body=OneVisitor, answer=VisitorData,
)  # fmt: skip
def export_one(project_id: int, body: OneVisitor) -> Response:
    """Stream the visitor's events and sessions."""
    visitor = _named(project_id, body)
    name = f"visitor-{project_id}.json"
    return send(Download(name, lambda connection: export_visitor(connection, project_id, visitor)), name)


@api(
    "POST", "/projects/<int:project_id>/erasures", "Have all that is stored of one visitor deleted, in the background",
    scope="admin", body=OneVisitor, answer=PlannedErasure, status=202,
)  # fmt: skip
def erase_one(project_id: int, body: OneVisitor) -> PlannedErasure:
    """Write down who is to be forgotten; asked again, it is another erasure, of what came since."""
    visitor = _named(project_id, body)
    before_batch = max(batch.newest_id(), Spool(service().config.data_dir / "spool").newest())
    with service().database.begin() as connection:
        return _plan(connection, erasure.request_erasure(connection, project_id, visitor, before_batch))


@api(
    "GET", "/projects/<int:project_id>/erasures", "Erasures asked for, under way and done, newest first",
    scope="admin", answer=list[Erasure],
)  # fmt: skip
def list_erasures(project_id: int) -> list[Erasure]:
    """List a project's newest erasures."""
    with service().database.begin() as connection:
        get_project(connection, project_id)
        return erasure.list_erasures(connection, project_id)


@api(
    "GET", "/projects/<int:project_id>/erasures/<int:erasure_id>", "How far an erasure is",
    scope="admin", answer=PlannedErasure,
)  # fmt: skip
def get_erasure(project_id: int, erasure_id: int) -> PlannedErasure:
    """Show one erasure."""
    with service().database.begin() as connection:
        return _plan(connection, erasure.get_erasure(connection, project_id, erasure_id))
