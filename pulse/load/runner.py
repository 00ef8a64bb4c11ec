"""Runs the load tests one after the other, judges them and keeps the history."""

import importlib.util
import json
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pulse.load.calibration import calibrate
from pulse.load.client import Client
from pulse.load.compare import choose_sides, show_changes
from pulse.load.history import FILE_NAME, Run, append_run, read_runs
from pulse.load.machine import PYTHON, ROOT, Machine, describe_machine, python_environment, read_commit
from pulse.load.service import find_free_port, orderly_end, processor_s
from pulse.load.smoke import Counter, check_counts
from pulse.load.summary import (
    INGESTION,
    QUERIES,
    Figures,
    Result,
    Verdict,
    has_passed,
    judge,
    judge_database,
    show_verdicts,
    summarize,
    write_result,
)

# Seconds a request may take to finish once the load has ended; one that is cut off might be stored and not counted.
STOP_TIMEOUT_S = 30
# Seconds a generator gets to end by itself when the run is broken off.
END_TIMEOUT_S = 2
# A machine whose speed changes more than this within a run has something else to do.
UNSTEADY = 1.25
# What the service still does after a load (folding, a cache that is filled) is no part of the machine's speed.
REST_S = 2.0
# More than the two results and a line of history take.
RESULTS_BYTES = 64 << 10
_QUIET = "WARNING"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run sends, and for how long; written to the results as they are."""

    events_per_s: int = 10_000
    ramp_s: float = 10
    steady_s: float = 40
    spike_s: float = 10
    readers: int = 60
    query_s: float = 40
    processes: int = 2

    @classmethod
    def for_smoke(cls) -> "Settings":
        """Return a load that asks whether everything works, not how fast."""
        return cls(events_per_s=1_000, ramp_s=2, steady_s=8, spike_s=2, readers=15, query_s=5, processes=1)

    def to_environment(self) -> dict[str, str]:
        """Return them as the load tests read them; what the history does not tell stays as it is without it."""
        return {
            "LOAD_RATE": str(self.events_per_s), "LOAD_RAMP_S": str(self.ramp_s), "LOAD_STEADY_S": str(self.steady_s),
            "LOAD_SPIKE_S": str(self.spike_s), "LOAD_READERS": str(self.readers), "LOAD_QUERY_S": str(self.query_s),
            "LOAD_QUERY_RAMP_S": str(min(self.ramp_s, 5)), "LOAD_SPIKE": "", "LOAD_FEED": "",
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return them for the results file."""
        return {
            "eventsPerSecond": self.events_per_s, "rampSeconds": self.ramp_s, "steadySeconds": self.steady_s,
            "spikeSeconds": self.spike_s, "readers": self.readers, "querySeconds": self.query_s,
            "processes": self.processes,
        }  # fmt: skip


