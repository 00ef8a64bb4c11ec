"""One computation at a time for a key, on each side: who leads, who waits, who gets the old value."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pulse.cache import CacheService

KEY = "analytics:project:123:7d"


class Down(Exception):
    """What a database that is away raises."""


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
    # Nobody knows: what is kept may lack a change, and so may what is computed now.
    entry = cache.wrap_entry(KEY, fail, ttl=1000, version=math.inf, stale_on=(Down,))
    assert (entry.value, entry.state) == ("second", "STALE")
    assert ask("third", math.inf) == ("third", "MISS")
    assert ask("fourth", 2.5) == ("fourth", "MISS")
