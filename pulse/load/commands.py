"""The commands `pulse demo`, `pulse load-test` and `pulse load-compare`."""

import random
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from pulse.load import service
from pulse.load.alternation import fill, find_commit, measure_in_turn
from pulse.load.compare import ENOUGH_RUNS, choose_sides, show_changes
from pulse.load.demo import HISTORY_DAYS, Demo
from pulse.load.history import FILE_NAME, read_runs
from pulse.load.runner import LoadTest, Settings, check_folder, check_ready, default_processes

F = TypeVar("F", bound=Callable[..., Any])
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
# A log has no edge that lines would have to be broken at.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

_base_url = click.option(
    "--base-url", envvar="BASE_URL", default="http://localhost:3001", show_default=True, help="Where the service is."
)
_api_key = click.option(
    "--api-key", envvar="API_KEY", default="test_api_key", show_default=True, help="A key that may ingest and read."
)
_project_id = click.option("--project-id", envvar="PROJECT_ID", type=int, default=1, show_default=True)



def _number(name: str, variable: str, kind: click.ParamType, default: float | None, text: str) -> Callable[[F], F]:
    return click.option(name, envvar=variable, type=kind, default=default, show_default=default is not None, help=text)


@click.command()
@_base_url
@_api_key
@_project_id
@click.option("--events", type=click.IntRange(1, 10_000_000), default=6000, show_default=True, help="How many in all.")
@click.option("--rate", type=click.FloatRange(0.1, 2000), default=20.0, show_default=True, help="Live events a second.")
@click.option(
    "--history-days", type=click.FloatRange(0, 6.9),
    help=f"Days of the past that two thirds of the events are spread over.  [default: {HISTORY_DAYS:g}, 0 on a project"
    " that has events]",
)
@click.option("--seed", type=int, help="Repeat the same visitors.")
def demo(
    base_url: str, api_key: str, project_id: int, events: int, rate: float, history_days: float | None, seed: int | None
) -> None:
    """Send a stream of realistic visitors into the running service.

    Visitors come from many countries: the service sees that when it runs with TRUSTED_PROXIES=127.0.0.1,::1.
    """
    found = Demo(base_url, api_key, random.randrange(2**32) if seed is None else seed, console)
    if history_days is None:
        history_days = HISTORY_DAYS if found.needs_history(project_id) else 0.0
    past = round(events * 2 / 3) if history_days else 0
    console.print(f"Watch it at {base_url}/  (Ctrl-C ends the stream)")
    try:
        found.run(past, history_days, events - past, rate)
    except KeyboardInterrupt:
        console.print("Stopped.")
    counts = found.counts
    console.print(f"{counts.accepted:,} events accepted, {counts.refused:,} refused.")
    if counts.refused:
        raise click.ClickException(f"The service refused events: {counts.last_message}")


def _load_options(command: F) -> F:
    """Add what both commands that send a load can be told about it."""
    options = (
        _number("--rate", "LOAD_RATE", click.IntRange(100), 10_000, "Events a second."),
        _number("--ramp", "LOAD_RAMP_S", click.FloatRange(0), 10, "Seconds to the full rate."),
        _number("--steady", "LOAD_STEADY_S", click.FloatRange(1), 40, "Seconds at the full rate; these are judged."),
        _number("--spike", "LOAD_SPIKE_S", click.FloatRange(0), 10, "Seconds at one and a half times the rate."),
        _number("--readers", "LOAD_READERS", click.IntRange(1), 60, "People reading reports."),
        _number("--queries", "LOAD_QUERY_S", click.FloatRange(1), 40, "Seconds they read."),
        _number("--processes", "LOAD_PROCESSES", click.IntRange(1, 64), None, "Generators; default half the cores."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("load-test")
@_base_url
@_api_key
@_project_id
@click.option("--start", is_flag=True, help="Start a service of its own first, in a folder that is removed afterwards.")
@click.option("--smoke", is_flag=True, help="Half a minute, gently: does nothing fail, is every accepted event stored?")
@_load_options
@click.option("--output", type=_FOLDER, default=Path(), help="Where results and history go; default here.")
def load_test(
    base_url: str, api_key: str, project_id: int, start: bool, smoke: bool, rate: int, ramp: float, steady: float,
    spike: float, readers: int, queries: float, processes: int | None, output: Path,
) -> None:  # fmt: skip
    """Run the load tests and hold the figures against the targets; exits 1 when one is missed."""
    chosen = Settings(rate, ramp, steady, spike, readers, queries, processes or default_processes())
    if smoke:
        chosen = replace(Settings.for_smoke(), processes=processes or 1)
    check_folder(output)
    with service.own_service() if start else nullcontext((base_url, None)) as (url, data_dir):
        if start:
            api_key, project_id = service.API_KEY, 1
        check_ready(url, api_key, project_id)
        if start and not smoke:
            with console.status("Filling six days …"):
                fill(url)
        # A service that is told to stop waits some 20 s for connections that are still open.
        with closing(LoadTest(url, api_key, project_id, chosen, output, console, data_dir)) as test:
            passed = test.run_smoke() if smoke else test.run()
    sys.exit(0 if passed else 1)


@click.command("load-compare")
@click.option("--history", type=click.Path(path_type=Path, dir_okay=False), default=Path(FILE_NAME), show_default=True)
@click.option("--against", help="The commit to compare with, by default the last other one.")
@click.option(
    "--measure", "rounds", type=click.IntRange(1),
    help=f"Measure both commits so often, in turn, each with a service of its own; {ENOUGH_RUNS} make a comparison.",
)
@_load_options
def load_compare(
    history: Path, against: str | None, rounds: int | None, rate: int, ramp: float, steady: float, spike: float,
    readers: int, queries: float, processes: int | None,
) -> None:  # fmt: skip
    """Tell noise from regression: the newest commit's load tests against an earlier one's; exits 1 on a regression.

    Each figure is held against the speed of the machine in the same run. With --measure 5 --against COMMIT the runs are
    made first, in turn; without it those in the history are compared, five runs a commit at best.
    """
    if rounds:
        if not against:
            raise click.UsageError("--measure needs --against: which commit is this checkout to be compared with?")
        chosen = Settings(rate, ramp, steady, spike, readers, queries, processes or default_processes())
        check_folder(history.resolve().parent)
        before, after = measure_in_turn(against, rounds, chosen, history.resolve().parent, console)
        sys.exit(1 if show_changes(console, before, after) else 0)
    # The history may hold commits that git no longer knows, and `+` for one with changes.
    against = against and (find_commit(against) or against)
    before, after = choose_sides(read_runs(history), against)
    if not before:
        wanted = f"of commit {against} " if against else "to compare with "
        raise click.ClickException(f"{history} holds no run {wanted}on this machine with the same settings.")
    sys.exit(1 if show_changes(console, before, after) else 0)
