"""A Redis that hangs, dies, refuses or returns while the cache is in use."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pulse.cache import CacheService
from pulse.cache.limits import Limits

KEY = "analytics:project:123:7d"

OpenCache = Callable[..., CacheService]
Until = Callable[[Callable[[], object]], None]


def _is_on_redis(cache: CacheService) -> bool:
    return bool(cache.get_stats()["isRedisAvailable"])


def _states(cache: CacheService) -> list[str]:
    return [item["state"] for item in cache.get_stats()["failover"]["history"]]


def test_memory_takes_over_within_the_request_and_hands_back(
    server: Any, open_cache: OpenCache, until: Until
) -> None:
    cache = open_cache(server.url)
    cache.set(KEY, "in redis")
    server.kill()
    assert cache.wrap(KEY, lambda: "computed") == "computed"
    assert cache.wrap(KEY, lambda: pytest.fail("computed twice")) == "computed"
    stats = cache.get_stats()
    assert (stats["isRedisAvailable"], stats["redisInfo"], stats["memoryCacheSize"]) == (False, None, 1)
    server.start()
    until(lambda: _is_on_redis(cache))
    cache.set(KEY, "again")
    assert server.command("EXISTS", KEY) == 1
    assert cache.get_stats()["memoryCacheSize"] == 0
    assert _states(cache) == ["redis", "memory", "redis"]
    assert "Error" in cache.get_stats()["failover"]["history"][1]["reason"]


def test_a_hanging_redis_costs_one_timeout_not_one_a_request(server: Any, open_cache: OpenCache) -> None:
    # A timeout that a request in its path could not hide: two of them end the test.
    cache = open_cache(server.url, Limits(socket_timeout_s=3, probe_first_s=60))
    cache.set(KEY, 1)
    server.hang()
    began = time.monotonic()
    for number in range(50):
        assert cache.wrap(f"{KEY}:{number}", lambda: 2) == 2
    assert time.monotonic() - began < 2 * 3
    assert _states(cache) == ["redis", "memory"]


@pytest.mark.parametrize("change", ["delete", "delete_pattern", "set", "wrap"])
def test_what_changed_during_the_outage_does_not_come_back(
    server: Any, open_cache: OpenCache, until: Until, change: str
) -> None:
    cache = open_cache(server.url)
    cache.set(KEY, "old")
    cache.set("realtime:project:1", "untouched")
    server.hang()
    if change == "delete":
        cache.delete(KEY)
    elif change == "delete_pattern":
        cache.delete_pattern("analytics:project:123:*")
    elif change == "set":
        cache.set(KEY, "new")
    else:
        cache.wrap(KEY, lambda: "new")
    assert not _is_on_redis(cache)
    server.wake()
    until(lambda: _is_on_redis(cache))
    assert cache.get(KEY) is None
    assert cache.get("realtime:project:1") == "untouched"


def test_more_deletions_than_the_journal_holds_are_still_done(
    server: Any, open_cache: OpenCache, until: Until
) -> None:
    cache = open_cache(server.url, Limits(journal_keys=3, probe_first_s=0.02, probe_last_s=0.05))
    keys = [f"analytics:project:{number}" for number in range(20)]
    for key in [*keys, "realtime:project:1"]:
        cache.set(key, "old")
    server.hang()
    for key in keys:
        cache.delete(key)
    server.wake()
    until(lambda: _is_on_redis(cache))
    assert [key for key in keys if cache.get(key) is not None] == []
    assert cache.get("realtime:project:1") == "old"


@pytest.mark.parametrize(
    ("refuse", "allow"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    ],
    ids=["read-only", "full"],
)
def test_a_redis_that_refuses_writes_is_away_until_it_takes_them(
    server: Any, open_cache: OpenCache, until: Until, refuse: tuple[str, ...], allow: tuple[str, ...]
) -> None:
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    cache = open_cache(server.url)
    server.command(*refuse)
    cache.set(KEY, 1)
    assert cache.get(KEY) == 1
    assert _states(cache) == ["redis", "memory"]
    server.command(*allow)
    until(lambda: _is_on_redis(cache))


def test_a_redis_with_no_client_to_spare_is_away(server: Any, open_cache: OpenCache) -> None:
    server.kill()
    server.start()
    held = redis.Redis.from_url(server.url)
    held.config_set("maxclients", 1)
    cache = open_cache(server.url)
    cache.set(KEY, 1)
    assert cache.get(KEY) == 1
    assert not _is_on_redis(cache)
    held.close()


def test_a_start_without_redis_goes_to_memory_and_finds_it_later(
    server: Any, open_cache: OpenCache, until: Until
) -> None:
    server.kill()
    cache = open_cache(server.url)
    assert cache.wrap(KEY, lambda: 1) == 1
    server.start()
    until(lambda: _is_on_redis(cache))


def test_a_restart_between_two_requests_is_not_a_failure(server: Any, open_cache: OpenCache) -> None:
    cache = open_cache(server.url)
    cache.set(KEY, 1)
    server.kill()
    server.start()
    assert cache.get(KEY) is None
    assert _states(cache) == ["redis"]


def test_threads_go_on_through_hangs_kills_and_restarts(server: Any, open_cache: OpenCache, until: Until) -> None:
    cache = open_cache(server.url)
    stop = threading.Event()
    failures: list[BaseException] = []
    done = [0]

    def work(number: int) -> None:
        while not stop.is_set():
            try:
                key = f"analytics:project:{number}:{done[0] % 20}"
                assert cache.wrap(key, lambda key=key: key) == key
                assert cache.get(key) in (key, None)
                cache.delete(key)
                done[0] += 1
                stop.wait(0.001)  # eight that never pause leave little to the one that looks whether Redis is back
            except BaseException as error:
                failures.append(error)
                return

    def progress() -> None:
        before = done[0]
        until(lambda: failures or done[0] > before + 50)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        for disturb, mend in [(server.hang, server.wake), (server.kill, server.start)]:
            progress()
            disturb()
            until(lambda: not _is_on_redis(cache))
            progress()
            mend()
            until(lambda: _is_on_redis(cache))
            progress()
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert failures == []


def test_what_was_computed_across_the_hand_back_is_not_kept(
    server: Any, open_cache: OpenCache, until: Until
) -> None:
    cache = open_cache(server.url)
    server.hang()
    assert cache.get(KEY) is None

    def compute() -> str:
        server.wake()
        until(lambda: _is_on_redis(cache))
        return "begun without redis"

    assert cache.wrap(KEY, compute) == "begun without redis"
    assert cache.get(KEY) is None
