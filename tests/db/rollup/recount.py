"""A recount of raw events by the definitions alone: slow, exact, and sharing nothing with the code under test."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Event = dict[str, Any]

ATTRIBUTES = [
    "hostname", "referrer", "source", "channel", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
    "country", "region", "city", "device", "browser", "os", "language",
]  # fmt: skip
WHEN_MISSING = {"country": "(unknown)", "browser": "(unknown)", "os": "(unknown)", "source": "(direct)"}


def recount_sessions(events: list[Event]) -> list[dict[str, Any]]:
    """Return the sessions, by key and start."""
    by_key = defaultdict(list)
    for event in events:
        by_key[event["project_id"], event["session_key"]].append(event)
    sessions = []
    for key in sorted(by_key):
        ordered = sorted(by_key[key], key=lambda e: (e["occurred_at"], e["id"]))
        gap = timedelta(hours=24) if ordered[0]["client_session"] else timedelta(minutes=30)
        run = [ordered[0]]
        for event in ordered[1:]:
            if event["occurred_at"] - run[-1]["occurred_at"] > gap:
                sessions.append(_session(run))
                run = []
            run.append(event)
        sessions.append(_session(run))
    return sessions


def _session(run: list[Event]) -> dict[str, Any]:
    first, last = run[0], run[-1]
    views = [e for e in run if e["event_type"] == "pageview"]
    acts = [e for e in run if e["event_type"] != "engagement"]
    return {
        "project_id": first["project_id"], "session_key": first["session_key"], "visitor": first["visitor"],
        "started_at": first["occurred_at"], "ended_at": last["occurred_at"], "first_event_id": first["id"],
        "client_session": first["client_session"], "pageviews": len(views), "events": len(acts),
        "entry_at": views[0]["occurred_at"] if views else None, "entry_id": views[0]["id"] if views else None,
        "entry_path": views[0].get("path") if views else None,
        "exit_at": views[-1]["occurred_at"] if views else None, "exit_id": views[-1]["id"] if views else None,
        "exit_path": views[-1].get("path") if views else None,
        **{name: first.get(name) for name in ATTRIBUTES},
    }  # fmt: skip


def recount_summaries(events: list[Event], zones: dict[int, str]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return the rows of summary_daily and summary_hourly by key.

    A row is (pageviews, events, sessions, bounces, duration_ms, visitors).
    """
    daily, hourly = _recount(events, zones)
    return _count_visitors(daily), _count_visitors(hourly)


def recount_spans(events: list[Event], zones: dict[int, str], length: str) -> dict[Any, Any]:
    """Return the rows of summary_weekly or summary_monthly by key, with days of any age."""
    daily, _ = _recount(events, zones)
    spans: dict[Any, list[Any]] = defaultdict(lambda: [0, 0, 0, 0, 0, set()])
    for (project_id, day, *pair), row in daily.items():
        first = day.replace(day=1) if length == "month" else day - timedelta(days=day.weekday())
        span = spans[project_id, first, *pair]
        for number in range(5):
            span[number] += row[number]
        span[5] |= row[5]
    return _count_visitors(spans)


def _count_visitors(rows: dict[Any, list[Any]]) -> dict[Any, Any]:
    return {key: (*row[:5], len(row[5])) for key, row in rows.items()}


def _recount(events: list[Event], zones: dict[int, str]) -> tuple[dict[Any, list[Any]], dict[Any, list[Any]]]:
    daily: dict[Any, list[Any]] = defaultdict(lambda: [0, 0, 0, 0, 0, set()])
    hourly: dict[Any, list[Any]] = defaultdict(lambda: [0, 0, 0, 0, 0, set()])
    for event in events:
        if event["event_type"] == "engagement":
            continue
        day, hour = _place(event["occurred_at"], zones[event["project_id"]])
        rows = [hourly[event["project_id"], hour]]
        rows += [daily[event["project_id"], day, *pair] for pair in _event_values(event)]
        for row in rows:
            row[0] += event["event_type"] == "pageview"
            row[1] += 1
            row[5].add(event["visitor"])
    for session in recount_sessions(events):
        if session["events"] == 0:
            continue
        day, hour = _place(session["started_at"], zones[session["project_id"]])
        rows = [hourly[session["project_id"], hour]]
        rows += [daily[session["project_id"], day, *pair] for pair in _session_values(session)]
        for row in rows:
            row[2] += 1
            row[3] += session["pageviews"] == 1 and session["events"] == 1
            row[4] += (session["ended_at"] - session["started_at"]) // timedelta(milliseconds=1)
        if session["utm_campaign"] is not None:
            # What whole sessions did, where the other rows count each event by itself.
            rows[-1][0] += session["pageviews"]
            rows[-1][1] += session["events"]
            rows[-1][5].add(session["visitor"])
    return daily, hourly


def _place(at: datetime, zone: str) -> tuple[Any, datetime]:
    local = at.astimezone(ZoneInfo(zone))
    # Back, minute by minute, for as long as it is the same hour by the same clock.
    start = at.replace(second=0, microsecond=0)
    while True:
        before = (start - timedelta(minutes=1)).astimezone(ZoneInfo(zone))
        if (before.hour, before.date(), before.utcoffset()) != (local.hour, local.date(), local.utcoffset()):
            return local.date(), start.astimezone(UTC)
        start -= timedelta(minutes=1)


def _event_values(event: Event) -> list[tuple[str, str]]:
    found = [("total", ""), *_attribute_values(event)]
    if event.get("path") is not None:
        found.append(("page", event["path"]))
    if event.get("screen_width") is not None and event.get("screen_height") is not None:
        found.append(("screen", f"{event['screen_width']}x{event['screen_height']}"))
    if event["event_type"] != "pageview":
        found.append(("event", event.get("event_name") or event["event_type"]))
    return found


def _session_values(session: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("total", ""), *_attribute_values(session)]
    if session["entry_path"] is not None:
        found += [("page", session["entry_path"]), ("entry_page", session["entry_path"])]
    if session["exit_path"] is not None:
        found.append(("exit_page", session["exit_path"]))
    if session["utm_campaign"] is not None:
        labels = [session[name] or "" for name in ("utm_campaign", "utm_source", "utm_medium")]
        found.append(("campaign", "\x1f".join(label.replace("\x1f", " ") for label in labels)))
    return found


def _attribute_values(of: dict[str, Any]) -> list[tuple[str, str]]:
    values = [(name, of.get(name) or WHEN_MISSING.get(name)) for name in ATTRIBUTES]
    return [(name, value) for name, value in values if value is not None]


def recount_live(events: list[Event]) -> dict[Any, Any]:
    """Return the rows of summary_live by key: (pageviews, events, last_at, visitors)."""
    live: dict[Any, list[Event]] = defaultdict(list)
    for event in events:
        if event["event_type"] != "engagement":
            slot = event["occurred_at"].replace(microsecond=0, second=event["occurred_at"].second // 10 * 10)
            for path in {"", event.get("path") or ""}:
                live[event["project_id"], slot, path].append(event)
    return {
        key: (
            sum(e["event_type"] == "pageview" for e in found), len(found),
            max(e["occurred_at"] for e in found), len({e["visitor"] for e in found}),
        )
        for key, found in live.items()
    }  # fmt: skip
