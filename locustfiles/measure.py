"""What the load tests share: stages of load, figures by stage from all processes, and where to send."""

import json
import math
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import WorkerRunner

BASE_URL = os.environ.get("BASE_URL", "http://localhost:3001").rstrip("/")
API_KEY = os.environ.get("API_KEY", "test_api_key")
PROJECT_ID = os.environ.get("PROJECT_ID", "1")
FIGURES_PATH = os.environ.get("LOAD_FIGURES")
HEADERS = {"X-API-Key": API_KEY, "Content-Type": "application/json"}

# Durations are kept in buckets 1 % apart: small to send between processes, and exact to 0.5 %.
_LOG_GROWTH = math.log(1.01)
_ACCEPTED = re.compile(rb'"accepted":\s*(\d+)')
_STORED = re.compile(rb'"eventId":')
QUANTILES = {"p50Ms": 0.50, "p95Ms": 0.95, "p99Ms": 0.99}


def setting(name: str, default: float) -> float:
    """Return a number from the environment."""
    text = os.environ.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if value < 0:
        raise SystemExit(f"{name} holds {text!r}; it may hold a number of 0 or more")
    return value


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of the run; users grow from the last stage's number to `users`, or are all there at once (`jumps`)."""

    name: str
    duration_s: float
    users: int
    jumps: bool = False


class StagedShape(LoadTestShape):
    """Runs through `stages`; subclasses set them."""

    abstract = True
    stages: tuple[Stage, ...] = ()

    def tick(self) -> tuple[int, float] | None:
        """Return the users of this moment, None at the end."""
        elapsed_s, before = self.get_run_time(), 0
        for stage in self.stages:
            if elapsed_s < stage.duration_s:
                part = 1.0 if stage.jumps else min((elapsed_s + 1) / stage.duration_s, 1.0)
                users = max(round(before + (stage.users - before) * part), 1)
                return users, max(abs(stage.users - before), 1)
            elapsed_s -= stage.duration_s
            before = stage.users
        return None


class Tally:
    """Figures of one kind of request in one stage."""

    def __init__(self) -> None:
        self.sums = {"requests": 0, "errors": 0, "accepted": 0, "counted": 0, "hits": 0, "misses": 0}
        self.max_ms = 0.0
        self.buckets: dict[int, int] = {}

    def add(self, duration_ms: float, **sums: int) -> None:
        """Count one request."""
        bucket = math.ceil(math.log(max(duration_ms, 0.01)) / _LOG_GROWTH)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.max_ms = max(self.max_ms, duration_ms)
        for name, count in sums.items():
            self.sums[name] += count

    def merge(self, packed: list[Any]) -> None:
        """Add what another process packed."""
        sums, max_ms, buckets = packed
        for name, count in sums.items():
            self.sums[name] += count
        self.max_ms = max(self.max_ms, max_ms)
        for bucket, count in buckets:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def pack(self) -> list[Any]:
        """Return it as plain lists, for the way to the other process."""
        return [self.sums, self.max_ms, list(self.buckets.items())]

    def quantile_ms(self, part: float) -> float | None:
        """Return the duration that `part` of the requests stay within; None without any."""
        wanted, seen = part * sum(self.buckets.values()), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return round(math.exp((bucket - 0.5) * _LOG_GROWTH), 3)
        return None

    def to_figures(self) -> dict[str, Any]:
        """Return the figures for the results file."""
        quantiles = {name: self.quantile_ms(part) for name, part in QUANTILES.items()}
        return {**self.sums, **quantiles, "maxMs": round(self.max_ms, 3)}


class Measurement:
    """Figures of the whole run by stage and kind, collected from every process."""

    def __init__(self, load: str, stages: tuple[Stage, ...]) -> None:
        self.load = load
        self.stages = stages
        self.tallies: dict[str, Tally] = {}
        self.started_at: float | None = None
        events.test_start.add_listener(self._on_start)
        events.request.add_listener(self._on_request)
        events.report_to_master.add_listener(self._on_report)
        events.worker_report.add_listener(self._on_worker_report)
        events.quitting.add_listener(self._on_quitting)

    def stage_at(self, at: float) -> str:
        """Return the stage that a request begun at `at` (seconds since 1970) belongs to."""
        elapsed_s = at - (self.started_at or at)
        for stage in self.stages:
            if elapsed_s < stage.duration_s:
                return stage.name
            elapsed_s -= stage.duration_s
        return "end"

    def _on_start(self, environment: Environment, **_: Any) -> None:
        self.started_at = time.time()
        self.tallies.clear()

    def _on_request(
        self, response_time: float, start_time: float, context: dict[str, Any], exception: Any, response: Any, **_: Any
    ) -> None:
        kind = context.get("kind")
        if kind is None:
            return
        failed = exception is not None or response is None or not 200 <= response.status_code < 400
        found = None
        if not failed and "events" in context:
            # A 200 without it is somebody else's, such as the login page of a proxy.
            found = (_ACCEPTED if context["events"] > 1 else _STORED).search(response.content[:200])
            failed = found is None
        sums = {"requests": 1, "errors": int(failed)}
        if found is not None:
            sums["accepted"] = int(found.group(1)) if context["events"] > 1 else 1
            sums["counted"] = context["counted"] if sums["accepted"] == context["events"] else 0
        elif not failed and (state := response.headers.get("X-Cache")):
            sums["hits" if state in ("HIT", "STALE") else "misses"] = 1
        key = f"{self.stage_at(start_time)}/{kind}"
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally()
        tally.add(response_time, **sums)

    def _on_report(self, data: dict[str, Any], **_: Any) -> None:
        data["pulse"] = {key: tally.pack() for key, tally in self.tallies.items()}
        self.tallies.clear()

    def _on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        for key, packed in data.get("pulse", {}).items():
            self.tallies.setdefault(key, Tally()).merge(packed)

    def _on_quitting(self, environment: Environment, **_: Any) -> None:
        if isinstance(environment.runner, WorkerRunner) or self.started_at is None:
            return
        figures = self.to_figures()
        if FIGURES_PATH:
            with open(FIGURES_PATH, "w") as file:
                json.dump(figures, file)
            environment.process_exit_code = 0  # who asked for the figures judges them
            return
        for key, tally in sorted(self.tallies.items()):
            shown = {name: value for name, value in tally.to_figures().items() if value}
            print(f"{self.load} {key:<20} " + "  ".join(f"{name} {value:g}" for name, value in shown.items()))

    def to_figures(self) -> dict[str, Any]:
        """Return `{"load", "startedAt", "stages": {stage: {"durationS", kind: figures}}}`."""
        stages: dict[str, dict[str, Any]] = {stage.name: {"durationS": stage.duration_s} for stage in self.stages}
        for stage, kind, tally in self._list():
            stages.setdefault(stage, {"durationS": 0})[kind] = tally.to_figures()
        return {"load": self.load, "startedAt": self.started_at, "stages": stages}

    def _list(self) -> Iterator[tuple[str, str, Tally]]:
        for key, tally in self.tallies.items():
            stage, _, kind = key.partition("/")
            yield stage, kind, tally
