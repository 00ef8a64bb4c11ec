"""The contract of the cache, which memory, Redis, and memory in place of a Redis that is away must all keep."""

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
