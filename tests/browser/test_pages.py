"""The pages' outer side: what is served, how it may be kept, what it may load."""

import gzip
import re
from dataclasses import replace

import pytest
from flask import Flask, redirect
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue

from pulse.config import Config
from pulse.errors import NotFound
from pulse.web.pages import Access, make_blueprint, render_login

SIGNED_IN = Access(guard=lambda: None, user=lambda: "ada@example.com", csrf_token=lambda: "token-1")
NOBODY = Access(guard=lambda: redirect("/login", 303), user=lambda: None, csrf_token=lambda: "token-1")


def make_client(env: str, access: Access = NOBODY) -> FlaskClient:
    app = Flask("pulse-test", static_folder=None)
    app.register_blueprint(make_blueprint(replace(Config(), env=env), access))
    app.register_error_handler(NotFound, lambda error: (error.message, 404))

    @app.post("/login")
    def failed() -> ResponseReturnValue:
        return render_login(NOBODY, error="<b>no</b>", email='"><script>', status=401)

    return app.test_client()


@pytest.fixture
def client() -> FlaskClient:
    return make_client("production")


def test_tracker_is_under_two_kib_gzipped(client: FlaskClient) -> None:
    answer = client.get("/js/pulse.js", headers={"Accept-Encoding": "gzip, br"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.data) < 2048
    assert gzip.decompress(answer.data) == client.get("/js/pulse.js").data


def test_tracker_may_be_loaded_and_kept_by_any_site(client: FlaskClient) -> None:
    answer = client.get("/js/pulse.js")
    assert answer.content_type == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=86400"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    for coding in ("gzip", "identity"):
        etag = client.get("/js/pulse.js", headers={"Accept-Encoding": coding}).headers["ETag"]
        again = client.get("/js/pulse.js", headers={"Accept-Encoding": coding, "If-None-Match": etag})
        assert (again.status_code, again.data) == (304, b"")


def test_every_file_of_a_page_is_there_and_kept_for_ever() -> None:
    client = make_client("production", SIGNED_IN)
    page = client.get("/").text
    files = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page))
    assert len(files) > 5
    for file in files:
        answer = client.get(file)
        assert answer.status_code == 200, file
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_modules_import_within_their_version() -> None:
    client = make_client("production", SIGNED_IN)
    start = re.findall(r'type="module" src="([^"]+)"', client.get("/").text)[0]
    folder, waiting, found = start.rsplit("/", 1)[0], [start], set()
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            answer = client.get(file)
            assert answer.status_code == 200, file
            waiting += [f"{folder}/{name}" for name in re.findall(r'from "\./([^"]+)"', answer.text)]
    assert len(found) > 8


def test_other_versions_are_checked_each_time(client: FlaskClient) -> None:
    assert client.get("/static/~00000000/css/base.css").headers["Cache-Control"] == "no-cache"
    assert client.get("/static/css/base.css").headers["Cache-Control"] == "no-cache"
    assert client.get("/static/vendor/chart.js?v=0").headers["Cache-Control"] == "no-cache"


def test_development_keeps_nothing() -> None:
    client = make_client("development", SIGNED_IN)
    file = re.findall(r'href="(/static/[^"]+base.css)"', client.get("/").text)[0]
    assert client.get(file).headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["../pages.py", "~1/../../pages.py", "%2e%2e/pages.py", "css", "none.css", "a%00b"])
def test_only_files_of_the_folder_are_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


PAGES = ["/", "/login", "/demo", "/demo/pricing", "/demo/blog/grind-size", "/demo/menu/cortado"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_run_no_inline_code(path: str) -> None:
    access = NOBODY if path == "/login" else SIGNED_IN
    answer = make_client("development", access).get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert not re.search(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=", answer.text)
    assert answer.headers["Cache-Control"] == "private, no-cache"


def test_dashboard_asks_for_the_login_first(client: FlaskClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert make_client("production", SIGNED_IN).get("/login").headers["Location"] == "/"


def test_signed_in_page_can_sign_out() -> None:
    page = make_client("production", SIGNED_IN).get("/").text
    assert 'action="/logout"' in page and 'value="token-1"' in page and "test_api_key" not in page


def test_failed_login_says_why_and_escapes_what_was_typed(client: FlaskClient) -> None:
    answer = client.post("/login")
    assert answer.status_code == 401
    assert "&lt;b&gt;no&lt;/b&gt;" in answer.text and 'name="csrf_token" value="token-1"' in answer.text
    assert 'value="&#34;&gt;&lt;script&gt;"' in answer.text


def test_demo_shop_exists_in_development_only(client: FlaskClient) -> None:
    development = make_client("development")
    assert development.get("/demo/price-list.csv").text.startswith("plan,price_eur")
    assert development.get("/demo/blog/none").status_code == 404
    for path in ("/demo", "/demo/pricing", "/demo/price-list.csv"):
        assert client.get(path).status_code == 404