@dataclass
class LoadTest:
    """One run against one service; results are written to `folder`."""

    base_url: str
    api_key: str
    project_id: int
    settings: Settings
    folder: Path
    console: Console
    data_dir: Path | None = None  # of a service of the run's own
    commit: str = ""  # where it is not this checkout's

    def __post_init__(self) -> None:
        self.client = Client(self.base_url, self.api_key)

    def close(self) -> None:
        """Close the connection that is kept to the service."""
        self.client.close()

    def run(self) -> bool:
        """Run both loads, write results and history, compare with earlier runs; return whether no target was missed."""
        run = self.measure()
        before, after = choose_sides(read_runs(self.folder / FILE_NAME))
        if before:
            show_changes(self.console, before, after)
        word = "[bold green]PASS[/]" if run.passed else "[bold red]FAIL[/]"
        self.console.print(f"\n{word}  {'no target was missed' if run.passed else 'a target was missed'}")
        return run.passed

    def measure(self) -> Run:
        """Run both loads, write results and a line of history, and return that line."""
        machine, commit, at = describe_machine(), self.commit or read_commit(), _now()
        if machine.load_average > machine.cores / 2:
            busy = f"The machine is busy (load {machine.load_average:g}): figures are worse than they could be."
            self.console.print(busy, style="yellow")
        calibration = [calibrate()]
        figures: dict[str, float] = {}
        passed = True
        for load in (INGESTION, QUERIES):
            result = self._run_load(load, machine, commit)
            figures |= _pick_comparable(result.targets)
            if (spent_ms := result.figures.get("processorMs")) is not None:
                figures[f"{load}.processor"] = spent_ms
            passed = passed and result.passed
        time.sleep(REST_S)
        calibration.append(calibrate())
        if max(calibration) > UNSTEADY * min(calibration):
            change = f"{calibration[0]:,.0f} → {calibration[1]:,.0f} pieces of work a second"
            self.console.print(f"The machine's speed changed during the run ({change}): repeat it.", style="yellow")
        # A service of the run's own has another address each time.
        service = "own" if self.data_dir else self.client.base_url
        settings = {**self.settings.to_json(), "service": service, "projectId": self.project_id}
        run = Run(at, commit, passed, machine, settings, calibration, figures)
        with _writing(self.folder):
            append_run(self.folder / FILE_NAME, run)
        return run

    def run_smoke(self) -> bool:
        """Run both loads gently; return whether nothing failed and every accepted event is stored and counted once."""
        counter = Counter(self.client, self.project_id)
        before = counter.take()
        accepted = counted = 0
        passed = True
        for load in (INGESTION, QUERIES):
            figures, _ = self._measure(load)
            accepted += figures["eventsAccepted"]
            counted += figures["eventsCounted"]
            errors = [verdict for verdict in judge(load, figures) if verdict.id.endswith(".errors")]
            passed = passed and has_passed(errors)
            show_verdicts(self.console, f"{load}: {figures['requests']:,} requests", errors)
        if not accepted:
            self.console.print("[bold red]FAIL[/]  no event was accepted")
            return False
        return check_counts(self.console, counter, before, accepted, counted) and passed

    def _run_load(self, load: str, machine: Machine, commit: str) -> Result:
        started_at = _now()
        used_s = processor_s(self.data_dir) if self.data_dir else 0.0
        figures, cores = self._measure(load)
        figures["generatorCores"] = cores
        if self.data_dir:
            done = figures["eventsAccepted"] if load == INGESTION else figures["requests"]
            figures["processorMs"] = round(1e6 * (processor_s(self.data_dir) - used_s) / max(done, 1), 1)
        offered = self.settings.events_per_s if load == INGESTION else None
        verdicts = judge(load, figures, offered_per_s=offered) + self._judge_database()
        settings = {"baseUrl": self.base_url, "projectId": self.project_id, **self.settings.to_json()}
        result = Result(
            load, "locust", started_at, commit, has_passed(verdicts), settings, machine, figures, verdicts
        )
        show_verdicts(self.console, f"{load}: {figures['requests']:,} requests", verdicts)
        with _writing(self.folder):
            path = write_result(self.folder, result)
        cost = f"The generator itself kept {cores:.2f} of {machine.cores} cores busy"
        if (spent_ms := figures.get("processorMs")) is not None:
            what = "events" if load == INGESTION else "requests"
            cost += f"; 1,000 {what} took {spent_ms:,.0f} ms of the service's and PostgreSQL's processor time"
        self.console.print(f"{cost}. → {path}\n", style="dim")
        return result

    def _measure(self, load: str) -> tuple[Figures, float]:
        with tempfile.TemporaryDirectory(prefix="pulse-load-") as folder:
            path = Path(folder) / "figures.json"
            used, started = _children_cpu_s(), time.monotonic()
            with self.console.status(f"{load}: {self._describe(load)} …"):
                output = self._run_locust(load, path)
            cores = (_children_cpu_s() - used) / (time.monotonic() - started)
            if not path.exists():
                raise click.ClickException(f"The {load} load ended without figures:\n{output}")
            stages = json.loads(path.read_bytes())["stages"]
        figures = summarize(load, stages)
        if figures["errors"]:
            self.console.print(output.strip()[-2000:], style="yellow", markup=False)
        return figures, round(cores, 2)

    def _run_locust(self, load: str, figures_path: Path) -> str:
        port = str(find_free_port())
        command = [
            PYTHON, "-m", "locust", "-f", str(ROOT / "locustfiles" / f"{load}.py"), "--headless", "--only-summary",
            "--loglevel", _QUIET, "--stop-timeout", str(STOP_TIMEOUT_S),
        ]  # fmt: skip
        if self.settings.processes > 1:
            command += ["--processes", str(self.settings.processes), "--master-bind-port", port, "--master-port", port]
        environment = {
            **python_environment(), **self.settings.to_environment(), "BASE_URL": self.base_url,
            "API_KEY": self.api_key, "PROJECT_ID": str(self.project_id), "LOAD_FIGURES": str(figures_path),
        }  # fmt: skip
        # A session of its own: Ctrl-C comes to this process alone, which ends all of them before it ends itself.
        with orderly_end(), subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                return process.communicate()[0]
            except BaseException:
                _end_group(process)
                raise

    def _describe(self, load: str) -> str:
        chosen = self.settings
        if load == INGESTION:
            seconds = chosen.ramp_s + chosen.steady_s + chosen.spike_s
            return f"{chosen.events_per_s:,} events a second, {seconds:g} s"
        return f"{chosen.readers} people reading reports, {chosen.query_s:g} s"

    def _judge_database(self) -> list[Verdict]:
        # Without a key this machine's own developer may read it; elsewhere it takes an administrator's.
        reason = ""
        for client in (Client(self.base_url, ""), self.client):
            try:
                answer = client.get("/api/v1/performance/targets")
            except click.ClickException as error:  # the load may have been the end of it; what was seen still counts
                reason = error.message
                continue
            if answer.status == 200:
                found = answer.data
                return judge_database(found["targets"] if isinstance(found, dict) else found)
            reason = answer.message
        self.console.print(f"The database's targets are not judged: {reason}", style="dim")
        return []


