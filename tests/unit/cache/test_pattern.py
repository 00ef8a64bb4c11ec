"""Memory must accept exactly what Redis accepts, so Redis itself is asked."""

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulse.cache.pattern import compile_pattern

ALPHABET = "ab-c:*?[]^!\\é{\n"


@pytest.fixture(scope="module")
def client(valkey_server: str) -> redis.Redis:
    return redis.Redis.from_url(valkey_server)


@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
# The cache takes no empty key, the one that Redis lets `**` not match.
@given(pattern=st.text(ALPHABET, max_size=8), key=st.text(ALPHABET, min_size=1, max_size=8))
def test_any_pattern_accepts_what_redis_accepts(client: redis.Redis, pattern: str, key: str) -> None:
    client.flushdb()
    client.set(key, 1)
    accepted = client.keys(pattern.encode()) == [key.encode()]
    assert bool(compile_pattern(pattern).fullmatch(key.encode())) == accepted


@pytest.mark.parametrize(
    ("pattern", "key", "accepted"),
    [("a[b-c]", "ac", True), ("a[c-b]", "ac", True), ("a[^b]", "ab", False), ("a[]", "a", False), (r"a\*", "ab", False),
     ("a[b", "ab", True), ("?", "é", False), ("??", "é", True), ("a*", "a\nb", True), ("a\\", "a\\", True),
     ("[:-é", "?", False)],
)  # fmt: skip
def test_the_corner_cases(client: redis.Redis, pattern: str, key: str, accepted: bool) -> None:
    client.flushdb()
    client.set(key, 1)
    assert (client.keys(pattern.encode()) == [key.encode()]) is accepted
    assert bool(compile_pattern(pattern).fullmatch(key.encode())) is accepted
