"""Noise or regression: the runs of one commit against those of another, each figure in units of the machine's speed.

A change counts when it is wide enough to matter, wider than the spread of the runs, and unlikely to be the order of
chance. The spread is the median absolute deviation, times 1.4826 comparable to a standard deviation (Hampel 1974). The
chance is that of the one-sided rank test of Mann and Whitney (1947), exact, ties against the change: it asks nothing of
how figures are distributed, so one run that a neighbour on the machine spoiled moves it by a rank and no further.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

from pulse.load.history import Run
from pulse.load.summary import PROCESSOR
from pulse.monitor.targets import TARGETS, show

Judgement = Literal["regression", "improvement", "noise"]

# Of two like sides with five runs each, all of one are worse by chance once in 252 times; with four runs once in 70.
ENOUGH_RUNS = 5
RARE = 0.01
# With fewer runs no order is rare enough: then a change must be twice as wide, three spreads, and lie apart wholly.
FEW_SPREADS = 3.0
FEW_WIDTHS = 2.0
# Lines between the columns need this many.
WIDE = 110
# Of a long history the newest are compared: what a machine was long ago says little, and the test takes n^4 steps.
MOST_RUNS = 20
# The least relative change that counts, by what a figure's id ends with; tails swing more than rates.
_LEAST = {"events": 0.05, "p50": 0.20, "p95": 0.30, "p99": 0.40, "query_average": 0.20, "processor": 0.10}
# Percentages are compared by points: from 0.01 % to 0.02 % is no doubling that matters.
_LEAST_POINTS = 1.0
_UNITS = {target.id: target.unit for target in TARGETS} | dict.fromkeys(PROCESSOR, "ms")
_NAMES = {target.id: f"{target.area}: {target.name}" for target in TARGETS} | PROCESSOR
_MORE_IS_BETTER = {target.id for target in TARGETS if target.above is not None and target.below is None}
_SKIPPED = {"database.pool"}  # neither more nor less of it is better


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after. `before` and `after` are medians at the speed of the machine in the later runs;
    `change` and `noise` are parts of `before`, or points for percentages; `chance` is that of an order as clear as
    this one, or clearer, if both sides were the same.
    """

    id: str
    before: float
    after: float
    change: float
    noise: float
    chance: float
    judgement: Judgement


def compare(before: list[Run], after: list[Run]) -> list[Change]:
    """Compare every figure that runs of both sides have; both lists hold comparable runs, oldest first."""
    changes = []
    for id in _NAMES:
        if id in _SKIPPED:
            continue
        old, new = (
            [(run.figures[id], run.speed) for run in runs[-MOST_RUNS:] if id in run.figures] for runs in (before, after)
        )
        if old and new:
            changes.append(_compare_figure(id, old, new))
    return changes


def _compare_figure(id: str, old: list[tuple[float, float]], new: list[tuple[float, float]]) -> Change:
    unit, speed = _UNITS[id], statistics.median(speed for _, speed in new)
    before = [_at_speed(value, unit, own, speed) for value, own in old]
    after = [_at_speed(value, unit, own, speed) for value, own in new]
    base, now = statistics.median(before), statistics.median(after)
    scale = 1.0 if unit == "%" else base or 1.0
    change = (now - base) / scale
    is_enough = min(len(old), len(new)) >= ENOUGH_RUNS
    least = _LEAST_POINTS if unit == "%" else _LEAST.get(id.rpartition(".")[2], 0.2)
    is_share = unit == "%" or min(*before, *after) <= 0
    # Of durations and rates the ratios are what spreads: doubling is as far as halving, whichever side it is on.
    spread = max(_spread(before, is_share), _spread(after, is_share)) * (1 if is_enough else FEW_SPREADS)
    spread = spread / scale if is_share else math.expm1(spread)
    noise = max(least if is_enough else FEW_WIDTHS * least, spread)
    low, high = (before, after) if change > 0 else (after, before)
    wins = sum(one < other for one in low for other in high)
    chance = chance_of(wins, len(low), len(high))
    is_apart = chance < RARE if is_enough else wins == len(low) * len(high)
    width = abs(change) if is_share else max(now / base, base / now) - 1
    judgement: Judgement = "noise"
    if is_apart and width > noise:
        judgement = "improvement" if (change > 0) == (id in _MORE_IS_BETTER) else "regression"
    return Change(id, base, now, change, noise, chance, judgement)


