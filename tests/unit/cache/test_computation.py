"""Single-flight over processes, through the locks in Redis."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pulse.cache import CacheService
from pulse.cache.computation import Wish
from pulse.cache.limits import Limits

KEY = "analytics:project:123:7d"

# Waits at the gate in Redis, then asks for the key; each computation leaves a mark and takes until the gate is shut.
WORKER = """
import sys
from dataclasses import replace
import redis
from pulse.cache import CacheService
from pulse.config import Config
url, key = sys.argv[1:]
client = redis.Redis.from_url(url)
cache = CacheService()
cache.init_app(None, replace(Config(), redis_url=url))
client.rpush("ready", 1)
client.blpop(["gate"], 20)
def compute():
    client.rpush("computed", 1)
    client.blpop(["finish"], 20)
    return "value"
print(cache.wrap_entry(key, compute).value)
"""


def _start(url: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, "-c", WORKER, url, KEY]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root})


def test_two_processes_are_one_computation(valkey_url: str) -> None:
    client = redis.Redis.from_url(valkey_url)
    workers = [_start(valkey_url) for _ in range(2)]
    for _ in workers:
        assert client.blpop(["ready"], 20)
    client.rpush("gate", 1, 1)
    assert client.blpop(["computed"], 20)
    # The other one is known to wait once it has asked for the lock and not got it.
    while client.info("commandstats")["cmdstat_evalsha"]["calls"] < 2:
        pass
    client.rpush("finish", 1, 1)
    assert [worker.communicate(timeout=20)[0].strip() for worker in workers] == ["value", "value"]
    assert client.llen("computed") == 0
    assert client.keys("pulse-lock:*") == []


def test_a_dead_holder_does_not_hold_up_the_others(valkey_url: str, open_cache: Callable[..., CacheService]) -> None:
    client = redis.Redis.from_url(valkey_url)
    worker = _start(valkey_url)
    assert client.blpop(["ready"], 20)
    client.rpush("gate", 1)
    assert client.blpop(["computed"], 20)
    worker.kill()
    worker.communicate()
    assert client.keys("pulse-lock:*")
    cache = open_cache(valkey_url, Limits(wait_s=0.2))
    entry = cache.wrap_entry(KEY, lambda: "mine")
    assert (entry.value, entry.state) == ("mine", "MISS")
    assert cache.get(KEY) == "mine"
    assert client.keys("pulse-lock:*") == []


@pytest.mark.parametrize("forget", ["delete", "delete_pattern"])
@pytest.mark.parametrize("key", [KEY, "a:{b}:c", "a:{b", "{}x"])
def test_a_deletion_elsewhere_voids_a_computation_here(
    valkey_url: str, open_cache: Callable[..., CacheService], forget: str, key: str
) -> None:
    here, elsewhere = open_cache(valkey_url), open_cache(valkey_url)

    def compute() -> str:
        if forget == "delete":
            elsewhere.delete(key)
        else:
            elsewhere.delete_pattern(f"{key[:2]}*")
        return "read before the deletion"

    here.wrap(key, compute)
    # A key whose braces leave no name for a lock in its cluster slot is kept, without this protection.
    assert (here.get(key) is None) == (key != "{}x")


def test_a_failed_computation_gives_its_lock_back(valkey_url: str, open_cache: Callable[..., CacheService]) -> None:
    here, elsewhere = open_cache(valkey_url), open_cache(valkey_url)
    with pytest.raises(ZeroDivisionError):
        here.wrap(KEY, lambda: 1 // 0)
    assert redis.Redis.from_url(valkey_url).keys("pulse-lock:*") == []
    assert elsewhere.wrap(KEY, lambda: 1) == 1


def test_the_old_value_answers_while_another_process_computes(
    valkey_url: str, open_cache: Callable[..., CacheService]
) -> None:
    here, elsewhere = open_cache(valkey_url), open_cache(valkey_url)
    here.wrap(KEY, lambda: "old", ttl=1e-9)

    def compute() -> str:
        assert elsewhere.wrap_entry(KEY, lambda: pytest.fail("computed twice")).state == "STALE"
        return "new"

    assert here.wrap(KEY, compute) == "new"
    assert elsewhere.get(KEY) == "new"


def test_waiting_in_vain_ends_in_a_computation_of_ones_own(open_cache: Callable[..., CacheService]) -> None:
    import threading

    cache = open_cache(None, Limits(wait_s=0.05))
    started, go_on = threading.Event(), threading.Event()

    def hang() -> str:
        started.set()
        assert go_on.wait(20)
        return "late"

    leader = threading.Thread(target=lambda: cache.wrap(KEY, hang))
    leader.start()
    assert started.wait(10)
    assert cache.wrap(KEY, lambda: "mine") == "mine"
    go_on.set()
    leader.join(10)


def test_a_value_that_came_just_before_the_lock_is_used_and_the_lock_given_back(
    valkey_url: str, open_cache: Callable[..., CacheService]
) -> None:
    cache = open_cache(valkey_url)
    cache.set(KEY, "theirs")
    # What a caller wishes whose first look, a moment ago, found nothing.
    wish = Wish(KEY, lambda: pytest.fail("computed twice"), 300, "analytics", (), None)
    entry = cache._computer.fulfil(wish)
    assert (entry.value, entry.state) == ("theirs", "HIT")
    assert redis.Redis.from_url(valkey_url).keys("pulse-lock:*") == []
