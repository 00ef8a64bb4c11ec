"""One shape for every failure, whoever raises it."""

import gzip
import json
import logging
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import Gone
from werkzeug.test import TestResponse

from pulse.errors import Conflict, Detail, PulseError, RateLimited, Unavailable
from pulse.logs import set_up_logging
from pulse.web.http import MAX_BODY_BYTES, request_id

KEY = {"X-API-Key": "test_api_key"}
EVENT = "/api/v1/track/event"


def fault(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Check the shape of an error and return it."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"]
    body = answer.get_json()
    assert set(body) <= {"success", "error", "message", "details"}
    assert (body["success"], body["error"]) == (False, code)
    assert body["message"] and "Traceback" not in answer.text and "<html" not in answer.text.lower()
    for detail in body.get("details", []):
        assert set(detail) == {"field", "message"} and all(isinstance(text, str) and text for text in detail.values())
    return dict(body)


def test_an_unknown_path_is_not_found(client: FlaskClient) -> None:
    cases = [
        "/nothing", "/api/v1", "/api/v1/nothing", "/api/v1/projects/abc", "/api/v1/projects/-1", "/js/",
    ]
    for path in cases:
        fault(client.get(path), 404, "NOT_FOUND")
        fault(client.post(path), 404, "NOT_FOUND")


def test_a_file_that_is_not_there_is_not_found(client: FlaskClient) -> None:
    fault(client.get("/static/none.js"), 404, "NOT_FOUND")


def test_an_odd_path_is_not_found(client: FlaskClient) -> None:
    cases = ["/%00", "/%ff%fe", "/../../etc/passwd", "/static/..%2f..%2fapp.py", "/static/~x/../pages.py"]
    for path in cases:
        fault(client.get(path), 404, "NOT_FOUND")


def test_a_method_a_path_does_not_have_is_not_allowed(client: FlaskClient) -> None:
    cases = [
        ("GET", EVENT, "POST"),
        ("DELETE", EVENT, "POST"),
        ("PATCH", "/api/v1/projects/1", "PUT"),
        ("POST", "/api/v1/projects/1/analytics", "GET"),
        ("POST", "/", "GET"),
        ("GET", "/logout", "POST"),
        ("PROPFIND", "/api/v1/projects", "GET"),
    ]
    for method, path, allowed in cases:
        answer = client.open(path, method=method)
        fault(answer, 405, "METHOD_NOT_ALLOWED")
        assert allowed in answer.headers["Allow"]


def test_what_nobody_foresaw_is_an_error_without_its_reason(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/breaks")
    def breaks() -> str:
        raise RuntimeError("the password is hunter2")

    # The log goes where the settings send it; here it is read from the logger itself.
    logging.getLogger().addHandler(caplog.handler)
    try:
        answer = app.test_client().get("/breaks", headers={"X-Request-Id": "trace-7"})
    finally:
        logging.getLogger().removeHandler(caplog.handler)
    body = fault(answer, 500, "INTERNAL_ERROR")
    assert "hunter2" not in answer.text and "trace-7" in body["message"]
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "GET /breaks" in record.getMessage() and "hunter2" in str(record.exc_info[1] if record.exc_info else "")


def test_the_log_line_of_a_request_carries_its_id(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging(replace(app.extensions["pulse"].config, log_format="json"), request_id)

    @app.get("/breaks")
    def breaks() -> str:
        raise RuntimeError("no")

    app.test_client().get("/breaks", headers={"X-Request-Id": "trace-8"})
    logging.getLogger("pulse.test").error("outside of a request")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    inside = next(line for line in lines if "GET /breaks" in line["message"])
    outside = next(line for line in lines if line["message"] == "outside of a request")
    assert inside["requestId"] == "trace-8" and "RuntimeError: no" in inside["exception"]
    assert "requestId" not in outside and outside["level"] == "error"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Conflict("no", details=[Detail("name", "is taken")]), 409, "CONFLICT"),
        (RateLimited("slow down", retry_after_s=7), 429, "RATE_LIMITED"),
        (Unavailable("later", retry_after_s=3), 503, "UNAVAILABLE"),
        (PulseError("odd"), 500, "INTERNAL_ERROR"),
        (Gone(), 410, "GONE"),
    ],
)
def test_each_kind_has_its_status_and_code(app: Flask, error: Exception, status: int, code: str) -> None:
    @app.get("/breaks")
    def breaks() -> str:
        raise error

    answer = app.test_client().get("/breaks")
    body = fault(answer, status, code)
    wanted = getattr(error, "retry_after_s", None)
    assert answer.headers.get("Retry-After") == (str(wanted) if wanted else None)
    if isinstance(error, Conflict):
        assert body["details"] == [{"field": "name", "message": "is taken"}]
    else:
        assert "details" not in body


