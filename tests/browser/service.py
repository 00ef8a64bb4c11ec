"""The pages over a made-up JSON API, whose answers a test can change while the browser looks."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.serving import BaseWSGIServer, make_server

from pulse.config import Config
from pulse.web.pages import Access, make_blueprint

Rows = list[dict[str, Any]]


def row(name: str, visitors: int, **more: Any) -> dict[str, Any]:
    """One line of a list, with every figure a list may show."""
    return {"name": name, "uniqueVisitors": visitors, "pageviews": visitors * 2, "sessions": visitors, **more}


def _pages() -> Rows:
    return [{**row("", 90), "path": "/"}, {**row("", 30), "path": "/<img src=x onerror=alert(1)>"}]


@dataclass
class Service:
    """What the API answers: `scale` multiplies the headline figures, `failing` makes it all 503."""

    origin: str = ""
    scale: int = 1
    failing: bool = False
    signed_out: bool = False
    active: int = 7
    projects: Rows = field(default_factory=lambda: [
        {"id": 1, "name": "Shop", "domain": "shop.example", "timezone": "Europe/Berlin"},
        {"id": 2, "name": "Other", "domain": None, "timezone": "Asia/Kolkata"},
    ])
    asked: list[dict[str, str]] = field(default_factory=list)

    def analytics(
        self, start: str, end: str, granularity: str, filters: str = "", compare: str = ""
    ) -> dict[str, Any]:
        """A report of one bucket a day; a filter halves it, and what it is compared with is of scale 1."""
        first, last = date.fromisoformat(start), date.fromisoformat(end)
        days = [first + timedelta(n) for n in range((last - first).days + 1)]
        figures = {"pageviews": 2, "events": 3, "uniqueVisitors": 1, "sessions": 1}
        daily = {k: v * self.scale for k, v in figures.items()}
        series = [{"period": f"{day}T00:00:00+01:00", **daily} for day in days]
        whole = {k: v * 1000 for k, v in figures.items()}
        rates = {"bounceRate": 41.5, "avgSessionDurationSeconds": 143.4, "pagesPerSession": 2.0}
        total = {k: v * self.scale // (2 if filters else 1) for k, v in whole.items()}
        before = [str(day - timedelta((last - first).days + 1)) for day in (first, last)]
        other = {
            "dateRange": {"start": before[0], "end": before[1], "timezone": "Europe/Berlin"},
            "overview": {**whole, **rates}, "change": {}, "timeSeries": [],
        }  # fmt: skip
        lists = {"countries": [row("DE", 60), row("(unknown)", 5)], "devices": [row("desktop", 60), row("mobile", 40)],
                 "browsers": [row("Firefox", 70)], "sources": [row("Google", 50)]}
        return {
            "dateRange": {"start": start, "end": end, "timezone": "Europe/Berlin", "granularity": granularity},
            "overview": {**total, **rates},
            "timeSeries": series,
            "topPages": _pages() if self.scale else [],
            "topReferrers": [{**row("", 40), "referrer": "news.example/item"}] if self.scale else [],
            "breakdowns": lists if self.scale else {},
            "topEvents": [{"name": "signup", "events": 12, "uniqueVisitors": 10}] if self.scale else [],
            **({"comparison": other if self.scale else None} if compare else {}),
        }

    def realtime(self) -> dict[str, Any]:
        """The live figures."""
        return {"activeVisitors": self.active, "recentPageviews": 60, "pageviewsPerMinute": [2] * 30, "currentPages": [
            {"url": "/live", "visitors": self.active, "lastActivity": "2026-01-01T00:00:00Z"}]}


def start() -> tuple[Service, BaseWSGIServer]:
    """The service on a free port of the loopback interface."""
    service = Service()
    app = Flask("pulse-pages", static_folder=None)
    access = Access(guard=lambda: None, user=lambda: None, csrf_token=lambda: "token")
    app.register_blueprint(make_blueprint(replace(Config(), env="development"), access))

    def answer(make: Callable[[], Any]) -> ResponseReturnValue:
        if service.signed_out:
            return jsonify(success=False, error="UNAUTHORIZED", message="Please sign in."), 401
        if service.failing:
            return jsonify(success=False, error="UNAVAILABLE", message="The database is away."), 503
        return jsonify(success=True, data=make())

    @app.get("/api/v1/projects")
    def projects() -> ResponseReturnValue:
        return answer(lambda: service.projects)

    @app.get("/api/v1/projects/<int:project>/realtime")
    def realtime(project: int) -> ResponseReturnValue:
        return answer(service.realtime)

    @app.get("/api/v1/projects/<int:project>/analytics")
    def analytics(project: int) -> ResponseReturnValue:
        asked = {"project": str(project), **request.args.to_dict()}
        service.asked.append(asked)
        names = ("startDate", "endDate", "granularity", "filters", "compare")
        return answer(lambda: service.analytics(*(asked.get(name, "") for name in names)))

    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service.origin = f"http://127.0.0.1:{server.server_port}"
    return service, server
