"""Figures of a load against the targets: the verdicts, the table, the results file."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from pulse.load.machine import Machine
from pulse.monitor.targets import TARGETS, Target, is_more_than_needed, show

INGESTION, QUERIES = "ingestion", "queries"
RESULTS = {INGESTION: "load-test-results.json", QUERIES: "query-load-test-results.json"}
# Which targets a load can speak of, and where their figure lies in the results.
_WHERE = {
    INGESTION: {
        "ingest.events": ("eventsPerSecond",),
        "ingest.single.p50": ("single", "p50Ms"),
        "ingest.single.p95": ("single", "p95Ms"),
        "ingest.single.p99": ("single", "p99Ms"),
        "ingest.batch.p99": ("batch", "p99Ms"),
        "ingest.errors": ("errorPercent",),
    },
    QUERIES: {
        "reports.historical.p50": ("historical", "p50Ms"),
        "reports.historical.p95": ("historical", "p95Ms"),
        "reports.historical.p99": ("historical", "p99Ms"),
        "reports.realtime.p99": ("realtime", "p99Ms"),
        "reports.cache_hits": ("cacheHitPercent",),
        "reports.errors": ("errorPercent",),
    },
}
DATABASE = ("database.query_average", "database.slow_queries", "database.pool")
# What a service of the run's own used of the processor, its database included. It has no target, but of all figures it
# swings least from run to run: that is what comparisons of commits go by.
PROCESSOR = {
    f"{INGESTION}.processor": f"{INGESTION}: processor time of 1,000 events",
    f"{QUERIES}.processor": f"{QUERIES}: processor time of 1,000 requests",
}

# From here on durations are not judged; the same limit is a target of its own.
MOST_ERRORS_PERCENT = 1.0

BELOW = "below: more connections than this load needs"

Figures = dict[str, Any]


class Verdict(msgspec.Struct, rename="camel", frozen=True):
    """One target: what it asks for, what was measured; `passed` is None where nothing could be judged."""

    id: str
    name: str
    target: str
    unit: str
    actual: float | None
    passed: bool | None
    note: str = ""


class Result(msgspec.Struct, rename="camel", frozen=True):
    """The results file of one load, by whichever tool; times are ISO 8601."""

    load: str
    tool: str
    started_at: str
    commit: str
    passed: bool
    settings: dict[str, Any]
    machine: Machine
    figures: Figures
    targets: list[Verdict]


def summarize(load: str, stages: Mapping[str, Mapping[str, Any]]) -> Figures:
    """Turn the figures by stage into those of the results file: the steady stage counts, errors count in all stages."""
    steady = stages.get("steady", {})
    duration_s = steady.get("durationS") or 0
    kinds = ("single", "batch") if load == INGESTION else ("historical", "realtime")
    everything = [figures for stage in stages.values() for figures in stage.values() if isinstance(figures, Mapping)]
    requests, errors, accepted, counted = (
        sum(figures[name] for figures in everything) for name in ("requests", "errors", "accepted", "counted")
    )
    figures: Figures = {
        "requests": requests,
        "errors": errors,
        "errorPercent": round(100 * errors / requests, 4) if requests else None,
        "eventsAccepted": accepted,
        "eventsCounted": counted,
        "steadySeconds": duration_s,
    }
    measured = {kind: dict(steady[kind]) for kind in kinds if kind in steady}
    figures |= measured
    if duration_s:
        figures["requestsPerSecond"] = round(sum(kind["requests"] for kind in measured.values()) / duration_s, 1)
    if load == INGESTION and duration_s:
        figures["eventsPerSecond"] = round(sum(kind["accepted"] for kind in measured.values()) / duration_s, 1)
    if load == QUERIES:
        hits, misses = (sum(kind[name] for kind in measured.values()) for name in ("hits", "misses"))
        figures["cacheHitPercent"] = round(100 * hits / (hits + misses), 2) if hits + misses else None
    if "spike" in stages:
        figures["spike"] = dict(stages["spike"])
    return figures


def pick(figures: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    """Return the figure at `path`, None where it is missing."""
    found: Any = figures
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return None if found is None else float(found)


def headline(load: str, figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that have a target, by its id."""
    found = {id: pick(figures, path) for id, path in _WHERE[load].items()}
    return {id: value for id, value in found.items() if value is not None}


def judge(load: str, figures: Mapping[str, Any], *, offered_per_s: float | None = None) -> list[Verdict]:
    """Hold the figures against the targets this load speaks of; `offered_per_s` is the rate the run asked for."""
    verdicts = []
    failed = pick(figures, ("errorPercent",))
    for target in TARGETS:
        if target.id not in _WHERE[load]:
            continue
        value = pick(figures, _WHERE[load][target.id])
        if target.unit == "ms" and failed is not None and failed >= MOST_ERRORS_PERCENT:
            # A refusal comes quickly: its duration says nothing of the service.
            note = "not judged: too many errors"
            verdicts.append(Verdict(target.id, target.name, target.text, target.unit, value, None, note))
            continue
        if target.id == "ingest.events" and offered_per_s is not None and offered_per_s < (target.above or 0):
            note = f"only {offered_per_s:,.0f}/s were offered"
            verdicts.append(Verdict(target.id, target.name, target.text, target.unit, value, None, note))
            continue
        # A load that answered nothing has missed its targets.
        passed = value is not None and is_met(target, value)
        verdicts.append(Verdict(target.id, target.name, target.text, target.unit, value, passed))
    return verdicts


def judge_database(results: list[dict[str, Any]]) -> list[Verdict]:
    """Take the database's targets from the service's own board (`GET /performance/targets`), over five minutes.

    A pool that is used less than its target is neither met nor missed: it holds more connections than this load needs.
    """
    targets = {target.id: target for target in TARGETS}
    verdicts = []
    for result in results:
        if result.get("id") not in DATABASE:
            continue
        target = targets[result["id"]]
        value = result["fiveMinutes"]["value"]
        passed, note = (None, "no data") if value is None else (is_met(target, value), "")
        if value is not None and is_more_than_needed(target, value):
            passed, note = None, BELOW
        verdicts.append(Verdict(target.id, target.name, target.text, target.unit, value, passed, note))
    return verdicts


def is_met(target: Target, value: float) -> bool:
    """Tell whether the value meets the target: a rate is reached, a share exceeded."""
    above = target.above is None or (value >= target.above if target.unit == "/s" else value > target.above)
    return above and (target.below is None or value < target.below)


def has_passed(verdicts: list[Verdict]) -> bool:
    """Tell whether no target was missed."""
    return all(verdict.passed is not False for verdict in verdicts)


def show_verdicts(console: Console, title: str, verdicts: list[Verdict]) -> None:
    """Print the table of targets."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column, justify in (("target", "left"), ("wanted", "right"), ("actual", "right"), ("", "left"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    words = {True: "[green]PASS[/]", False: "[bold red]FAIL[/]", None: "[dim]-[/]"}
    for verdict in verdicts:
        actual = show(verdict.actual, verdict.unit)
        table.add_row(verdict.name, verdict.target, actual, words[verdict.passed], verdict.note)
    console.print(table)


def write_result(folder: Path, result: Result) -> Path:
    """Write the results file of the load and return its path; whoever reads it meanwhile has the former one whole."""
    path = folder / RESULTS[result.load]
    with tempfile.NamedTemporaryFile(dir=folder, prefix=path.stem, delete=False) as file:
        try:
            file.write(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
            file.flush()
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink()
            raise
    return path
