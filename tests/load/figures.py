"""Figures of several runs: their medians and spread against goals, as a table and as a file."""

import json
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from pulse.load.machine import Machine, read_commit

Figures = dict[str, float]


class Goal(NamedTuple):
    """A figure's unit, and what it has to stay below or above."""

    unit: str
    below: float | None = None
    above: float | None = None


def summarize(runs: list[Figures], goals: Mapping[str, Goal]) -> list[dict[str, Any]]:
    """Return a row for each figure: median, least and greatest of all runs, its goal and whether that is met.

    Goals go by the figure's name up to ` @ `.
    """
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run):
        values = [run[name] for run in runs if name in run]
        unit, below, above = goals.get(name.partition(" @ ")[0], Goal(unit_of(name)))
        median = statistics.median(values)
        met = None
        if below is not None or above is not None:
            met = (below is None or median < below) and (above is None or median >= above)
        rows.append(
            {"name": name, "unit": unit, "median": round(median, 3), "least": min(values), "greatest": max(values),
             "below": below, "above": above, "met": met}
        )  # fmt: skip
    return rows


def unit_of(name: str) -> str:
    """Return the unit that a figure's name tells of."""
    if "p50" in name or "p95" in name or "p99" in name:
        return "ms"
    return "cores" if "generator" in name else "/s"


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("figure", *(f"[right]{name}[/]" for name in ("median", "least", "greatest", "goal")), "")
    for row in rows:
        goal = "" if row["met"] is None else f"< {row['below']:g}" if row["above"] is None else f"≥ {row['above']:g}"
        word = {True: "[green]met[/]", False: "[bold red]missed[/]", None: ""}[row["met"]]
        values = (f"{row[name]:,.2f}" for name in ("median", "least", "greatest"))
        table.add_row(f"{row['name']}, {row['unit']}" if row["unit"] else row["name"], *values, goal, word)
    console.print(table)


def write(
    path: Path, machine: Machine, settings: dict[str, Any], calibration: list[float], rows: list[dict[str, Any]],
    **more: Any,
) -> None:  # fmt: skip
    """Write a result: when, which commit, on what, how, and every figure."""
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": read_commit(),
        "machine": msgspec.to_builtins(machine), "settings": settings, "calibration": calibration, "figures": rows,
        **more,
    }  # fmt: skip
    path.write_text(json.dumps(result, indent=2) + "\n")
