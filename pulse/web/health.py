"""Whether the process lives, and whether it should get traffic."""

import msgspec
from flask import Blueprint, Response

from pulse.errors import Unavailable
from pulse.storage import schema
from pulse.web.http import Api, answer_json
from pulse.web.service import service

blueprint = Blueprint("health", __name__)
api = Api(blueprint, "Health")


class Health(msgspec.Struct, rename="camel"):
    """`status` is ok, or degraded while events go to the spool."""

    status: str
    database: str


@api("GET", "/health/live", "The process answers", scope=None, answer=Health)
def live() -> Health:
    """Answer without touching anything else."""
    return Health("ok", "unchecked")


@api("GET", "/health/ready", "Events can be stored and reports read", scope=None, answer=Health)
def ready() -> Response:
    """Ask PostgreSQL. Raises Unavailable while it is away or this worker stops."""
    if service().stopping.is_set():
        raise Unavailable("This worker is stopping.", retry_after_s=1)
    with service().database.begin() as connection:
        if schema.schema_version(connection) < len(schema.list_migrations()):
            raise Unavailable("The schema is older than this release; run `pulse migrate`.", retry_after_s=10)
    response = answer_json(Health("ok", "ok"))
    response.headers["Cache-Control"] = "no-store"
    return response
