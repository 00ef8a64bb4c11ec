"""History and comparison: noise is not called a regression, a regression is not called noise."""

import itertools
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from pulse.load.commands import load_compare
from pulse.load.compare import Change, chance_of, choose_sides, compare
from pulse.load.history import Run, append_run, read_runs
from pulse.load.machine import Machine

MACHINE = Machine("Test CPU", 2, 8.0, "Linux", "3.11.0", 0.1)


def _run(commit: str, p99: float, speed: float = 1000.0, *, settings: int = 1, **figures: float) -> Run:
    return Run(
        "2026-01-01T00:00:00+00:00", commit, True, MACHINE, {"rate": settings}, [speed, speed],
        {"ingest.single.p99": p99, **figures},
    )  # fmt: skip


def _only(before: list[Run], after: list[Run]) -> Change:
    (change,) = compare(before, after)
    return change


def test_a_slower_commit_is_named() -> None:
    before = [_run("a", value) for value in (10.0, 10.5, 9.8)]
    after = [_run("b", value) for value in (20.0, 21.0, 19.5)]
    assert _only(before, after).judgement == "regression"
    assert _only(after, before).judgement == "improvement"


def test_what_swings_as_much_before_is_noise() -> None:
    before = [_run("a", value) for value in (10.0, 18.0, 6.0, 15.0)]
    after = [_run("b", value) for value in (20.0, 26.0, 17.0)]
    assert _only(before, after).judgement == "noise"


def test_a_slower_machine_is_no_regression() -> None:
    before = [_run("a", value, 1000) for value in (10.0, 10.2, 9.9)]
    after = [_run("b", value, 500) for value in (20.0, 20.3, 19.8)]
    assert _only(before, after).judgement == "noise"
    assert _only(before, after).before == pytest.approx(20.0)


def test_a_slower_commit_on_a_faster_machine_is_named() -> None:
    before = [_run("a", value, 500) for value in (20.0, 20.3, 19.8)]
    after = [_run("b", value, 1000) for value in (20.0, 20.3, 19.8)]
    assert _only(before, after).judgement == "regression"


def test_five_runs_tell_a_change_that_three_do_not() -> None:
    before, after = (10.0, 10.4, 9.7, 11.0, 9.9), (16.0, 15.5, 17.2, 15.0, 16.3)
    runs = [_run("a", value) for value in before], [_run("b", value) for value in after]
    assert _only(*runs).judgement == "regression"
    assert _only(runs[0][:3], runs[1][:3]).judgement == "noise"


def test_one_spoiled_run_hides_no_regression_and_makes_none() -> None:
    before = [_run("a", value) for value in (10.0, 10.4, 9.7, 11.0, 9.9, 60.0, 10.3, 10.1)]
    same = [_run("b", value) for value in (10.2, 9.8, 70.0, 10.9, 10.1, 9.6, 10.5, 9.5)]
    slower = [_run("b", value) for value in (20.0, 20.4, 19.7, 21.0, 19.9, 20.3, 20.1, 19.8)]
    assert _only(before, same).judgement == "noise"
    assert _only(before, slower).judgement == "regression"


def test_sets_of_the_same_commit_are_rarely_called_worse() -> None:
    # Durations of one kind of machine, with a long tail; the seed makes the test repeat.
    dice = random.Random(1)
    called = 0
    for _ in range(1_000):
        before, after = ([_run(name, dice.lognormvariate(3, 0.5)) for _ in range(5)] for name in "ab")
        called += _only(before, after).judgement == "regression"
    assert called <= 10


def test_the_chance_is_that_of_all_orders() -> None:
    values = (1, 2, 3, 4, 5, 6, 7)
    wins = []
    for low in itertools.combinations(values, 3):
        high = [value for value in values if value not in low]
        wins.append(sum(one < other for one in low for other in high))
    for wanted in range(13):
        share = sum(found >= wanted for found in wins) / len(wins)
        assert chance_of(wanted, 3, 4) == pytest.approx(share)


