"""Two commits measured in turn, so that what the machine does meanwhile hits both: a service of each, one generator."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from pulse.load import service
from pulse.load.demo import HISTORY_DAYS, Demo
from pulse.load.history import Run
from pulse.load.machine import ROOT, read_commit
from pulse.load.runner import LoadTest, Settings

# Events of the days before, so that reports have something to tell.
HISTORY_EVENTS = 20_000
_quiet = Console(quiet=True)


def measure_in_turn(
    against: str, rounds: int, settings: Settings, folder: Path, console: Console
) -> tuple[list[Run], list[Run]]:
    """Measure commit `against` and this checkout `rounds` times each, and return the runs of both.

    The order is turned round with each round, so that a machine that grows slower harms both alike. Both services run
    in this virtual environment: where a commit changes packages, that change is not compared. Every run is added to the
    history in `folder`. Raises ClickException for a commit that git does not know.
    """
    before: list[Run] = []
    after: list[Run] = []
    with service.orderly_end(), checkout(against) as (root, commit):
        sides = [(root, commit, before), (ROOT, read_commit(), after)]
        for number in range(1, rounds + 1):
            for side_root, side_commit, runs in sides if number % 2 else reversed(sides):
                with console.status(f"round {number} of {rounds}: {side_commit} …"):
                    runs.append(measure_own(settings, folder, _quiet, side_root, side_commit))
                console.print(f"round {number} of {rounds}: {side_commit}  {_describe(runs[-1])}", style="dim")
    return before, after


def measure_own(settings: Settings, folder: Path, console: Console, root: Path, commit: str) -> Run:
    """Start the service of a checkout with six days of history, measure it, and return the run.

    Raises ClickException, with the commit, when its service does not start or does not take the load.
    """
    try:
        with service.own_service(root=root) as (url, data_dir):
            fill(url)
            return LoadTest(url, service.API_KEY, 1, settings, folder, console, data_dir, commit).measure()
    except click.ClickException as error:
        raise click.ClickException(f"commit {commit}: {error.message}") from None


def fill(url: str) -> None:
    """Give a service of one's own six days to report on."""
    Demo(url, service.API_KEY, 1, _quiet).run(HISTORY_EVENTS, HISTORY_DAYS, 0, 1)


@contextmanager
def checkout(commit: str) -> Iterator[tuple[Path, str]]:
    """Check a commit out beside this one and yield the folder and the commit's short id; it is removed afterwards."""
    found = find_commit(commit)
    if found is None:
        raise click.ClickException(f"git knows no commit {commit!r} in {ROOT}.")
    with tempfile.TemporaryDirectory(prefix="pulse-load-") as folder:
        root = Path(folder) / found
        Path(folder).chmod(0o711)  # PostgreSQL's own user must pass through
        _git("worktree", "add", "--detach", "--force", str(root), found)
        try:
            yield root, found
        finally:
            _git("worktree", "remove", "--force", str(root))


def find_commit(name: str) -> str | None:
    """Return the short id of a commit that is named as git takes it (`main`, `HEAD~3`), None if there is none."""
    try:
        return _git("rev-parse", "--short=10", "--verify", f"{name}^{{commit}}")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _describe(run: Run) -> str:
    shown = {
        "ingest.events": "{:,.0f} events/s", "ingest.single.p50": "single p50 {:.1f} ms",
        "reports.historical.p50": "historical p50 {:.1f} ms",
        "ingestion.processor": "{:,.0f} ms of processor time for 1,000 events",
    }  # fmt: skip
    return ", ".join(form.format(run.figures[id]) for id, form in shown.items() if id in run.figures)
