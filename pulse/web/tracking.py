"""The tracking endpoints: bytes in, committed rows, 200 out. Nothing else happens while the client waits.

A good event is answered before Flask is asked (`TrackingFirst`); whatever else comes, preflights and everything that
has to be refused in words, goes the way of all other requests and meets the blueprint's views.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from time import perf_counter
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from pulse.errors import (
    Detail,
    Forbidden,
    Invalid,
    RateLimited,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from pulse.ingest.event import EventError, decode_batch, decode_event
from pulse.ingest.pipeline import Accepted, Drop, RequestFacts, enrich
from pulse.ingest.uuid7 import new_event_id, new_event_ids
from pulse.monitor import recorder
from pulse.storage.projects import ApiKey
from pulse.web import arrival
from pulse.web.access import client_address, key_in_query, presented_key
from pulse.web.http import Endpoint, encode_data, encode_error, given_request_id, read_body
from pulse.web.service import Service, service

blueprint = Blueprint("tracking", __name__)

REFUSAL = "pulse.refusal"  # in the WSGI environment: why the event could not be stored
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
    return _track(store_event)


@blueprint.post("/track/batch")
def track_batch() -> Response:
    """Store up to a hundred events; bad ones are named and do not spoil the others."""
    return _track(store_batch)


def _track(store: Callable[[Service, dict[str, Any]], bytes]) -> Response:
    refusal: Exception | None = request.environ.get(REFUSAL)
    if refusal is not None:
        raise refusal
    return Response(store(service(), request.environ), mimetype="application/json")


class TrackingFirst:
    """WSGI middleware that stores good events itself.

    Flask's contexts, routing and response object cost twice what all of our own work on a single event does. An
    exception is left in the environment and Flask is asked after all: the view raises it, and the one error handler
    words it.
    """

    HEADERS = (("Content-Type", "application/json"), ("Access-Control-Allow-Origin", "*"))

    def __init__(self, parts: Service, rest: Callable[..., Iterable[bytes]], prefix: str) -> None:
        self._parts = parts
        self._rest = rest
        self._stores = {f"{prefix}/track/event": store_event, f"{prefix}/track/batch": store_batch}

    @property
    def routes(self) -> Iterable[str]:
        """The paths it answers a POST to."""
        return self._stores.keys()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        route = environ["PATH_INFO"]
        if route not in self._stores or environ["REQUEST_METHOD"] != "POST":
            return self._rest(environ, start_response)
        # One that the shortcut has asked about before it reached gunicorn comes with what was found.
        environ.update(getattr(environ["wsgi.input"], "found", ()))
        answer = None if REFUSAL in environ else self.answer(route, environ)
        if answer is None:
            return self._rest(environ, start_response)
        status, headers, body = answer
        start_response(status, [*self.HEADERS, ("Content-Length", str(len(body))), *headers.items()])
        return (body,)

    def answer(self, route: str, environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes] | None:
        """Store what a request brings and return status, headers beside HEADERS, and body.

        None when there is something to refuse, which then is in the environment.
        """
        started_at = arrival.started_at()
        given_id = given_request_id(environ)
        status = "200 OK"
        headers: dict[str, str] = {}
        try:
            body = self._stores[route](self._parts, environ)
        except (RateLimited, Unavailable) as error:  # who sends too much must not cost more than who does not
            body, headers = encode_error(error)
            status = f"{error.status} {HTTPStatus(error.status).phrase}"
            given_id = given_id or new_event_id()
        except Exception as error:  # noqa: BLE001 - the view raises it again
            environ[REFUSAL] = error
            return None
        recorder.record_request(route, "POST", int(status[:3]), (perf_counter() - started_at) * 1000)
        if given_id is not None:
            headers["X-Request-Id"] = given_id
        return status, headers, body


def store_event(parts: Service, environ: dict[str, Any]) -> bytes:
    """Store the event of a WSGI request and return the answer's body. Raises PulseError."""
    key, project_id = _find_key(parts, environ)
    body = _read_events_body(environ)
    parts.rates.take(key.id)
    facts = _read_facts(parts, environ, project_id)
    result = enrich(decode_event(body, facts.received_at), facts, parts.identity)
    if isinstance(result, Drop):
        parts.writer.drop(facts.project_id, result)
        event_id = new_event_id()
    else:
        parts.writer.submit([result])
        event_id = result.row.id
    return b'{"success":true,"data":{"eventId":"%b"}}' % event_id.encode()


def store_batch(parts: Service, environ: dict[str, Any]) -> bytes:
    """Store the good events of a WSGI request's batch and return the answer's body.

    Raises PulseError, Invalid when no event is good.
    """
    key, project_id = _find_key(parts, environ)
    body = _read_events_body(environ)
    parts.rates.take(key.id)
    facts = _read_facts(parts, environ, project_id)
    batch = decode_batch(body, facts.received_at)
    parts.rates.charge(key.id, batch.size - 1)
    if not batch.events:
        raise Invalid(
            "None of the events can be stored.",
            details=[Detail(_name(error), error.message) for error in batch.errors],
        )
    accepted: list[Accepted] = []
    ids: list[str] = []
    new_id = new_event_ids().__next__
    for _, event in batch.events:
        result = enrich(event, facts, parts.identity, new_id)
        if isinstance(result, Drop):
            parts.writer.drop(facts.project_id, result)
            ids.append(new_id())
        else:
            accepted.append(result)
            ids.append(result.row.id)
    if accepted:
        parts.writer.submit(accepted)
    faults = [EventFault(error.index, error.field, error.message) for error in batch.errors]
    return encode_data(BatchAnswer(len(ids), len(faults), ids, faults))


def _name(error: EventError) -> str:
    place = f"events[{error.index}]"
    return place if error.field == "events" else f"{place}.{error.field}"


def _find_key(parts: Service, environ: dict[str, Any]) -> tuple[ApiKey, int]:
    text = presented_key(environ) or key_in_query(environ)
    if not text:
        raise Unauthorized("Events need an API key: X-API-Key, Authorization: Bearer, or ?api_key=.")
    key = parts.keys.get(text) if len(text) <= 200 else None
    if key is None:
        raise Unauthorized("The API key is unknown or revoked.")
    if key.project_id is None or "ingest" not in key.scopes:
        raise Forbidden("This key has no ingest scope.")
    return key, key.project_id


def _read_facts(parts: Service, environ: dict[str, Any], project_id: int) -> RequestFacts:
    return RequestFacts(
        project_id=project_id,
        address=client_address(parts.config, environ),
        user_agent=environ.get("HTTP_USER_AGENT", ""),
        language_header=environ.get("HTTP_ACCEPT_LANGUAGE", ""),
        received_at=datetime.now(UTC),
    )


def _read_events_body(environ: dict[str, Any]) -> bytes:
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() not in _CONTENT_TYPES:
        raise UnsupportedMediaType("Events are sent as application/json or text/plain.")
    return read_body(environ)


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