def test_a_harmless_request_id_comes_back(client: FlaskClient) -> None:
    cases = ["trace-1", "a" * 64, "0af7651916cd43dd8448eb211c80319c", "svc:1.2_3"]
    for given in cases:
        for path in ("/nothing", "/health/live"):
            assert client.get(path, headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


def test_any_other_request_id_is_replaced(client: FlaskClient) -> None:
    cases = ["", "a" * 65, "two words", "<script>", "é", "a;b"]
    for given in cases:
        found = client.get("/nothing", headers={"X-Request-Id": given}).headers["X-Request-Id"]
        assert UUID(found).version == 7


def test_two_requests_have_two_ids(client: FlaskClient) -> None:
    first, second = (client.get("/nothing").headers["X-Request-Id"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("path", [EVENT, "/api/v1/track/batch"])
def test_a_body_over_the_limit_is_too_large(client: FlaskClient, path: str) -> None:
    answer = client.post(path, data=b" " * (MAX_BODY_BYTES + 1), content_type="application/json", headers=KEY)
    body = fault(answer, 413, "TOO_LARGE")
    assert str(MAX_BODY_BYTES) in body["message"] and answer.headers["Connection"] == "close"


def test_a_small_body_that_unpacks_to_a_large_one_is_too_large(client: FlaskClient) -> None:
    bomb = gzip.compress(b" " * (50 * MAX_BODY_BYTES))
    assert len(bomb) < MAX_BODY_BYTES
    headers = {**KEY, "Content-Encoding": "gzip"}
    fault(client.post(EVENT, data=bomb, content_type="application/json", headers=headers), 413, "TOO_LARGE")


def test_an_unreadable_encoding_is_refused(client: FlaskClient) -> None:
    cases = [
        (b"not gzip", "gzip", 400, "BAD_REQUEST"),
        (gzip.compress(b"{}" * 500)[:-9], "gzip", 400, "BAD_REQUEST"),
        (b"{}", "br", 415, "UNSUPPORTED_MEDIA_TYPE"),
    ]
    for body, encoding, status, code in cases:
        headers = {**KEY, "Content-Encoding": encoding}
        fault(client.post(EVENT, data=body, content_type="application/json", headers=headers), status, code)


def test_a_body_of_another_type_is_refused(client: FlaskClient, admin_key: str) -> None:
    cases = ["text/html", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
    for content_type in cases:
        answer = client.post(
            "/api/v1/projects", data=b'{"name": "x"}', content_type=content_type, headers={"X-API-Key": admin_key}
        )
        fault(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_that_is_no_json_is_a_bad_request(client: FlaskClient, admin_key: str) -> None:
    cases = [
        b"", b"{", b"\xff\xfe{}", b'{"name": "\xc3("}', b'{"name": "x", "type": "x"} {}', b"NaN",
        b'{"name": "x", "y": ' + b"[" * 100_000,
    ]
    for body in cases:
        send = {"data": body, "content_type": "application/json"}
        fault(client.post("/api/v1/projects", headers={"X-API-Key": admin_key}, **send), 400, "BAD_REQUEST")
        fault(client.post(EVENT, headers=KEY, **send), 400, "BAD_REQUEST")


def test_json_of_another_kind_is_invalid(client: FlaskClient, admin_key: str) -> None:
    cases = [b"[]", b"5", b'"x"', b"null", b"true"]
    for body in cases:
        answer = client.post(
            "/api/v1/projects", data=body, content_type="application/json", headers={"X-API-Key": admin_key}
        )
        assert fault(answer, 422, "VALIDATION_FAILED")["details"][0]["field"] == "body"


def test_a_bad_query_names_its_parameter(client: FlaskClient) -> None:
    cases = [
        ("startDate=yesterday", "startDate"),
        ("start_date=2026-02-30", "startDate"),
        ("startDate=2026-02-01&endDate=2026-01-01", "endDate"),
        ("granularity=century", "granularity"),
        ("limit=0", "limit"),
        ("limit=ten", "limit"),
        ("limit=99999999999999999999", "limit"),
    ]
    for query, field in cases:
        answer = client.get(f"/api/v1/projects/1/analytics?{query}", headers=KEY)
        named = {detail["field"] for detail in fault(answer, 422, "VALIDATION_FAILED")["details"]}
        assert any(field.lower().startswith(name.lower()[:5]) for name in named), named


def test_head_and_options_are_answered(client: FlaskClient) -> None:
    assert client.head("/health/live").status_code == 200
    assert client.options("/api/v1/projects").status_code == 200
    preflight = client.options(EVENT, headers={"Origin": "https://shop.example"})
    assert preflight.status_code == 204 and preflight.headers["Access-Control-Allow-Origin"] == "*"


def test_an_error_of_tracking_can_be_read_by_the_page_that_sent(client: FlaskClient) -> None:
    answer = client.post(EVENT, json={"type": "pageview"}, headers={"Origin": "https://shop.example"})
    fault(answer, 401, "UNAUTHORIZED")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