def check_ready(base_url: str, api_key: str, project_id: int) -> None:
    """Raise ClickException unless locust is installed, the service answers, and takes the key for the project."""
    if importlib.util.find_spec("locust") is None or not (ROOT / "locustfiles").is_dir():
        raise click.ClickException("Load tests need a checkout with its development packages: `make setup`.")
    client = Client(base_url, api_key)
    answer = client.get("/health/ready")
    if answer.status != 200:
        raise click.ClickException(f"The service at {base_url} is not ready: {answer.message}")
    # Bad requests of a good key are told apart from those of a bad one: nothing is stored to find out.
    answer = client.post("/api/v1/track/batch", b'{"events": []}')
    if answer.status in (401, 403):
        raise click.ClickException(f"API_KEY may not send events to {base_url}: {answer.message}")
    answer = client.get(f"/api/v1/projects/{project_id}/realtime")
    if answer.status != 200:
        raise click.ClickException(f"API_KEY may not read project {project_id} (PROJECT_ID): {answer.message}")


def check_folder(folder: Path) -> None:
    """Raise ClickException unless the folder takes results: after the load they would be lost."""
    with _writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(RESULTS_BYTES))
        file.flush()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"Results can't be written to {folder.resolve()}: {error.strerror}") from None


def default_processes() -> int:
    """Return how many processes send: as many as leave the service half of the cores, two at least."""
    return max(2, (os.cpu_count() or 2) // 2)


def _pick_comparable(verdicts: list[Verdict]) -> dict[str, float]:
    """Return the figures by target, but no durations that were not judged: those of refusals would look fast."""
    return {
        verdict.id: verdict.actual for verdict in verdicts
        if verdict.actual is not None and not (verdict.unit == "ms" and verdict.passed is None)
    }  # fmt: skip


def _end_group(process: subprocess.Popen[str]) -> None:
    """End a generator and the processes it forked, which may be waiting for answers."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_TIMEOUT_S)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
