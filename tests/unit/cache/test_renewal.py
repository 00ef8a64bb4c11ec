"""A value in demand is computed anew in the background before its time is over, once for all."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pulse.cache import CacheService
from pulse.cache.limits import Limits

KEY = "analytics:project:123:7d"


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
        raise ConnectionError("the database is away")

    (renew,) = _renew(cache, fail)
    renew()
    assert cache.get(KEY) == "old"
    (renew,) = _renew(cache, lambda: "new")
    renew()
    assert cache.get(KEY) == "new"
