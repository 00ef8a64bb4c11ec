"""The contract of the cache, which memory, Redis, and memory in place of a Redis that is away must all keep."""

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from flask import Flask

from pulse.cache import CacheService
from pulse.cache.limits import Limits
from pulse.config import Config

KEY = "analytics:project:123:7d"


class Down(Exception):
    """What a database that is away raises."""


@pytest.fixture(params=["memory", "redis", "away"])
def cache(request: pytest.FixtureRequest, open_cache: Callable[..., CacheService]) -> CacheService:
    if request.param == "memory":
        return open_cache(None)
    if request.param == "redis":
        return open_cache(request.getfixturevalue("valkey_url"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return open_cache(f"redis://127.0.0.1:{port}/0")


@pytest.mark.parametrize(
    "value",
    [None, 0, -(2**63), 1.5, True, "", "é☃", b"\x00\xff" * 1000, [1, [2, {}]], {"a": {"b": [None]}},
     datetime(2026, 3, 1, 12, 30, tzinfo=UTC)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_comes_back_as_it_was(cache: CacheService, value: Any) -> None:
    cache.set(KEY, value)
    assert cache.get(KEY, default="absent") == value
    assert cache.delete(KEY) is True
    assert cache.get(KEY, default="absent") == "absent"
    assert cache.delete(KEY) is False


def test_a_computed_value_is_the_same_as_the_kept_one(cache: CacheService) -> None:
    class Report(msgspec.Struct):
        rows: tuple[int, ...]

    first = cache.wrap(KEY, lambda: Report((1, 2)))
    assert first == cache.wrap(KEY, lambda: pytest.fail("computed twice")) == {"rows": [1, 2]}


def test_changing_a_returned_value_changes_nothing_kept(cache: CacheService) -> None:
    cache.wrap(KEY, lambda: {"rows": []})["rows"].append(1)
    cache.get(KEY)["rows"].append(2)
    assert cache.get(KEY) == {"rows": []}


@pytest.mark.parametrize(
    "value", [object(), {"a": lambda: 0}, 2**64, "\ud800"], ids=["object", "function", "int", "str"]
)
def test_what_cannot_be_kept_is_a_type_error(cache: CacheService, value: Any) -> None:
    with pytest.raises(TypeError, match="cached value"):
        cache.set(KEY, value)
    with pytest.raises(TypeError, match="cached value"):
        cache.wrap(KEY, lambda: value)
    assert cache.wrap(KEY, lambda: "next") == "next"


def test_none_is_a_value(cache: CacheService) -> None:
    assert cache.wrap(KEY, lambda: None) is None
    assert cache.wrap_entry(KEY, lambda: pytest.fail("computed twice")).state == "HIT"


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("analytics:project:1:*", {"analytics:project:1:7d", "analytics:project:1:é"}),
        ("analytics:project:?:7d", {"analytics:project:1:7d", "analytics:project:2:7d"}),
        ("analytics:project:[2-3]:7d", {"analytics:project:2:7d"}),
        (r"analytics:project:1\*:[[]x]", {"analytics:project:1*:[x]"}),
        (r"a:{b}*", {"a:{b}:c"}),
        ("nothing:*", set()),
        ("", set()),
    ],
)
def test_delete_pattern_is_a_redis_glob(cache: CacheService, pattern: str, gone: set[str]) -> None:
    keys = {"analytics:project:1:7d", "analytics:project:2:7d", "analytics:project:12:7d", "analytics:project:1:é",
            "analytics:project:1*:[x]", "a:{b}:c"}  # fmt: skip
    for key in keys:
        cache.set(key, 1)
    if not pattern:
        with pytest.raises(TypeError, match="not empty"):
            cache.delete_pattern(pattern)
        return
    assert cache.delete_pattern(pattern) == len(gone)
    assert {key for key in keys if cache.get(key) is None} == gone


def test_more_keys_than_one_scan_returns_are_deleted(cache: CacheService) -> None:
    for number in range(1200):
        cache.set(f"analytics:project:{number}", number)
    cache.set("realtime:project:1", 1)
    assert cache.delete_pattern("analytics:*") == 1200
    assert cache.get("realtime:project:1") == 1


def test_a_hundred_callers_are_one_computation(cache: CacheService) -> None:
    started, go_on = threading.Event(), threading.Event()
    calls: list[int] = []
    states: list[str] = []

    def compute() -> str:
        calls.append(1)
        started.set()
        assert go_on.wait(10)
        return "value"

    def call() -> None:
        entry = cache.wrap_entry(KEY, compute)
        assert entry.value == "value"
        states.append(entry.state)

    threads = [threading.Thread(target=call) for _ in range(100)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(calls) == 1
    assert sorted(states) == ["HIT"] * 99 + ["MISS"]


def _expire(cache: CacheService, key: str = KEY, value: Any = "old") -> None:
    """Put a value under a key whose ttl has passed."""
    entry = cache.wrap_entry(key, lambda: value, ttl=1e-9)
    assert entry.state == "MISS"


def test_others_get_the_old_value_while_one_computes(cache: CacheService) -> None:
    _expire(cache)
    started, go_on = threading.Event(), threading.Event()

    def compute() -> str:
        started.set()
        assert go_on.wait(10)
        return "new"

    leader = threading.Thread(target=lambda: cache.wrap(KEY, compute))
    leader.start()
    assert started.wait(10)
    entry = cache.wrap_entry(KEY, lambda: pytest.fail("computed twice"))
    assert (entry.value, entry.state) == ("old", "STALE")
    go_on.set()
    leader.join(10)
    assert cache.get(KEY) == "new"


def test_a_value_past_its_ttl_is_no_longer_got(cache: CacheService) -> None:
    _expire(cache)
    assert cache.get(KEY) is None
    assert cache.wrap_entry(KEY, lambda: "new").state == "MISS"


def test_the_old_value_answers_for_a_database_that_is_away(cache: CacheService) -> None:
    _expire(cache)

    def fail() -> None:
        raise Down

    entry = cache.wrap_entry(KEY, fail, stale_on=(Down,))
    assert (entry.value, entry.state) == ("old", "STALE")
    assert entry.stored_at <= entry.fresh_until
    with pytest.raises(Down):
        cache.wrap(KEY, fail)
    with pytest.raises(Down):
        cache.wrap("analytics:project:123:30d", fail, stale_on=(Down,))
    assert cache.wrap_entry(KEY, lambda: "new", stale_on=(Down,)).state == "MISS"


def test_a_failure_is_not_kept_and_a_waiting_caller_tries_again(cache: CacheService) -> None:
    started, go_on = threading.Event(), threading.Event()
    outcome: list[str] = []

    def fail() -> None:
        started.set()
        assert go_on.wait(10)
        raise Down

    def lead() -> None:
        with pytest.raises(Down):
            cache.wrap(KEY, fail)

    leader = threading.Thread(target=lead)
    leader.start()
    assert started.wait(10)
    follower = threading.Thread(target=lambda: outcome.append(cache.wrap(KEY, lambda: "mine")))
    follower.start()
    go_on.set()
    leader.join(10)
    follower.join(10)
    assert outcome == ["mine"]
    assert cache.get(KEY) == "mine"


@pytest.mark.parametrize("forget", [lambda c: c.delete(KEY), lambda c: c.delete_pattern("analytics:project:123:*")])
def test_what_was_computed_before_a_deletion_is_not_kept(
    cache: CacheService, forget: Callable[[CacheService], object]
) -> None:
    def compute() -> str:
        forget(cache)
        return "read before the deletion"

    assert cache.wrap(KEY, compute) == "read before the deletion"
    assert cache.wrap(KEY, lambda: "after") == "after"


def test_a_value_set_during_a_computation_stays(cache: CacheService) -> None:
    def compute() -> str:
        cache.set(KEY, "set")
        return "computed"

    cache.wrap(KEY, compute)
    assert cache.get(KEY) == "set"


def test_a_computation_that_needs_itself_is_an_error_not_a_deadlock(cache: CacheService) -> None:
    with pytest.raises(RuntimeError, match="itself"):
        cache.wrap(KEY, lambda: cache.wrap(KEY, lambda: 1))


def test_counters_tell_what_helped(cache: CacheService) -> None:
    for _ in range(4):
        cache.wrap(KEY, lambda: 1)
    cache.wrap("x:1", lambda: 1, namespace="realtime")
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["stale"], stats["hitRate"]) == (3, 2, 0, "60.00%")
    assert stats["byNamespace"]["analytics"]["hitRate"] == "75.00%"
    assert cache.counters()["realtime"].misses == 1
    cache.reset_stats()
    assert cache.counters() == {}
    assert cache.get_stats()["hitRate"] == "0.00%"


def test_stats_name_the_side_in_use(open_cache: Callable[..., CacheService], valkey_url: str) -> None:
    alone, shared = open_cache(None), open_cache(valkey_url)
    for found in (alone, shared):
        found.set(KEY, 1)
        found.get(KEY)
    stats = alone.get_stats()
    assert (stats["isRedisAvailable"], stats["memoryCacheSize"], stats["redisInfo"]) == (False, 1, None)
    stats = shared.get_stats()
    assert (stats["isRedisAvailable"], stats["memoryCacheSize"]) == (True, 0)
    info = stats["redisInfo"]
    assert {"usedMemory", "connectedClients", "totalConnections", "hitRate"} <= set(info)
    assert info["keys"] >= 1  # with what keeps computations apart


@pytest.mark.parametrize(
    ("key", "ttl", "error"),
    [
        ("", 1, TypeError),
        (None, 1, TypeError),
        ("k" * 2000, 1, ValueError),
        (KEY, 0, ValueError),
        (KEY, -1, ValueError),
    ],
)
def test_bad_keys_and_ttls_are_refused(cache: CacheService, key: Any, ttl: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        cache.set(key, 1, ttl)


def test_a_large_value_is_returned_and_not_kept(open_cache: Callable[..., CacheService]) -> None:
    cache = open_cache(None, Limits(value_bytes=100))
    assert cache.wrap(KEY, lambda: b"x" * 101) == b"x" * 101
    assert cache.get(KEY) is None
    with pytest.raises(ValueError, match="may have 100"):
        cache.set(KEY, b"x" * 101)


def test_an_uninitialised_cache_says_so() -> None:
    with pytest.raises(RuntimeError, match="init_app"):
        CacheService().get(KEY)


def test_flask_caching_carries_it(valkey_url: str) -> None:
    app = Flask("test")
    cache = CacheService()
    cache.init_app(app, replace(Config(), redis_url=valkey_url))
    names = {base.__name__ for found in app.extensions["cache"].values() for base in type(found).__mro__}
    assert {"SimpleCache", "RedisCache"} <= names
    cache.close()


def test_pickles_in_redis_are_never_opened(open_cache: Callable[..., CacheService], valkey_url: str) -> None:
    import pickle

    import redis

    client = redis.Redis.from_url(valkey_url)
    cache = open_cache(valkey_url)
    pickled = b"!" + pickle.dumps(SimpleNamespace(a=1))
    for_ever = b"\xc1\x01\x93\x01\xcb\x7f\xef\xff\xff\xff\xff\xff\xff"  # fresh, and then damaged text
    foreign: list[Any] = [pickled, b"\xc1\x01garbage", for_ever + b"\xa2\xff\xff", b"7"]
    for blob in foreign:
        client.set(KEY, blob)
        assert cache.get(KEY) is None
        assert cache.wrap(KEY, lambda: "computed") == "computed"
    client.delete(KEY)
    client.lpush(KEY, "a list")
    assert cache.get(KEY) is None
    assert cache.wrap_entry(KEY, lambda: "computed").state == "MISS"
    assert cache.get_stats()["isRedisAvailable"] is True


def test_a_value_of_an_earlier_version_is_computed_anew(cache: CacheService) -> None:
    def ask(value: str, version: float) -> tuple[str, str]:
        entry = cache.wrap_entry(KEY, lambda: value, ttl=1000, version=version, stale_on=(Down,))
        return entry.value, entry.state

    def fail() -> str:
        raise Down

    assert ask("first", 0.0) == ("first", "MISS")
    assert ask("second", 2.5) == ("second", "MISS")
    assert ask("third", 2.5) == ("second", "HIT")
    # Who does not know of the change yet takes what was computed after it.
    assert ask("third", 1.0) == ("second", "HIT")
    entry = cache.wrap_entry(KEY, fail, ttl=1000, version=3.0, stale_on=(Down,))
    assert (entry.value, entry.state) == ("second", "STALE")


def _renew(cache: CacheService, compute: Callable[[], Any], ttl: float = 100.0) -> list[Callable[[], None]]:
    """Ask for a key; return what it wants done in the background."""
    wanted: list[Callable[[], None]] = []
    entry = cache.wrap_entry(KEY, compute, ttl, in_background=wanted.append)
    assert (entry.value, entry.state) == ("old", "HIT")
    return wanted


def test_a_value_whose_time_ends_soon_is_renewed_beside_its_callers(open_cache: Callable[..., CacheService]) -> None:
    cache = open_cache(None, Limits(renew_share=1.0))
    cache.set(KEY, "old", ttl=50)
    (renew,) = _renew(cache, lambda: "new")
    assert cache.get(KEY) == "old"
    renew()
    assert cache.get(KEY) == "new"


def test_a_value_with_time_left_is_not_renewed(cache: CacheService) -> None:
    cache.set(KEY, "old", ttl=50)
    assert _renew(cache, lambda: pytest.fail("computed"), ttl=50) == []


@pytest.mark.parametrize("redis", [False, True])
def test_a_value_is_renewed_once_for_all(
    open_cache: Callable[..., CacheService], valkey_url: str, redis: bool
) -> None:
    caches = [open_cache(valkey_url if redis else None, Limits(renew_share=1.0)) for _ in range(2)]
    if not redis:
        caches[1] = caches[0]
    caches[0].set(KEY, "old", ttl=50)
    started, go_on = threading.Event(), threading.Event()

    def compute() -> str:
        started.set()
        assert go_on.wait(10)
        return "new"

    (first,) = _renew(caches[0], compute)
    (second,) = _renew(caches[1], lambda: pytest.fail("computed twice"))
    (late,) = _renew(caches[1], lambda: pytest.fail("computed a third time"))
    renewing = threading.Thread(target=first)
    renewing.start()
    assert started.wait(10)
    second()
    # In the process that renews it nobody even tries.
    assert _renew(caches[0], lambda: pytest.fail("computed twice")) == []
    go_on.set()
    renewing.join(10)
    late()
    assert [cache.get(KEY) for cache in caches] == ["new", "new"]


def test_a_value_that_could_not_be_renewed_stays(open_cache: Callable[..., CacheService]) -> None:
    cache = open_cache(None, Limits(renew_share=1.0))
    cache.set(KEY, "old", ttl=50)

    def fail() -> None:
        raise Down

    (renew,) = _renew(cache, fail)
    renew()
    assert cache.get(KEY) == "old"
    (renew,) = _renew(cache, lambda: "new")
    renew()
    assert cache.get(KEY) == "new"
