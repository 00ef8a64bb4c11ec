"""The bounds of the in-process side."""

import time

from pulse.cache.envelope import seal
from pulse.cache.memory import MemoryCache

ROOMY = 10_000_000


def test_entries_are_bounded_and_the_least_used_goes_first() -> None:
    cache = MemoryCache(3, ROOMY)
    for key in "abc":
        cache.set(key, seal(key, 60), 60)
    assert cache.get("a") is not None
    cache.set("d", seal("d", 60), 60)
    assert [key for key in "abcd" if cache.has(key)] == ["a", "c", "d"]
    assert (len(cache), cache.evictions) == (3, 1)


def test_bytes_are_bounded_whatever_is_stored() -> None:
    cache = MemoryCache(1000, 100_000)
    for number in range(500):
        cache.set(f"k:{number % 150}", seal(b"x" * (number * 7 % 3000), 60), 60)
        assert cache.size_bytes <= 100_000
    assert cache.evictions > 0
    cache.clear()
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_deleting_and_replacing_give_the_room_back() -> None:
    cache = MemoryCache(10, ROOMY)
    cache.set("a", seal(b"x" * 1000, 60), 60)
    cache.set("a", seal(b"x", 60), 60)
    assert cache.size_bytes < 1000
    assert cache.delete("a")
    assert cache.size_bytes == 0


def test_what_is_larger_than_all_the_room_replaces_nothing_but_itself() -> None:
    cache = MemoryCache(10, 2_000)
    cache.set("a", seal(1, 60), 60)
    cache.set("b", seal(1, 60), 60)
    assert cache.set("b", seal(b"x" * 5000, 60), 60) is False
    assert (cache.has("a"), cache.has("b")) == (True, False)


def test_an_entry_ends_by_itself() -> None:
    cache = MemoryCache(10, ROOMY)
    cache.set("a", seal(1, 60), 1e-9)
    assert (cache.get("a"), cache.delete("a"), cache.size_bytes) == (None, False, 0)
    assert cache.add("a", seal(2, 60), 60)
    found = cache.get("a")
    assert found is not None and found.open() == 2 and found.is_fresh(time.time())
    assert not cache.add("a", seal(3, 60), 60)