def test_single_runs_tell_only_large_changes() -> None:
    assert _only([_run("a", 10.0)], [_run("b", 16.0)]).judgement == "noise"
    assert _only([_run("a", 10.0)], [_run("b", 30.0)]).judgement == "regression"


def _with(id: str, values: tuple[float, float, float]) -> list[Run]:
    return [Run("t", "c", True, MACHINE, {}, [1000.0], {id: value}) for value in values]


def test_fewer_events_are_worse_and_more_are_better() -> None:
    low, high = (_with("ingest.events", (n, n + 10.0, n - 10.0)) for n in (9000.0, 10_000.0))
    assert _only(high, low).judgement == "regression"
    assert _only(low, high).judgement == "improvement"


def test_percentages_are_compared_by_points() -> None:
    few, twice = (_with("ingest.errors", (n, n, n)) for n in (0.01, 0.02))
    assert _only(few, twice).judgement == "noise"
    hits, fewer = (_with("reports.cache_hits", (n, n, n)) for n in (95.0, 85.0))
    assert _only(hits, fewer).judgement == "regression"


def test_only_comparable_runs_stand_against_each_other() -> None:
    runs = [_run("a", 10), _run("b", 10, settings=2), _run("a", 11), _run("c", 30), _run("c", 31)]
    before, after = choose_sides(runs)
    assert [run.figures["ingest.single.p99"] for run in before] == [10, 11]
    assert [run.figures["ingest.single.p99"] for run in after] == [30, 31]
    assert choose_sides(runs, against="zzz")[0] == []
    before, after = choose_sides(runs, against="c")
    assert ({run.commit for run in before}, {run.commit for run in after}) == ({"c"}, {"a"})
    assert choose_sides([runs[0]]) == ([], [runs[0]])


def test_one_commit_stands_against_its_own_past() -> None:
    runs = [_run("a", 10), _run("a", 11), _run("a", 12)]
    before, after = choose_sides(runs)
    assert (before, after) == (runs[:2], runs[2:])


def test_history_keeps_one_line_a_run(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    runs = [_run("a", 10), _run("b", 12)]
    for run in runs:
        append_run(path, run)
    assert read_runs(path) == runs
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert set(lines[0]) == {"at", "commit", "passed", "machine", "settings", "calibration", "figures"}
    assert read_runs(tmp_path / "none") == []


def test_a_broken_line_is_named_and_spoils_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history.jsonl"
    runs = [_run("a", 10), _run("b", 11)]
    append_run(path, runs[0])
    with path.open("a") as file:
        file.write('{"at": 1')  # the disk was full
    append_run(path, runs[1])
    assert read_runs(path) == runs
    assert "line 2 is no run" in capsys.readouterr().err


def test_a_commit_with_changes_is_another_one() -> None:
    runs = [_run("old", 9), _run("abc", 10), _run("abc+", 30)]
    before, after = choose_sides(runs, against="abc")
    assert ([run.commit for run in before], [run.commit for run in after]) == (["abc"], ["abc+"])


@pytest.mark.parametrize(("p99", "status"), [(10.1, 0), (40.0, 1)])
def test_the_command_exits_1_on_a_regression(tmp_path: Path, p99: float, status: int) -> None:
    path = tmp_path / "history.jsonl"
    for run in [_run("a", 10.0)] * 3 + [_run("b", p99)] * 3:
        append_run(path, run)
    result = CliRunner().invoke(load_compare, ["--history", str(path)])
    assert result.exit_code == status
    assert ("REGRESSION" in result.output) == bool(status)
    assert ("Worse: ingestion: single event p99\n" in result.output) == bool(status)


def test_measuring_needs_a_commit_to_compare_with() -> None:
    result = CliRunner().invoke(load_compare, ["--measure", "5"])
    assert result.exit_code == 2
    assert "--against" in result.output


def test_the_command_says_when_there_is_nothing_to_compare(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append_run(path, _run("a", 10.0))
    result = CliRunner().invoke(load_compare, ["--history", str(path)])
    assert result.exit_code == 1
    assert "no run to compare with" in result.output
