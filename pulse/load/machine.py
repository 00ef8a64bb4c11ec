"""Which machine and which commit a figure belongs to."""

import os
import platform
import sys
from pathlib import Path

import msgspec
import psutil

from pulse.monitor import release

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable


class Machine(msgspec.Struct, rename="camel", frozen=True):
    """The machine a load came from; `load_average` is what else it had to do when the run began."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    load_average: float

    @property
    def identity(self) -> str:
        """What makes two runs comparable."""
        return f"{self.cpu}, {self.cores} cores, {self.memory_gib:g} GiB, {self.system}"


def describe_machine() -> Machine:
    """Return this machine."""
    return Machine(
        cpu=_read_cpu(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        load_average=round(os.getloadavg()[0], 2),
    )


def _read_cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return " ".join(value.split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def read_commit() -> str:
    """Return the short id of the commit checked out, with `+` when files differ from it; `unknown` without git."""
    return release.read_commit() or "unknown"


def python_environment(root: Path = ROOT) -> dict[str, str]:
    """Return the environment of Python programs started from here: they find the package of that checkout."""
    known = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), known])), "PYTHONUNBUFFERED": "1"}
