"""A whole service as an operator runs it: supervisor, web workers, background worker, embedded PostgreSQL."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from pulse.storage import embedded

ROOT = Path(__file__).resolve().parents[1]
MEMORY_FOLDER_BYTES = 1 << 30  # a run of two processes was seen to take 200 MB


class RunningService:
    """`pulse serve` in a data folder of its own; `data_dir` must lie where PostgreSQL's own user can pass through."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self._reservation, self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = embedded.locate(data_dir)
        self.database_url = settings.get("DATABASE_URL", self.server.url)
        self._settings = {"PULSE_ENV": "development", "WEB_CONCURRENCY": "2", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Everything the processes printed."""
        return self.data_dir.with_suffix(".log")

    def start(self) -> None:
        """Start it and return when it is ready."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start it."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "REDIS_"))},
            **self._settings, "HOST": "127.0.0.1", "PORT": str(self.port), "PULSE_DATA_DIR": str(self.data_dir),
        }  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pulse.cli", "serve"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def await_ready(self, timeout_s: float = 90) -> None:
        """Return when the service says that it is ready."""
        wait_until(self.is_ready, timeout_s, lambda: self.log.read_text(errors="replace")[-3000:])

    def is_ready(self) -> bool:
        """Ask it."""
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def has_shared_cache(self) -> bool:
        """Tell whether Redis answers the process that answers."""
        with urllib.request.urlopen(f"{self.url}/api/v1/performance/cache", timeout=10) as answer:
            return bool(json.load(answer)["data"]["isRedisAvailable"])

    def stop(self) -> int:
        """Stop it as Ctrl-C does and return its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        status = self._process.wait(60)
        embedded.stop(self.server)  # of a supervisor that was killed
        return status

    def processes(self, part: str) -> list[psutil.Process]:
        """Find `supervisor`, `web` (gunicorn's master), `web-worker`, `worker` or `postgres`."""
        if part == "postgres":
            pid = int((self.server.data_dir / "postmaster.pid").read_text().split()[0])
            return [psutil.Process(pid)]
        assert self._process is not None
        supervisor = psutil.Process(self._process.pid)
        if part == "supervisor":
            return [supervisor]
        children = [child for child in supervisor.children() if child.status() != psutil.STATUS_ZOMBIE]
        web = [child for child in children if "gunicorn" in " ".join(child.cmdline())]
        if part == "web":
            return web
        if part == "web-worker":
            return [worker for master in web for worker in master.children()]
        return [child for child in children if child not in web]

    def kill(self, part: str) -> None:
        """Kill a part with SIGKILL and return when it is gone."""
        wait_until(lambda: bool(self.processes(part)), 30)  # it may still be on its way back from the last time
        process = self.processes(part)[0]
        process.kill()
        if part == "supervisor":
            assert self._process is not None
            self._process.wait(10)
        else:
            wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 10)


def reserve_port() -> tuple[socket.socket, int]:
    """Return a port of the loopback interface and the socket that keeps it from others until it is closed.

    The socket does not listen, so that on Linux a server which sets SO_REUSEADDR, as all do, can still bind the port;
    elsewhere it is closed already, and somebody may be quicker.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    if sys.platform != "linux":
        holder.close()
    return holder, port


def find_fast_folder() -> str | None:
    """Return a folder in memory that has room for a PostgreSQL, else None: the usual place for temporary files.

    A database of a test's own is some 400 files: 15 ms there, 80 to 350 ms on a disk that others use too.
    """
    folder = Path("/dev/shm")  # noqa: S108
    if folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MEMORY_FOLDER_BYTES:
        return str(folder)
    return None


@contextmanager
def run_service(**settings: str) -> Iterator[RunningService]:
    """Run a service as `make run` starts it, with nothing in it; it must end well when it is told to."""
    with tempfile.TemporaryDirectory(prefix="pulse-service-", dir=find_fast_folder()) as folder:
        Path(folder).chmod(0o711)
        running = RunningService(Path(folder) / "var", **settings)
        try:
            running.start()
            yield running
        finally:
            status = running.stop()
        assert status == 0


def wait_until(condition: Callable[[], bool], timeout_s: float = 30, explain: Callable[[], str] = lambda: "") -> None:
    """Return when the condition holds; fail with `explain()` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {explain()}"
        time.sleep(0.05)
