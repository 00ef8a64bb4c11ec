"""`pulse serve`: the embedded PostgreSQL, the web workers and the background worker, started and stopped together."""

import ctypes
import fcntl
import http.client
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pulse.config import Config
from pulse.errors import ConfigError
from pulse.ingest import batch
from pulse.ingest.local_copy import LocalCopy, ask_within
from pulse.monitor import shared
from pulse.storage import embedded
from pulse.storage.embedded import EmbeddedServer
from pulse.storage.engine import build_engine
from pulse.storage.projects import ensure_development_project
from pulse.storage.schema import migrate

log = logging.getLogger("pulse.supervisor")

ROOT = Path(__file__).resolve().parents[1]
READY_TIMEOUT_S = 60
# A service whose PostgreSQL went away since it was asked: it has begun when events are accepted.
GO_WITHOUT_AFTER_S = 10
ASK_FOR_S = 5.0
STOP_TIMEOUT_S = 30
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A process kept alive: restarted when it dies, ever more slowly while it keeps dying at once."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0

    def start(self) -> None:
        """Start the process; it is told to stop when the supervisor dies (Linux), whatever kills it."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C comes to the supervisor alone, which stops things in order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )

    def check(self) -> None:
        """Restart the process if it is dead and its pause is over."""
        assert self.process is not None
        status = self.process.poll()
        if status is None:
            return
        lived_s = time.monotonic() - self.started_at
        self.failures = 0 if lived_s > 30 else self.failures
        if lived_s < min(0.5 * 2**self.failures, 30):
            return
        self.failures += 1
        log.warning("the %s ended with status %s; starting it again", self.name, status)
        self.start()

    def stop(self) -> None:
        """Ask the process to finish what it does, and end it when it does not in time."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("the %s does not stop; killing it", self.name)
            self.process.kill()
            self.process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """One service on this machine, in this data folder."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.server: EmbeddedServer | None = None
        self.children: list[Child] = []
        self.is_without_database = False
        self._stop = threading.Event()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the data folder. Raises ConfigError while another service runs on it."""
        self.config.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.config.data_dir / "serve.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"Another service already runs on {self.config.data_dir}; stop it, or set PULSE_DATA_DIR and PORT"
                ) from None
            yield

    def prepare_database(self, *, may_go_without: bool = False) -> list[str]:
        """Start the embedded PostgreSQL if it is ours to start and apply what the schema lacks; return its names.

        With `may_go_without` the service begins all the same while another PostgreSQL is away, if a copy of what events
        need of it is here.
        """
        url = self.config.database_url
        if url is None:
            self.server = embedded.locate(self.config.data_dir)
            embedded.ensure_running(self.server)
            url = self.server.url
        engine = build_engine(self.config, url, application_name="pulse-migrate")
        try:
            self.is_without_database = may_go_without and self.server is None and self._is_away(engine)
            return [] if self.is_without_database else prepare_schema(engine, self.config)
        finally:
            engine.dispose()

    def _is_away(self, engine: Engine) -> bool:
        """Tell whether PostgreSQL fails to answer or takes no writes, and the local copy can stand in."""
        if LocalCopy(self.config.data_dir, engine.url).read() is None:
            return False  # what is wrong with it will be told
        try:
            ask_within(lambda: batch.probe(engine), ASK_FOR_S)
        except ProgrammingError:  # that is no outage: the schema is not there
            return False
        except (DBAPIError, PoolTimeoutError, TimeoutError) as error:
            reason = str(getattr(error, "orig", error)).strip() or f"no answer in {ASK_FOR_S:.0f} s"
            log.warning("PostgreSQL is away, events go to the spool until it is back: %s", reason)
            return True
        return False

    def start(self) -> None:
        """Start the processes and return when the service answers.

        Raises ConfigError when the port is taken or the service does not come up within READY_TIMEOUT_S.
        """
        _await_free_port(self.config)
        shared.clear(self.config.data_dir)
        python = sys.executable
        self.children = [
            Child("web server", [python, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]),
            Child("background worker", [python, "-m", "pulse.cli", "worker"]),
        ]
        for child in self.children:
            child.start()
        begun_at = time.monotonic()
        deadline = begun_at + READY_TIMEOUT_S
        while not self._stop.is_set() and read_health(self.config, "ready") != "ok":
            is_late = time.monotonic() > begun_at + GO_WITHOUT_AFTER_S
            if (self.is_without_database or is_late) and read_health(self.config, "live") == "ok":
                self.is_without_database = True
                break
            web = self.children[0].process
            if web is not None and (web.poll() or 0) > 0:
                raise ConfigError("The web server ended at its start; the lines above say why.")
            for child in self.children:
                child.check()  # one that was killed
            if time.monotonic() > deadline:
                raise ConfigError(f"The service did not answer within {READY_TIMEOUT_S} s.")
            time.sleep(0.05)

    def watch(self) -> None:
        """Keep everything alive until `stop_soon`."""
        checked_at = 0.0
        while not self._stop.wait(0.25):
            for child in self.children:
                child.check()
            if self.server is not None and time.monotonic() - checked_at > 1.0:
                checked_at = time.monotonic()
                if not embedded.is_running(self.server):
                    log.warning("the embedded PostgreSQL is gone; starting it again")
                    try:
                        embedded.ensure_running(self.server)
                    except ConfigError as error:
                        log.error("%s", error)

    def stop_soon(self, *_: object) -> None:
        """Make `watch` return; safe in a signal handler."""
        self._stop.set()

    def stop(self) -> None:
        """Stop taking requests, let the workers finish, then stop the database."""
        for child in self.children:
            child.stop()
        if self.server is not None:
            embedded.stop(self.server)


def prepare_schema(engine: Engine, config: Config) -> list[str]:
    """Apply the migrations and, in development, make the first project; return the names applied."""
    applied = migrate(engine)
    if config.is_development:
        with engine.begin() as connection:
            ensure_development_project(connection)
    return applied


def base_url(config: Config) -> str:
    """Return where a browser on this machine finds the service."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.host, config.host)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{'localhost' if host == '127.0.0.1' else host}:{config.port}"


def read_health(config: Config, question: str) -> str | None:
    """Return the status that the service gives to `live` or `ready`; None where it does not answer, or says no."""
    try:
        with urllib.request.urlopen(f"{base_url(config)}/health/{question}", timeout=2) as answer:
            return str(json.load(answer)["data"]["status"])
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None


def _await_free_port(config: Config) -> None:
    """Wait a little for workers of a killed supervisor to finish. Raises ConfigError when the port stays taken."""
    deadline = time.monotonic() + 25
    while True:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((config.host, config.port))
                return
            except OSError as error:
                if time.monotonic() > deadline or not _was_ours(config):
                    raise ConfigError(
                        f"HOST {config.host}, PORT {config.port} can't be listened on: {error.strerror}; set PORT to a"
                        " free one"
                    ) from None
        time.sleep(0.2)


def _was_ours(config: Config) -> bool:
    return (config.data_dir / "stats").is_dir()
