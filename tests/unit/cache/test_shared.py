"""A cluster and a sentinel, which differ from one server in where keys and locks lie."""

from collections.abc import Callable

import pytest

from pulse.cache import CacheService


@pytest.mark.parametrize("kind", ["cluster_url", "sentinel_url"])
def test_other_kinds_of_redis_keep_the_contract(
    kind: str, request: pytest.FixtureRequest, open_cache: Callable[..., CacheService]
) -> None:
    cache = open_cache(request.getfixturevalue(kind))
    keys = [f"analytics:project:{number}:7d" for number in range(40)] + ["a:{b}:c", "{}x", "x{", "}{y}"]
    for key in keys:
        assert cache.wrap_entry(key, lambda key=key: key).state == "MISS"
        assert cache.wrap_entry(key, lambda: pytest.fail("computed twice")).value == key
    assert cache.delete(keys[0]) is True
    assert cache.wrap(keys[1] + ":x", lambda: cache.delete(keys[1] + ":x")) is False
    assert cache.get(keys[1] + ":x") is None
    assert cache.delete_pattern("analytics:project:*") == 39
    assert [key for key in keys if cache.get(key) is not None] == keys[40:]
    stats = cache.get_stats()
    assert stats["isRedisAvailable"] is True
    assert stats["redisInfo"]["connectedClients"] > 0
