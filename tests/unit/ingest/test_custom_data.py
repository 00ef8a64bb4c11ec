"""What custom data may hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.ingest.custom_data import MAX_BYTES, MAX_DEPTH, check_custom_data


def nested(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"a":1,"a":2}',
        b'{"price":-12.5e10,"small":1e-20,"large":1e300,"tiny":1e-300}',
        b'{"digits":-' + b"9" * 300 + b',"fraction":1.' + b"3" * 299 + b"}",
        b'{"id":"' + b"9" * 400 + b'"}',
        b'{"text":"\\\\u0000 is how JSON spells NUL"}',
        b'{"text":"1e999999"}',
        b'{"emoji":"\\ud83d\\ude00"}',
        b'{"list":[' + b"[]," * 200 + b"[]]}",
        nested(MAX_DEPTH),
        b'{"a":"' + b"x" * (MAX_BYTES - 8) + b'"}',
    ],
)
def test_good(data: bytes) -> None:
    assert check_custom_data(data) is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"1", "object"),
        (b"true", "object"),
        (b'{"a":"' + b"x" * (MAX_BYTES - 7) + b'"}', "at most 5120 bytes"),
        (b'{"a":"\\u0000"}', "NUL"),
        (b'{"a":[{"b":["x\\u0000y"]}]}', "NUL"),
        (b'{"a\\u0000":1}', "NUL"),
        (b'{"a":{"b\\u0000":1}}', "NUL"),
        (b'{"a":1e999999}', "1e300"),
        (b'{"a":-1E+00301}', "1e300"),
        (b'{"a":1e-999999}', "1e300"),
        (b'{"a":1.5e301}', "1e300"),
        (b'{"a":' + b"9" * 301 + b"}", "300 digits"),
        (b'{"a":0.' + b"3" * 300 + b"}", "300 digits"),
        (b'{"a":' + b"9" * 301 + b"e10}", "300 digits"),
        (b'{"a":1e' + b"9" * 5000 + b"}", "1e300"),
        (nested(MAX_DEPTH + 1), "32 levels"),
        (b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}", "32 levels"),
    ],
)
def test_bad(data: bytes, problem: str) -> None:
    message = check_custom_data(data)
    assert message is not None and problem in message


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def has_nul(value: object) -> bool:
    if isinstance(value, dict):
        return any("\x00" in key or has_nul(item) for key, item in value.items())
    return any(map(has_nul, value)) if isinstance(value, list) else isinstance(value, str) and "\x00" in value


@given(st.dictionaries(st.text(), _JSON))
def test_only_nul_bad_numbers_and_size_refuse_an_ordinary_object(value: dict[str, object]) -> None:
    data = json.dumps(value).encode()
    message = check_custom_data(data)
    if has_nul(value) and len(data) <= MAX_BYTES:
        assert message is not None
    elif message is not None:
        assert "1e300" in message or "bytes" in message or "levels" in message
