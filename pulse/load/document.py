"""docs/PERFORMANCE.md from its template and the results of the benchmarks: no figure in it is typed by hand.

In the template stand, on lines of their own or within a line,

- `{{ingest: single p99 @ 10,000/s}}`: one figure of docs/benchmarks/ingest.json, `not measured` without it;
- `{{when ingest}}`, `{{how ingest}}`: date, commit and machine; the command;
- `{{table ingest}}`, `{{table tuning: cache in}}`: all figures of a result, or those whose names begin so;
- `{{grid tuning: requests of}}`: the same as a grid: a line for each name up to `: `, a column for each rest;
- `{{pivot reports: cold @ 10m}}`: a line for each report, a column for each range, `p50 / p95 / p99` in the cells, or
  after how long the service gave one up;
- `{{rest reports}}`: what neither a pivot nor the grid of disk space shows;
- `{{targets all}}`: every target, once, with the figure that tells of it and the commands below;
- `{{plans reports}}`: the most expensive statements of a result with their plans.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulse.load.summary import BELOW, INGESTION, QUERIES, is_met
from pulse.monitor.targets import TARGETS, Target, is_more_than_needed

Result = dict[str, Any]

NOT_MEASURED = "not measured"
TEMPLATE, PAGE, RESULTS = "docs/performance.template.md", "docs/PERFORMANCE.md", "docs/benchmarks"
_PLACE = re.compile(r"\{\{(?:(when|how|table|grid|pivot|rest|targets|plans) )?([\w-]+)(?:: ([^}]+))?\}\}")
_MIX = "8 clients, mix: "
# A report over a range, and what is measured of it: `campaigns/top 30 d: cold p99 @ 10m`.
_OF_RANGE = re.compile(
    r"(?P<report>[\w/]+(?: filtered)?) (?P<range>\d+ d): "
    r"(?P<part>(?:cold|warm) p\d+|rows|buffers|stopped) @ (?P<size>\w+)"
)
_SHOWN = re.compile(rf"disk: |{_OF_RANGE.pattern}$")
_PIVOTS = {
    "cold": ("cold p50", "cold p95", "cold p99"), "warm": ("warm p50", "warm p95", "warm p99"),
    "work": ("rows", "buffers"),
}  # fmt: skip
# What tells of a target before the load tests do, in an open loop or on more events: the result, and the figure in it.
_TOLD_BY = {
    "ingest.events": ("ingest", "events @ 10,000/s"),
    "ingest.single.p50": ("ingest", "single p50 @ 10,000/s"),
    "ingest.single.p95": ("ingest", "single p95 @ 10,000/s"),
    "ingest.single.p99": ("ingest", "single p99 @ 10,000/s"),
    "ingest.batch.p99": ("ingest", "batch p99 @ 10,000/s"),
    "ingest.errors": ("ingest", "errors @ 10,000/s"),
    "reports.historical.p50": ("reports", f"{_MIX}historical p50 @ 10m"),
    "reports.historical.p95": ("reports", f"{_MIX}historical p95 @ 10m"),
    "reports.historical.p99": ("reports", f"{_MIX}historical p99 @ 10m"),
    "reports.realtime.p99": ("reports", "realtime: p99 during ingestion @ 10m"),
    "reports.cache_hits": ("reports", f"{_MIX}cache hits @ 10m"),
}
_LOADS = {"ingestion": f"load-{INGESTION}", "reports": f"load-{QUERIES}", "database": f"load-{INGESTION}"}


def render(template: str, results: Mapping[str, Result]) -> str:
    """Return the page. Raises ValueError for a placeholder that asks for nothing known."""

    def fill(match: re.Match[str]) -> str:
        kind, name, rest = match.groups()
        if kind == "targets":
            return show_targets(results)
        result = results.get(name)
        if kind is None:
            if rest is None:
                raise ValueError(f"{match[0]} in the template asks for no figure")
            return show_figure(find(result, rest))
        if result is None:
            return NOT_MEASURED if kind in ("when", "how") else f"*{NOT_MEASURED}: there is no result named {name}*"
        writers = {"table": show_table, "grid": show_grid, "pivot": show_pivot, "rest": show_rest}
        if kind in writers:
            return writers[kind](result, rest or "")
        return {"when": describe, "how": read_command, "plans": show_plans}[kind](result)

    return _PLACE.sub(fill, template)


def read_results(folder: Path) -> dict[str, Result]:
    """Return the results in the folder by name. Those of load tests are brought into the form of the others."""
    found = {path.stem: json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}
    return {name: result if "figures" in result and "targets" not in result else _from_load(result)
            for name, result in found.items()}  # fmt: skip


def _from_load(result: Result) -> Result:
    limits = {target.id: target for target in TARGETS}
    verdicts = [verdict for verdict in result["targets"] if verdict["actual"] is not None]
    rows = [
        {"name": verdict["id"], "unit": verdict["unit"], "median": verdict["actual"], "least": verdict["actual"],
         "greatest": verdict["actual"], "below": limits[verdict["id"]].below, "above": limits[verdict["id"]].above,
         "met": None if is_more_than_needed(limits[verdict["id"]], verdict["actual"]) else verdict["passed"],
         "note": verdict["note"]}
        for verdict in verdicts
    ]  # fmt: skip
    cores = result["figures"].get("generatorCores")
    if cores is not None:
        spread = {"median": cores, "least": cores, "greatest": cores}
        rows.append({"name": "generator", "unit": "cores", "met": None, **spread})
    return {**result, "at": result["startedAt"], "figures": rows}


def find(result: Result | None, name: str) -> Result | None:
    """Return the figure of that name, None without it."""
    return next((row for row in (result or {}).get("figures", ()) if row["name"] == name), None)


def show_number(value: float, unit: str = "") -> str:
    """Return a number with as many digits as anybody can use; a rate with one more, or one just missed looked met."""
    if unit == "/s":
        return f"{value:,.1f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show_figure(row: Result | None) -> str:
    """Return a figure with its unit, as it stands in a sentence."""
    if row is None:
        return NOT_MEASURED
    unit = row["unit"]
    return f"{show_number(row['median'], unit)}{unit if unit in ('/s', '') else f' {unit}'}"


def describe(result: Result) -> str:
    """Return when, on which commit and on what something was measured."""
    machine = result["machine"] or {}
    text = f"{result['at'][:10]}, commit {result['commit']}"
    text += "" if result.get("isComplete", True) else ", broken off before its end"
    if not machine:
        return text
    return (
        f"{text}, {machine['cpu']}, {machine['cores']} cores, {machine['memoryGib']:g} GiB, {machine['system']},"
        f" Python {machine['python']}"
    )


def read_command(result: Result) -> str:
    """Return the command that repeats it."""
    return str(result.get("command", "unknown"))


def _say(met: bool | None) -> str:
    return {True: "met", False: "**missed**", None: ""}[met]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _write_table(head: list[str], lines: list[list[str]], words: int = 1) -> str:
    """Return a table whose first `words` columns hold words, the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join(f"| {' | '.join(map(_cell, line))} |".replace("|  |", "| |") for line in [head, rule, *lines])


