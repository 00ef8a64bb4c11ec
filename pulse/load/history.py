"""The history of load tests: one JSON line a run."""

import fcntl
import os
from pathlib import Path
from typing import Any

import click
import msgspec

from pulse.load.machine import Machine

FILE_NAME = "load-test-history.jsonl"


class Run(msgspec.Struct, rename="camel", frozen=True):
    """One run. `figures` are those that have a target, by its id; `calibration` is pieces of work a second, before
    and after the load.
    """

    at: str
    commit: str
    passed: bool
    machine: Machine
    settings: dict[str, Any]
    calibration: list[float]
    figures: dict[str, float]

    @property
    def speed(self) -> float:
        """How fast the machine was during the run; 1 where it was not calibrated."""
        return sum(self.calibration) / len(self.calibration) if self.calibration else 1.0

    def is_comparable(self, other: "Run") -> bool:
        """Tell whether both ran the same load on the same kind of machine."""
        return self.machine.identity == other.machine.identity and self.settings == other.settings


def append_run(path: Path, run: Run) -> None:
    """Add a line, whole even if two runs end at once, or an earlier one was cut off by a full disk."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(msgspec.json.encode(run) + b"\n")


def read_runs(path: Path) -> list[Run]:
    """Return the runs, oldest first. A line that is none is left out and named: it must not spoil those of a year."""
    if not path.exists():
        return []
    runs = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            runs.append(msgspec.json.decode(line, type=Run))
        except msgspec.DecodeError as error:
            click.echo(f"{path}, line {number} is no run of a load test and is left out: {error}", err=True)
    return runs
