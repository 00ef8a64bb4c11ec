"""A service of the load test's own: fresh data folder, free port, stopped and removed afterwards."""

import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import psutil

from pulse.load.client import Client
from pulse.load.machine import ROOT, python_environment

READY_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
API_KEY = "test_api_key"
# Settings of the user's own service must not reach this one; empty counts as unset, whatever .env says.
_UNSET = (
    "DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL", "REDIS_HOST", "ALERT_WEBHOOK_URL", "SMTP_URL",
    "ALERT_EMAIL_TO", "SECRET_KEY",
)  # fmt: skip
_ENDS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def own_service(settings: Mapping[str, str] | None = None, root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """Start a service and yield its URL and data folder; `settings` go before the usual ones, `root` is its checkout.

    Raises ClickException with the end of its log if it can't be started.
    """
    with tempfile.TemporaryDirectory(prefix="pulse-load-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # PostgreSQL's own user must pass through
        port = find_free_port()
        environment = {
            **python_environment(root), **dict.fromkeys(_UNSET, ""), "PULSE_ENV": "development", "HOST": "127.0.0.1",
            "PORT": str(port), "PULSE_DATA_DIR": str(home / "var"), **(settings or {}),
        }  # fmt: skip
        with orderly_end(), (home / "service.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pulse.cli", "serve"],
                cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                url = f"http://127.0.0.1:{port}"
                _await_ready(process, url, home / "service.log")
                yield url, home / "var"
            finally:
                _stop(process)


@contextmanager
def orderly_end() -> Iterator[None]:
    """Whoever asks this process to end, or closes its terminal, leaves neither services nor generators behind.

    Both have sessions of their own, so that Ctrl-C comes to this process alone: it has to end them.
    """
    earlier = {}
    if threading.current_thread() is threading.main_thread():
        chosen = [number for number in _ENDS if signal.getsignal(number) != signal.SIG_IGN]  # as under nohup
        earlier = {number: signal.signal(number, _end) for number in chosen}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def processor_s(data_dir: Path) -> float:
    """Return the processor seconds that a service of this machine has used: its processes and those of PostgreSQL.

    They are known by their data folder. One that ended counts in the one that waited for it.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            names_it = any(str(data_dir) in part for part in process.cmdline())
            if names_it or process.environ().get("PULSE_DATA_DIR") == str(data_dir):
                found |= {own.pid: own for own in (process, *process.children(recursive=True))}
    used_s = 0.0
    for process in found.values():
        with suppress(psutil.Error):
            used_s += sum(process.cpu_times()[:4])  # user and system, its own and of children it waited for
    return used_s


def find_free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready(url):
            return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()[-20:]
    raise click.ClickException("The load test's own service did not start:\n" + "\n".join(lines))


def is_ready(url: str) -> bool:
    """Tell whether the service answers that it is ready."""
    client = Client(url, "", timeout_s=5)
    try:
        return client.get("/health/ready").status == 200
    except click.ClickException:
        return False
    finally:
        client.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
