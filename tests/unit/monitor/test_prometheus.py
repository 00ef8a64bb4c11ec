"""What docs/ asks Prometheus for exists in /metrics."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pulse.ingest.pipeline import Drop
from pulse.monitor import prometheus, recorder, targets
from pulse.monitor.alerts import State
from pulse.monitor.availability import Availability, Share
from pulse.monitor.histogram import Histogram
from pulse.monitor.service import Process, ServiceStats
from pulse.monitor.shared import HUB_BLOCK
from pulse.monitor.snapshot import CacheSide, Slice, StatementFigures

DOCS = Path(__file__).resolve().parents[3] / "docs"
_USE = re.compile(r"(pulse_[a-z_]+)(?:\{([^}]*)\})?")


def _served() -> dict[str, list[dict[str, str]]]:
    """The labels of every sample of a busy service, by name."""
    times = Histogram()
    for _ in range(targets.MANY):  # fewer are not judged
        times.add(5.0)
    key = "POST /api/v1/track/event"
    histograms = dict.fromkeys(("query", recorder.REQUEST + key, targets.GROUP_EVENTS, targets.GROUP_MS), times)
    counts = {"query/slow": 1, recorder.SERVER_ERRORS + key: 1, recorder.CLIENT_ERRORS + key: 1}
    counts |= {f"cache/analytics/{name}": 1 for name in ("hits", "stale", "misses")}
    stats = ServiceStats(at=1_000_000.0, since=999_000.0, counts=counts, histograms={**histograms, HUB_BLOCK: times})
    stats.slices[999_990] = Slice(999_990, counts, stats.histograms)
    stats.statements = [StatementFigures("ingest.store", "INSERT", "INSERT", ("events",), times=times)]
    pool = {"total": 2, "idle": 1, "in_use": 1, "waiting": 0, "max": 4, "min": 1, "timeouts": 0}
    gauges = {"fold_lag_s": 1.0, "ingest_waiting_rows": 0.0, "spool_bytes": 0.0}
    sides = [CacheSide("redis", "", "")]
    stats.processes = [Process(1, "web", 0.0, 0.0, {"primary": pool}, gauges, {"rss": 1}, sides, "web1:3001")]
    day = Share(100, 99, 99.0, "missed", 0.0)
    text = prometheus.render(stats, State(availability=Availability(0.0, day, day))).decode()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_counters_begin_at_nought() -> None:
    """Prometheus sees no growth where a series begins with its first event."""
    stats = ServiceStats(at=1_000_000.0, since=999_000.0, counts={"cache/analytics/hits": 3})
    text = prometheus.render(stats, routes=["GET /api/v1/x"]).decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }  # fmt: skip
    for kind in ("server", "client"):
        assert found[f"pulse_http_{kind}_errors_total", "GET", "/api/v1/x"] == 0
    lookups = {key[2]: value for key, value in found.items() if key[:2] == ("pulse_cache_lookups_total", "analytics")}
    assert lookups == {"hits": 3, "misses": 0, "stale": 0, "failures": 0}
    counted = set()
    for path in (DOCS.parent / "pulse").rglob("*.py"):
        counted |= set(re.findall(r'recorder\.count\("(\w+)"', path.read_text("utf-8")))
    assert len(counted) > 3
    for name in counted | {f"ingest_dropped_{reason.value}" for reason in Drop}:
        assert found["pulse_events_total", name] == 0


def _expressions() -> Iterator[tuple[str, str]]:
    for path in sorted((DOCS / "grafana").glob("*.json")):
        dashboard = json.loads(path.read_text("utf-8"))
        for panel in dashboard["panels"]:
            yield from ((f"{path.name}: {panel['title']}", target["expr"]) for target in panel["targets"])
        yield from ((f"{path.name}: marks", mark["expr"]) for mark in dashboard["annotations"]["list"])
    rules = (DOCS / "prometheus-alerts.yml").read_text("utf-8")
    for rule in rules.split("- alert: ")[1:]:
        name, _, rest = rule.partition("\n")
        yield name, rest.partition("labels:")[0]


@pytest.mark.parametrize(("where", "expression"), [pytest.param(*found, id=found[0]) for found in _expressions()])
def test_what_the_documentation_asks_for_is_served(where: str, expression: str) -> None:
    served = _served()
    uses = _USE.findall(expression)
    assert uses or "up{" in expression, "asks for nothing of ours"
    for name, matchers in uses:
        assert name in served, name
        for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            values = {labels.get(label) for labels in served[name]}
            assert values != {None}, f"{name} has no label {label}"
            wanted = set(value.split("|")) if operator == "=~" else {value}
            assert wanted <= values, f"{name}{{{label}}} is never {wanted - values}"
    for labels_by in re.findall(r"by \(([\w, ]+)\)", expression):
        known = {label for name, _ in uses for labels in served[name] for label in labels}
        assert set(labels_by.replace(" ", "").split(",")) <= known
