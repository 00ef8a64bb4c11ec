"""What reports cost the database: the statements of each, explained; and the bytes that an event takes on disk."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
from flask import Flask
from sqlalchemy import Engine, event

from pulse.app import create_app
from pulse.config import Config
from tests.load.figures import Figures
from tests.load.report_requests import Question, Stopped

_NOT_SCANS = ("CTE Scan", "Subquery Scan", "Function Scan", "Values Scan", "WorkTable Scan")

_SIZES = """
SELECT coalesce(parent.relname, child.relname) AS table,
       sum(pg_table_size(child.oid)) AS rows_bytes, sum(pg_indexes_size(child.oid)) AS indexes_bytes
FROM pg_class child LEFT JOIN pg_inherits ON inhrelid = child.oid LEFT JOIN pg_class parent ON parent.oid = inhparent
WHERE child.relkind = 'r' AND child.relnamespace = CAST('public' AS regnamespace)
GROUP BY 1
"""


class Statement(NamedTuple):
    """One statement that a report ran."""

    text: str
    parameters: Any


class Cost(NamedTuple):
    """What a statement cost: milliseconds, rows its scans looked at, blocks of 8 KiB it touched, and its plan."""

    name: str
    ms: float
    rows: int
    buffers: int
    plan: str


class Application:
    """The application in this process, on the service's database; notes the statements of its reports."""

    def __init__(self, app: Flask, api_key: str, project_id: int) -> None:
        self._client = app.test_client()
        self._headers = {"X-API-Key": api_key}
        self._project_id = project_id
        self.engine: Engine = app.extensions["pulse"].database.primary
        self._noted: list[Statement] = []
        event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        self._noted.append(Statement(statement, parameters))

    def explain(self, question: Question) -> list[Cost]:
        """Return what each statement of a report costs, run once more under EXPLAIN. Raises Stopped."""
        started = time.perf_counter()
        path = f"/api/v1/projects/{self._project_id}{question.path}"
        self._noted.clear()
        if question.body is None:
            answer = self._client.get(path, headers=self._headers)
        else:
            answer = self._client.post(path, data=question.body, headers=self._headers, content_type="application/json")
        if answer.status_code == 503:
            raise Stopped((time.perf_counter() - started) * 1000)
        if answer.status_code != 200:
            raise click.ClickException(f"{path}: {answer.get_data(as_text=True)[:300]}")
        # Keys and projects are remembered from one request to the next; settings have no plan.
        passed = (" set_config(", " SET TRANSACTION ", "/* projects.")
        noted = [found for found in self._noted if not any(part in found.text for part in passed)]
        with self.engine.connect() as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            return [_explain(connection, found) for found in noted]


def _explain(connection: Any, found: Statement) -> Cost:
    start = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {found.text}"
    (document,) = connection.exec_driver_sql(start, found.parameters or {}).scalar_one()
    plan = document["Plan"]
    label = found.text.partition("/*")[2].partition("*/")[0].strip()
    return Cost(label, document["Execution Time"], _rows(plan), _buffers(plan), "\n".join(_lines(plan)))


def _buffers(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _rows(plan: dict[str, Any]) -> int:
    """Return how many rows the scans of tables looked at, those that a filter took away included."""
    found = sum(_rows(part) for part in plan.get("Plans", []))
    if plan["Node Type"].endswith("Scan") and plan["Node Type"] not in _NOT_SCANS and "Relation Name" in plan:
        seen = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        found += round((seen + plan.get("Rows Removed by Index Recheck", 0)) * plan["Actual Loops"])
    return found


def _lines(plan: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """Give out a plan as text, a node a line."""
    words = [plan["Node Type"]]
    words += [f"on {plan[name]}" for name in ("Relation Name",) if name in plan]
    words += [f"using {plan[name]}" for name in ("Index Name",) if name in plan]
    words += [f"({plan['Subplan Name']})" for _ in range("Subplan Name" in plan)]
    cost = f"{plan['Actual Total Time']:.1f} ms, rows {plan['Actual Rows']:.0f}, loops {plan['Actual Loops']:.0f}"
    extra = "".join(
        f", {name} {plan[name]}" for name in ("Rows Removed by Filter", "Sort Method", "Heap Fetches") if name in plan
    )
    if plan.get("Temp Written Blocks"):
        extra += f", {plan['Temp Written Blocks'] * 8} KiB spilled"
    yield f"{'  ' * depth}{' '.join(words)}: {cost}, buffers {_buffers(plan)}{extra}"
    for part in plan.get("Plans", []):
        yield from _lines(part, depth + 1)


@contextmanager
def application(database_url: str, api_key: str, project_id: int, folder: Path) -> Iterator[Application]:
    """Yield the application on a database, with an empty cache and a data folder of its own."""
    config = replace(
        Config(), env="development", database_url=database_url, data_dir=folder, enable_query_monitoring=False
    )
    app = create_app(config)
    parts = app.extensions["pulse"]
    try:
        yield Application(app, api_key, project_id)
    finally:
        parts.writer.close()
        parts.database.dispose()


def measure_sizes(engine: Engine, size: str) -> Figures:
    """Return the bytes that one event takes on disk, by what they are for."""
    with engine.connect() as connection:
        found = {row[0]: (int(row[1]), int(row[2])) for row in connection.exec_driver_sql(_SIZES)}
        events = connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
    summaries = [sizes for table, sizes in found.items() if table.startswith(("summary_", "goal_"))]
    parts = {
        "events": found["events"][0], "events' indexes": found["events"][1],
        "sessions": found["sessions"][0], "sessions' indexes": found["sessions"][1],
        "summaries": sum(rows for rows, _ in summaries), "summaries' indexes": sum(index for _, index in summaries),
        "packed days": sum(found["day_segments"]), "batches": sum(found["ingest_batches"]),
    }  # fmt: skip
    figures = {f"disk: {name} @ {size}": round(count / int(events), 2) for name, count in parts.items()}
    return {**figures, f"disk: an event with all @ {size}": round(sum(parts.values()) / int(events), 2)}


def read_plans(costs: dict[str, list[Cost]], count: int = 3) -> list[dict[str, Any]]:
    """Return the most expensive statements, each kind once, with where they were seen."""
    worst: dict[str, tuple[str, Cost]] = {}
    for place, found in costs.items():
        for cost in found:
            if cost.name not in worst or cost.ms > worst[cost.name][1].ms:
                worst[cost.name] = (place, cost)
    chosen = sorted(worst.values(), key=lambda item: -item[1].ms)[:count]
    return [
        {"statement": cost.name, "seenIn": place, "ms": round(cost.ms, 1), "rows": cost.rows, "buffers": cost.buffers,
         "plan": cost.plan.splitlines()}
        for place, cost in chosen
    ]  # fmt: skip


def dump_plans(plans: list[dict[str, Any]]) -> str:
    """Return plans for people."""
    return "\n\n".join(
        f"{plan['statement']} ({plan['seenIn']}): {plan['ms']:,} ms, {plan['rows']:,} rows read,"
        f" {plan['buffers']:,} blocks\n" + "\n".join(plan["plan"])
        for plan in plans
    )
