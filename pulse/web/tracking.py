"""The tracking endpoints: bytes in, committed rows, 200 out. Nothing else happens while the client waits."""

from datetime import UTC, datetime

import msgspec
from flask import Blueprint, Response, request

from pulse.errors import Detail, Forbidden, Invalid, Unauthorized, UnsupportedMediaType
from pulse.ingest.event import EventError, decode_batch, decode_event
from pulse.ingest.pipeline import Accepted, Drop, RequestFacts, enrich
from pulse.ingest.uuid7 import new_event_id
from pulse.web.access import client_address, presented_key
from pulse.web.http import Endpoint, answer_json, read_body
from pulse.web.service import Service, service

blueprint = Blueprint("tracking", __name__)

_CONTENT_TYPES = {"application/json", "text/plain", ""}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Content-Encoding, X-API-Key, Authorization",
    "Access-Control-Max-Age": "86400",
}


class EventAnswer(msgspec.Struct, rename="camel"):
    """The id an event is stored under."""

    event_id: str


class EventFault(msgspec.Struct, rename="camel"):
    """Why one event of a batch was refused."""

    index: int
    field: str
    message: str


class BatchAnswer(msgspec.Struct, rename="camel"):
    """How a batch went; `eventIds` are those of the accepted events, in order."""

    accepted: int
    rejected: int
    event_ids: list[str]
    errors: list[EventFault]


@blueprint.after_request
def allow_other_origins(response: Response) -> Response:
    """Let pages of any origin send events: the key in them is write-only, and nothing is read with it."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


@blueprint.route("/track/event", methods=["OPTIONS"])
@blueprint.route("/track/batch", methods=["OPTIONS"])
def preflight() -> Response:
    """Answer a browser's question before it sends."""
    return Response(status=204, headers=_CORS)


@blueprint.post("/track/event")
def track_event() -> Response:
    """Store one event."""
    parts = service()
    facts = _read_facts(parts)
    result = enrich(decode_event(_read_events_body(), facts.received_at), facts, parts.identity)
    if isinstance(result, Drop):
        parts.writer.drop(facts.project_id, result)
        event_id = new_event_id()
    else:
        parts.writer.submit([result])
        event_id = result.row.id
    return Response(f'{{"success":true,"data":{{"eventId":"{event_id}"}}}}', mimetype="application/json")


@blueprint.post("/track/batch")
def track_batch() -> Response:
    """Store up to a hundred events; bad ones are named and do not spoil the others."""
    parts = service()
    facts = _read_facts(parts)
    batch = decode_batch(_read_events_body(), facts.received_at)
    if not batch.events:
        raise Invalid(
            "None of the events can be stored.",
            details=[Detail(_name(error), error.message) for error in batch.errors],
        )
    accepted: list[Accepted] = []
    ids: list[str] = []
    for _, event in batch.events:
        result = enrich(event, facts, parts.identity)
        if isinstance(result, Drop):
            parts.writer.drop(facts.project_id, result)
            ids.append(new_event_id())
        else:
            accepted.append(result)
            ids.append(result.row.id)
    if accepted:
        parts.writer.submit(accepted)
    faults = [EventFault(error.index, error.field, error.message) for error in batch.errors]
    return answer_json(BatchAnswer(len(ids), len(faults), ids, faults))


def _name(error: EventError) -> str:
    place = f"events[{error.index}]"
    return place if error.field == "events" else f"{place}.{error.field}"


def _read_facts(parts: Service) -> RequestFacts:
    text = presented_key(in_query=True)
    if not text:
        raise Unauthorized("Events need an API key: X-API-Key, Authorization: Bearer, or ?api_key=.")
    key = parts.keys.get(text) if len(text) <= 200 else None
    if key is None:
        raise Unauthorized("The API key is unknown or revoked.")
    if key.project_id is None or "ingest" not in key.scopes:
        raise Forbidden("This key has no ingest scope.")
    headers = request.headers
    return RequestFacts(
        project_id=key.project_id,
        address=client_address(parts.config),
        user_agent=headers.get("User-Agent", ""),
        language_header=headers.get("Accept-Language", ""),
        received_at=datetime.now(UTC),
    )


def _read_events_body() -> bytes:
    if request.mimetype not in _CONTENT_TYPES:
        raise UnsupportedMediaType("Events are sent as application/json or text/plain.")
    return read_body()


ENDPOINTS = [
    Endpoint(
        "POST", "/track/event", "Store one event; 200 means committed", "ingest", answer=EventAnswer, tag="Tracking",
        content_types=("application/json", "text/plain"),
    ),
    Endpoint(
        "POST", "/track/batch", "Store up to 100 events", "ingest", answer=BatchAnswer, tag="Tracking",
        content_types=("application/json", "text/plain"),
    ),
]  # fmt: skip