def chance_of(wins: int, low: int, high: int) -> float:
    """Return the chance that, of all pairs of `low` and `high` like values, `wins` or more have the second greater."""
    # ways[i][u]: orders of i values of one side and j of the other that have u such pairs; j grows with each round.
    pairs = low * high
    ways: list[list[int]] = [[1] + [0] * pairs for _ in range(low + 1)]
    for _ in range(high):
        fewer: Sequence[int] = ways[0]
        for i in range(1, low + 1):
            # The greatest value is of the second side, and greater than all i of the first, or of the first.
            ways[i] = [(ways[i][u - i] if u >= i else 0) + fewer[u] for u in range(pairs + 1)]
            fewer = ways[i]
    return sum(ways[low][wins:]) / sum(ways[low])


def _at_speed(value: float, unit: str, own: float, wanted: float) -> float:
    """Return what the figure would have been had the machine been as fast as `wanted`.

    An offered rate that is reached does not depend on the machine, nor do percentages: only durations do.
    """
    return value * own / wanted if unit == "ms" else value


def _spread(values: list[float], is_share: bool) -> float:
    """Return the spread of the values, or of their logarithms, as a standard deviation would have it."""
    found = values if is_share else [math.log(value) for value in values]
    middle = statistics.median(found)
    return 1.4826 * statistics.median(abs(value - middle) for value in found)


def choose_sides(runs: list[Run], against: str | None = None) -> tuple[list[Run], list[Run]]:
    """Return the runs of the last other commit, or of `against`, and those of the newest that is not of it.

    Only runs comparable to the newest count. With one commit only, its newest run stands against its earlier ones.
    """
    if not runs:
        return [], []
    # Runs made in turn end with either commit.
    newest = next((run for run in reversed(runs) if not (against and _is_of(run, against))), runs[-1])
    alike = [run for run in runs if run.is_comparable(newest)]
    after = [run for run in alike if run.commit == newest.commit]
    others = [run for run in alike if run.commit != newest.commit]
    if against is not None:
        return [run for run in others if _is_of(run, against)], after
    if others:
        return [run for run in others if run.commit == others[-1].commit], after
    return after[:-1], after[-1:]


def _is_of(run: Run, commit: str) -> bool:
    """Tell whether the run is of a commit, given in part; with changes (`+`) it is another one."""
    return run.commit.startswith(commit.rstrip("+")) and run.commit.endswith("+") == commit.endswith("+")


def show_changes(console: Console, before: list[Run], after: list[Run]) -> bool:
    """Print the comparison; return whether something became worse."""
    changes = compare(before, after)
    title = f"{_name(before)}  →  {_name(after)}"
    table = Table(title=title, title_justify="left", title_style="bold")
    if console.width < WIDE:
        table.box, table.pad_edge, table.padding = box.SIMPLE_HEAD, False, (0, 1, 0, 0)
    for column in ("figure", "before", "after", "change", "noise", "chance", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right", no_wrap=column != "figure")
    words = {"regression": "[bold red]REGRESSION[/]", "improvement": "[green]improvement[/]", "noise": "[dim]noise[/]"}
    for change in changes:
        unit = _UNITS[change.id]
        relative = f"{change.change:+.2f} pts" if unit == "%" else f"{change.change:+.0%}"
        noise = f"±{change.noise:.2f} pts" if unit == "%" else f"±{change.noise:.0%}"
        figures = (show(change.before, unit), show(change.after, unit))
        table.add_row(_NAMES[change.id], *figures, relative, noise, f"{change.chance:.3f}", words[change.judgement])
    console.print(table)
    console.print(
        f"Speed of the machine (calibration): {_speed(before):,.0f} → {_speed(after):,.0f} pieces of work a second;"
        " durations before are shown as they would be at the later speed.", style="dim",
    )  # fmt: skip
    if min(len(before), len(after)) < ENOUGH_RUNS:
        few = f"Fewer than {ENOUGH_RUNS} runs on one side: only large changes can be told from noise, and not all."
        console.print(few, style="dim")
    worse = [_NAMES[change.id] for change in changes if change.judgement == "regression"]
    if worse:
        console.print(f"Worse: {'; '.join(worse)}", style="bold red")
    return bool(worse)


def _name(runs: list[Run]) -> str:
    return f"{runs[-1].commit} ({len(runs)} run{'s' if len(runs) > 1 else ''})"


def _speed(runs: list[Run]) -> float:
    return statistics.median(run.speed for run in runs)