def show_table(result: Result, start: str) -> str:
    """Return a line for each figure whose name begins so: goal, and spread where there were several runs."""
    return _write_figures([row for row in result["figures"] if row["name"].startswith(start)])


def show_rest(result: Result, start: str) -> str:
    """Return the same for the figures that have no pivot or grid."""
    rows = [row for row in result["figures"] if row["name"].startswith(start)]
    return _write_figures([row for row in rows if not _SHOWN.match(row["name"])])


def _write_figures(rows: list[Result]) -> str:
    if not rows:
        return f"*{NOT_MEASURED}*"
    has_spread = any(row["least"] != row["greatest"] for row in rows)
    has_goals = any(row["met"] is not None for row in rows)
    lines = []
    for row in rows:
        below, above = row.get("below"), row.get("above")
        goal = f"< {below:g}" if below is not None else f"≥ {above:g}" if above is not None else ""
        goal = f"{above:g} to {below:g}" if below is not None and above is not None else goal
        name = f"{row['name']}, {row['unit']}" if row["unit"] else row["name"]
        median, least, greatest = (show_number(row[part], row["unit"]) for part in ("median", "least", "greatest"))
        spread = [f"{least} to {greatest}"] if has_spread else []
        lines.append([name, median, *spread, *([goal, _say(row["met"]) or row.get("note", "")] if has_goals else [])])
    head = ["Figure", "Median" if has_spread else "Measured", *["Least to greatest"] * has_spread]
    return _write_table([*head, *(["Goal", ""] if has_goals else [])], lines)


