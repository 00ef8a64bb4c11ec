"""Caches on each side, and a Redis-protocol server that a test may hang, kill and start again."""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pulse.cache import CacheService
from pulse.cache.limits import Limits
from pulse.config import Config
from tests.running import reserve_port
from tests.valkey import Server

QUICK = Limits(probe_first_s=0.02, probe_last_s=0.05)

OpenCache = Callable[..., CacheService]


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
    buses = [reserve_port() for _ in nodes]
    for node, half, (_, bus) in zip(nodes, halves, buses, strict=True):
        node.start(config=f"cluster-enabled yes\ncluster-config-file {node.port}.nodes\ncluster-port {bus}")
        node.command("CLUSTER", "ADDSLOTSRANGE", *half)
    nodes[0].command("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port), str(buses[1][1]))
    until(lambda: all("cluster_state:ok" in str(node.command("CLUSTER", "INFO")) for node in nodes))
    yield f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"
    for node in nodes:
        node.kill()
    for holder, _ in buses:
        holder.close()


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


@pytest.fixture(params=["memory", "redis", "away"])
def cache(request: pytest.FixtureRequest, open_cache: OpenCache) -> CacheService:
    """A cache on each side in turn: memory, Redis, and memory in place of a Redis that is away."""
    if request.param == "memory":
        return open_cache(None)
    if request.param == "redis":
        return open_cache(request.getfixturevalue("valkey_url"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return open_cache(f"redis://127.0.0.1:{port}/0")


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds, for a minute at most: the machine may be busy with other tests."""

    def wait(condition: Callable[[], object]) -> None:
        pause = threading.Event()
        for _ in range(6000):
            if condition():
                return
            pause.wait(0.01)
        pytest.fail("the condition did not come to hold within a minute")

    return wait
