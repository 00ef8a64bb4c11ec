"""The pages people open: dashboard, login, the tracker script and the files they are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

from pulse.config import Config
from pulse.storage.projects import DEVELOPMENT_KEY
from pulse.web import demo
from pulse.web.assets import (
    FOREVER,
    REVALIDATE,
    Asset,
    Assets,
    chart_version,
    load_chart,
    make_asset,
    send_asset,
    strip_comment_lines,
)

# Scripts and styles come from files of this service alone. Chart.js sets styles through the CSSOM, which is allowed.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
TRACKER_CACHE_CONTROL = "public, max-age=86400"

_STATIC = Path(__file__).with_name("static")


@dataclass(frozen=True, slots=True)
class Access:
    """What the pages need to know about who is looking.

    `guard` returns the answer to give instead of a page (the way to the login), or None to go on. `user` is the mail
    address of who is signed in, None without a login. `csrf_token` is the token that forms of this visitor carry.
    """

    guard: Callable[[], ResponseReturnValue | None]
    user: Callable[[], str | None]
    csrf_token: Callable[[], str]


@cache
def load_tracker() -> Asset:
    """The tracker as it is served: without indentation and comment lines, which keeps it under 2 KiB gzipped."""
    return make_asset(strip_comment_lines((_STATIC / "pulse.js").read_text("utf-8")).encode(), "pulse.js")


def secure(response: Response) -> Response:
    """Add the headers that every page carries; other blueprints' pages pass through here too."""
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "private, no-cache")
    return response


def render_login(
    access: Access, *, target: str = "", error: str | None = None, email: str = "", status: int = 200
) -> Response:
    """The login page, which leads to `target`; after a failed try with what went wrong and the address typed."""
    page = render_template("login.html", csrf_token=access.csrf_token(), error=error, email=email, next=target)
    return secure(make_response(page, status))


def make_blueprint(config: Config, access: Access) -> Blueprint:
    """The pages under `/`. The application itself must have no static folder of its own."""
    pages = Blueprint("pages", __name__, template_folder="templates")
    assets = Assets(_STATIC, immutable=not config.is_development)
    chart_url = f"/static/vendor/chart.js?v={chart_version()}"

    pages.after_request(secure)

    @pages.app_context_processor
    def shared() -> dict[str, object]:
        return {
            "asset": assets.url,
            "chart_url": chart_url,
            "demo": config.is_development,
            "tracker_bytes": len(load_tracker().compressed or b""),
        }

    _add_pages(pages, config, access)
    _add_files(pages, assets)
    if config.is_development:
        pages.register_blueprint(demo.make_blueprint())
    return pages


def _add_pages(pages: Blueprint, config: Config, access: Access) -> None:
    @pages.get("/")
    def dashboard() -> ResponseReturnValue:
        stopped = access.guard()
        if stopped is not None:
            return stopped
        user = access.user()
        return render_template(
            "dashboard.html",
            user=user,
            csrf_token=access.csrf_token() if user else "",
            development_key=DEVELOPMENT_KEY if config.is_development else "",
        )

    @pages.get("/performance")
    def performance() -> ResponseReturnValue:
        stopped = access.guard()
        if stopped is not None:
            return stopped
        user = access.user()
        return render_template("performance.html", user=user, csrf_token=access.csrf_token() if user else "")

    @pages.get("/login")
    def login() -> ResponseReturnValue:
        return redirect("/", 303) if access.user() else render_login(access, target=request.args.get("next", ""))


def _add_files(pages: Blueprint, assets: Assets) -> None:
    chart = cache(load_chart)

    @pages.get("/js/pulse.js")
    def tracker() -> Response:
        response = send_asset(load_tracker(), TRACKER_CACHE_CONTROL)
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # for pages that isolate themselves
        return response

    @pages.get("/static/vendor/chart.js")
    def vendor_chart() -> Response:
        versioned = request.args.get("v") == chart_version()
        return send_asset(chart(), FOREVER if versioned else REVALIDATE)

    @pages.get("/static/~<version>/<path:name>")
    def versioned_file(version: str, name: str) -> Response:
        return assets.send(name, version)

    @pages.get("/static/<path:name>")
    def file(name: str) -> Response:
        return assets.send(name)

    @pages.get("/favicon.ico")
    def favicon() -> Response:
        return assets.send("favicon.svg")