def show_pivot(result: Result, asked: str) -> str:
    """Return reports by ranges; in a cell stand the parts of `asked` (a name of _PIVOTS ` @ ` a size), bold if missed.

    Of one that the service gave up stands after how many milliseconds it did. Raises ValueError for another name.
    """
    name, _, size = asked.partition(" @ ")
    if name not in _PIVOTS:
        raise ValueError(f"there is no pivot {name!r}")
    cells: dict[str, dict[str, dict[str, str]]] = {}
    ranges: dict[str, None] = {}
    for row in result["figures"]:
        found = _OF_RANGE.fullmatch(row["name"])
        if found and found["size"] == size and name == "cold" and found["part"] == "stopped":
            stopped = {"cold p50": f"**given up after {show_number(row['median'])}**"}
            cells.setdefault(found["report"], {})[found["range"]] = stopped
        elif found and found["size"] == size and found["part"] in _PIVOTS[name]:
            text = show_number(row["median"]) if name != "work" else f"{row['median']:,.0f}"
            text = f"**{text}**" if row["met"] is False else text
            cells.setdefault(found["report"], {}).setdefault(found["range"], {})[found["part"]] = text
            ranges[found["range"]] = None
    if not cells:
        return f"*{NOT_MEASURED}*"
    lines = [
        [report, *(" / ".join(filter(None, map(found.get(span, {}).get, _PIVOTS[name]))) for span in ranges)]
        for report, found in cells.items()
    ]
    return _write_table(["", *ranges], lines)


def show_grid(result: Result, start: str) -> str:
    """Return figures named `line: column` as a grid; what follows ` @ ` belongs to the line."""
    grid: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in result["figures"]:
        if row["name"].startswith(start):
            line, _, column = row["name"].partition(": ")
            column, _, at = column.partition(" @ ")
            column = f"{column}, {row['unit']}" if row["unit"] else column
            columns[column] = None
            grid.setdefault(f"{line}, {at}" if at else line, {})[column] = show_number(row["median"], row["unit"])
    if not grid:
        return f"*{NOT_MEASURED}*"
    lines = [[line, *(cells.get(name, "") for name in columns)] for line, cells in grid.items()]
    return _write_table(["", *columns], lines)


def show_targets(results: Mapping[str, Result]) -> str:
    """Return a line for each target with the figure that tells of it, and below the commands that the lines name."""
    head = ["Area", "Target", "Wanted", "", "Actual", "Command", "Date", "Machine"]
    lines: list[list[str]] = []
    commands: dict[str, None] = {}
    for target in TARGETS:
        name, figure = _TOLD_BY.get(target.id, ("", ""))
        told = [(results.get(name), find(results.get(name), figure)), _told_by_load(target, results)]
        result, row = next(((result, row) for result, row in told if result and row), (None, None))
        if result is None or row is None:
            lines.append([target.area, target.name, target.text, "", NOT_MEASURED, "", "", ""])
            continue
        machine = result["machine"] or {}
        where = f"{machine['cores']} cores, {machine['memoryGib']:g} GiB" if machine else "unknown"
        commands.setdefault(read_command(result))
        number = list(commands).index(read_command(result)) + 1
        lines.append([
            target.area, target.name, target.text, _judge(target, row), show_figure(row), str(number),
            result["at"][:10], where,
        ])  # fmt: skip
    said = "\n".join(f"{number}. `{command}`" for number, command in enumerate(commands, 1))
    return "\n\n".join(filter(None, [_write_table(head, lines, len(head)), said]))


def _told_by_load(target: Target, results: Mapping[str, Result]) -> tuple[Result | None, Result | None]:
    result = results.get(_LOADS[target.area])
    return result, find(result, target.id)


def _judge(target: Target, row: Result) -> str:
    if is_more_than_needed(target, row["median"]):
        return BELOW
    if "note" in row:  # a load test judged it already
        return _say(row["met"]) or row["note"]
    return _say(is_met(target, row["median"]))


def show_plans(result: Result) -> str:
    """Return the statements that read most, each with its plan."""
    parts = []
    for plan in result.get("plans") or ():
        cost = f"{show_number(plan['ms'])} ms, {plan['rows']:,} rows and {plan['buffers']:,} blocks read"
        lines = "\n".join(_fold_alike(plan["plan"]))
        head = f"<summary><b>{plan['statement']}</b> ({plan['seenIn']}): {cost}</summary>"
        parts.append(f"<details>{head}\n\n```text\n{lines}\n```\n\n</details>")
    return "\n\n".join(parts) or f"*{NOT_MEASURED}*"


def _fold_alike(lines: list[str]) -> list[str]:
    """Leave out the third and further of lines that differ in numbers alone: a plan has one for each partition."""
    shown: list[str] = []
    last, alike = "", 0
    for line in [*lines, ""]:
        form = re.sub(r"\d[\d_.]*", "#", line)
        form = form.partition(":")[0]
        if form == last:
            alike += 1
            if alike > 1:
                continue
        elif alike > 1:
            shown.append(f"{' ' * (len(shown[-1]) - len(shown[-1].lstrip()))}… and {alike - 1} more of these")
        if form != last:
            last, alike = form, 0
        if line:
            shown.append(line)
    return shown
