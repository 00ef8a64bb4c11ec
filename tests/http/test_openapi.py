"""The OpenAPI document and the service agree: generated requests get no 500 and no undocumented answer."""

import re
from typing import Any

import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import data
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


def _try_out(operation: Any, mode: Any, key: str) -> None:
    @settings(max_examples=8, database=None, suppress_health_check=list(HealthCheck))
    @given(data())
    def check(data: Any) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if operation.method.upper() == "DELETE" and case.path_parameters:
            case.path_parameters["project_id"] = 10**6  # project 1 must outlive the run
        # In one process nothing stands between that would unpack a compressed answer.
        response = case.call(headers={"X-API-Key": key, "Accept-Encoding": "identity"})
        assert response.status_code != 500, f"{operation.label}: {response.text}"
        case.validate_response(response, checks=CHECKS)

    check()


def test_generated_requests_are_answered_as_documented(app: Flask, admin_key: str) -> None:
    """Each operation with requests that fit its description and ones that break it."""
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)
    seen = 0
    for operation in (result.ok() for result in schema.get_all_operations()):
        key = "test_api_key" if "/track/" in operation.path else admin_key
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                _try_out(operation, mode, key)
            except Unsatisfiable:  # an operation that no request can break
                assert mode is GenerationMode.NEGATIVE
            seen += 1
    assert seen >= 40


def test_every_api_route_is_described(app: Flask, client: FlaskClient) -> None:
    document = client.get("/api/v1/openapi.json").json
    assert document is not None and document["openapi"].startswith("3.")
    described = {(path, method.upper()) for path, operations in document["paths"].items() for method in operations}
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/v1/") and rule.rule not in ("/api/v1/openapi.json", "/api/v1/metrics"):
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
                assert (path, method) in described, f"{method} {path}"


def test_the_description_is_shown_as_a_page(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200 and "/api/v1/track/event" in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
