"""The OpenAPI document, made from the endpoints and the types that validate them."""

import re
from typing import Any

import msgspec
from flask import Blueprint, Response, render_template

from pulse import __version__
from pulse.ingest.event import MAX_EVENTS
from pulse.ingest.wire import Wire
from pulse.web.http import Endpoint, answer_cached
from pulse.web.pages import secure

_PATH_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
_REF = "#/components/schemas/{name}"
_ERROR_STATUSES = {
    "400": "The request can't be read",
    "401": "No valid key or login",
    "403": "The key has not this scope or project",
    "404": "There is no such thing",
    "408": "The request did not arrive in time",
    "409": "The request contradicts what is stored",
    "413": "Over 512 KiB, or over 100 events",
    "415": "A content type or encoding that is not understood",
    "422": "A field breaks a rule; details names it",
    "429": "Too many requests; see Retry-After",
    "503": "Not possible now; see Retry-After",
}


class ErrorDetail(msgspec.Struct):
    """What is wrong with one field."""

    field: str
    message: str


class ErrorAnswer(msgspec.Struct, omit_defaults=True):
    """The shape of every error."""

    success: bool
    error: str
    message: str
    details: list[ErrorDetail] = []


def _describe_wire() -> type[msgspec.Struct]:
    """Return the wire form as a type that can be described: raw JSON defaults can't."""
    described: list[tuple[str, Any, Any]] = []
    for item in msgspec.structs.fields(Wire):
        kind = dict[str, Any] | None if item.type is msgspec.Raw else item.type
        described.append((item.encode_name, kind, None))
    return msgspec.defstruct("TrackedEvent", described, namespace={"__doc__": "An event, under any of its spellings."})


TrackedEvent = _describe_wire()


def build_document(endpoints: list[Endpoint]) -> dict[str, Any]:
    """Describe the endpoints as OpenAPI 3.1."""
    types: list[Any] = [ErrorAnswer, TrackedEvent]
    types += [t for e in endpoints for t in (e.query, e.body, e.answer) if t is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = list(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = "/api/v1" + _PATH_PARAMETER.sub(r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _describe(endpoint, by_type, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Analytics-Pulse",
            "version": __version__,
            "description": "Self-hosted web analytics: events in, reports out, and its own performance.",
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "queryKey": {"type": "apiKey", "in": "query", "name": "api_key"},
            },
        },
    }


def _schema(kind: Any, by_type: list[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    return next(schema for known, schema in by_type if known is kind)


def _describe(endpoint: Endpoint, by_type: list[tuple[Any, Any]], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "operationId": f"{endpoint.method.lower()}{re.sub(r'[^a-zA-Z]+', '_', endpoint.path)}",
        "responses": _responses(endpoint, by_type),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
        for name in _PATH_PARAMETER.findall(endpoint.path)
    ]
    if endpoint.query is not None:
        described = components[endpoint.query.__name__]
        for name, schema in described.get("properties", {}).items():
            required = name in described.get("required", [])
            parameters.append({"name": name, "in": "query", "required": required, "schema": schema})
    if parameters:
        operation["parameters"] = parameters
    if endpoint.tag == "Tracking":
        operation["security"] = [{"apiKey": []}, {"bearer": []}, {"queryKey": []}]
        event = _schema(TrackedEvent, by_type)
        body = event if endpoint.path.endswith("/event") else _batch_schema(event)
        operation["requestBody"] = _body(body, endpoint.content_types)
    elif endpoint.tag != "Health":
        operation["security"] = [{"apiKey": []}, {"bearer": []}]
    if endpoint.body is not None:
        operation["requestBody"] = _body(_schema(endpoint.body, by_type), endpoint.content_types)
    return operation


def _batch_schema(event: dict[str, Any]) -> dict[str, Any]:
    events = {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_EVENTS}
    return {"type": "object", "properties": {"events": events}, "required": ["events"]}


def _body(schema: dict[str, Any], content_types: tuple[str, ...]) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": schema} for kind in content_types}}


def _responses(endpoint: Endpoint, by_type: list[tuple[Any, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": endpoint.summary}
    if endpoint.answer is not None:
        envelope = {
            "type": "object",
            "properties": {"success": {"const": True}, "data": _schema(endpoint.answer, by_type)},
            "required": ["success", "data"],
        }
        answer["content"] = {"application/json": {"schema": envelope}}
    error = {"application/json": {"schema": _schema(ErrorAnswer, by_type)}}
    responses = {str(endpoint.status): answer}
    responses |= {status: {"description": text, "content": error} for status, text in _ERROR_STATUSES.items()}
    return responses


def make_blueprint(endpoints: list[Endpoint]) -> Blueprint:
    """Serve the document and the page that shows it."""
    blueprint = Blueprint("openapi", __name__)
    description = build_document(endpoints)
    encoded = msgspec.json.encode(description)
    tags: dict[str, list[dict[str, Any]]] = {tag: [] for tag in dict.fromkeys(e.tag for e in endpoints)}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            tags[operation["tags"][0]].append({"method": method, "path": path, **operation})

    @blueprint.get("/api/v1/openapi.json")
    def document() -> Response:
        response = answer_cached(encoded, max_age_s=300, cache_state="HIT")
        del response.headers["X-Cache"]
        return response

    blueprint.after_request(secure)

    @blueprint.get("/docs")
    def docs() -> str:
        return render_template("docs.html", tags=tags, schemas=description["components"]["schemas"])

    return blueprint
