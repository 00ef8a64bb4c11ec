"""The wire form: every spelling, every limit, every kind of rubbish."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulse.errors import BadRequest, Invalid, PulseError, TooLarge
from pulse.ingest.event import WireEvent, decode_batch, decode_event
from pulse.ingest.page import Utm

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


def decode(**fields: Any) -> WireEvent:
    return decode_event(json.dumps({"event_type": "click"} | fields).encode(), NOW)


def refusal(body: bytes | dict[str, Any]) -> tuple[str, str]:
    """Return field and message of the refusal."""
    if isinstance(body, dict):
        body = json.dumps({"event_type": "click"} | body).encode()
    with pytest.raises(Invalid) as caught:
        decode_event(body, NOW)
    (detail,) = caught.value.details
    assert detail.field in caught.value.message
    return detail.field, detail.message


SPELLINGS = {
    "event_type": (["type", "eventType"], "signup", "signup"),
    "event_name": (["eventName"], "Sign up", "Sign up"),
    "url": ([], "https://example.com/", "https://example.com/"),
    "referrer": ([], "https://example.org/", "https://example.org/"),
    "session_id": (["sessionId"], "s-1", "s-1"),
    "visitor_id": (["visitorId"], "v-1", "v-1"),
    "user_agent": (["userAgent"], "curl/8", "curl/8"),
    "screen_width": (["screenWidth"], 1920, 1920),
    "screen_height": (["screenHeight"], 0, 0),
    "viewport_width": (["viewportWidth"], 100_000, 100_000),
    "viewport_height": (["viewportHeight"], 800, 800),
    "language": ([], "en-US", "en-US"),
    "timezone": ([], "Europe/Berlin", "Europe/Berlin"),
    "engagement_ms": (["engagementMs"], 86_400_000, 86_400_000),
    "event_id": (["eventId"], ID, ID),
}


@pytest.mark.parametrize(
    ("field", "spelling", "value", "expected"),
    [
        (field, spelling, value, expected)
        for field, (others, value, expected) in SPELLINGS.items()
        for spelling in [field, *others]
    ],
)
def test_every_spelling(field: str, spelling: str, value: Any, expected: Any) -> None:
    body = {spelling: value} if field == "event_type" else {"type": "click", spelling: value}
    assert getattr(decode_event(json.dumps(body).encode(), NOW), field) == expected


@pytest.mark.parametrize("field", ["custom_data", "customData"])
def test_custom_data_is_kept_byte_by_byte(field: str) -> None:
    event = decode_event(b'{"type":"x","%s": {"plan" : 1.10, "plan":"\xc3\xa9"} }' % field.encode(), NOW)
    assert isinstance(event.custom_data, msgspec.Raw)
    assert bytes(event.custom_data) == b'{"plan" : 1.10, "plan":"\xc3\xa9"}'


@pytest.mark.parametrize("field", ["utm_params", "utmParams"])
@pytest.mark.parametrize("prefix", ["", "utm_"])
def test_utm_params(field: str, prefix: str) -> None:
    names = ("source", "medium", "campaign", "term", "content")
    params = {prefix + name: name.upper() for name in names} | {"utm_id": 7}
    assert decode(**{field: params}).utm == Utm("SOURCE", "MEDIUM", "CAMPAIGN", "TERM", "CONTENT")
    assert decode(**{field: {"utmSource": "x"}}).utm == Utm("x")
    assert decode(**{field: {}}).utm is None


@pytest.mark.parametrize("field", ["screen_resolution", "screenResolution"])
def test_screen_resolution(field: str) -> None:
    event = decode(**{field: "1920x1080"})
    assert (event.screen_width, event.screen_height) == (1920, 1080)
    event = decode(**{field: "1 x 1", "screen_width": 800, "screen_height": 600})
    assert (event.screen_width, event.screen_height) == (800, 600), "numbers count before text"


def test_null_and_empty_text_are_absent() -> None:
    fields = [*SPELLINGS, "timestamp", "utm_params", "custom_data", "screenResolution"]
    event = decode_event(json.dumps(dict.fromkeys(fields) | {"type": "click"}).encode(), NOW)
    assert event == WireEvent("click")
    texts = ["event_name", "url", "referrer", "session_id", "visitor_id", "user_agent", "language", "timezone"]
    empty = dict.fromkeys([*texts, "timestamp", "event_id", "screenResolution"], "")
    assert decode_event(json.dumps(empty | {"type": "click"}).encode(), NOW) == WireEvent("click")


def test_unknown_fields_are_ignored() -> None:
    assert decode(page_title="x", nested={"a": [1, None]}, nul="\x00") == WireEvent("click")


def test_the_type_may_be_left_out_with_a_name_only() -> None:
    assert decode_event(b'{"event_name":"signup"}').event_type == "custom"
    assert refusal(b'{"url":"https://example.com/"}')[0] == "event_type"
    assert refusal(b'{"event_type":""}')[0] == "event_type"


@pytest.mark.parametrize(
    ("fields", "field", "limit"),
    [
        ({"event_type": "x" * 65}, "event_type", "64"),
        ({"event_type": 1}, "event_type", "text"),
        ({"type": True}, "type", "text"),
        ({"eventName": "x" * 256}, "eventName", "255"),
        ({"url": "x" * 2049}, "url", "2048"),
        ({"url": ["x"]}, "url", "text"),
        ({"referrer": "x" * 2049}, "referrer", "2048"),
        ({"session_id": "x" * 256}, "session_id", "255"),
        ({"session_id": 12}, "session_id", "text"),
        ({"user_agent": "x" * 1025}, "user_agent", "1024"),
        ({"timezone": "x" * 65}, "timezone", "64"),
        ({"screen_width": -1}, "screen_width", "0 to 100000"),
        ({"screen_width": 100_001}, "screen_width", "0 to 100000"),
        ({"screenHeight": "1080"}, "screenHeight", "0 to 100000"),
        ({"viewport_width": True}, "viewport_width", "0 to 100000"),
        ({"viewportHeight": 1.5}, "viewportHeight", "0 to 100000"),
        ({"viewport_width": 10**30}, "viewport_width", "0 to 100000"),
        ({"engagement_ms": 86_400_001}, "engagement_ms", "86400000"),
        ({"engagementMs": -1}, "engagementMs", "86400000"),
        ({"screenResolution": "1920"}, "screenResolution", "1920x1080"),
        ({"screen_resolution": "999999x1"}, "screen_resolution", "100000"),
        ({"screenResolution": 1920}, "screenResolution", "1920x1080"),
        ({"event_id": "123"}, "event_id", "UUID"),
        ({"eventId": 5}, "eventId", "UUID"),
        ({"utm_params": "source"}, "utm_params", "object"),
        ({"utm_params": {"source": 1}}, "utm_params.source", "255"),
        ({"utmParams": {"utm_term": "x" * 256}}, "utmParams.utm_term", "255"),
        ({"custom_data": []}, "custom_data", "object"),
        ({"custom_data": "{}"}, "custom_data", "object"),
        ({"customData": {"a": "x" * 5200}}, "customData", "5120"),
        ({"custom_data": {"a": {"b\x00": 1}}}, "custom_data", "NUL"),
        ({"event_type": "a\x00"}, "event_type", "NUL"),
        ({"url": "https://example.com/\x00"}, "url", "NUL"),
        ({"utm_params": {"source": "\x00"}}, "utm_params.source", "NUL"),
        ({"referrer": "\ud800"}, "referrer", "surrogate"),
        ({"session_id": "a\udfffb"}, "session_id", "surrogate"),
        ({"language": "\udc00\ud800"}, "language", "surrogate"),
        ({"custom_data": {"\ud83d": 1}}, "custom_data", "surrogate"),
        ({"timestamp": True}, "timestamp", "ISO 8601"),
        ({"timestamp": []}, "timestamp", "ISO 8601"),
    ],
)
def test_a_bad_field_is_named_with_its_limit(fields: dict[str, Any], field: str, limit: str) -> None:
    found, message = refusal(fields)
    assert found == field
    assert limit in message


def test_text_that_only_looks_like_nul_or_surrogates_is_fine() -> None:
    event = decode(event_name=r"\u0000 \ud800", url="\U0001f600", custom_data={"a": r"\u0000 \ud800"})
    assert (event.event_name, event.url) == (r"\u0000 \ud800", "\U0001f600")


@pytest.mark.parametrize(
    "value",
    [
        "0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B",
        "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b",
        "urn:uuid:0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "{0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}",
        ID,
    ],
)
def test_event_ids_have_one_spelling_inside(value: str) -> None:
    assert decode(event_id=value).event_id == ID


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03-04T11:30:00Z", NOW - timedelta(minutes=30)),
        ("2026-03-04T11:30:00.250Z", NOW - timedelta(minutes=30) + timedelta(milliseconds=250)),
        ("2026-03-04T17:15:00+05:45", NOW - timedelta(minutes=30)),
        ("2026-03-04 11:30:00", NOW - timedelta(minutes=30)),
        ("20260304T113000Z", NOW - timedelta(minutes=30)),
        ("2026-03-04", NOW - timedelta(hours=12)),
        (NOW.timestamp() * 1000, NOW),
        (int(NOW.timestamp() * 1000) - 1, NOW - timedelta(milliseconds=1)),
        (str(int(NOW.timestamp() * 1000)), NOW),
        (NOW.timestamp() * 1000 + 0.5, NOW + timedelta(microseconds=500)),
        ((NOW - timedelta(days=7)).isoformat(), NOW - timedelta(days=7)),
        ((NOW + timedelta(minutes=5)).isoformat(), NOW + timedelta(minutes=5)),
    ],
)
def test_timestamps(value: Any, expected: datetime) -> None:
    at = decode(timestamp=value).occurred_at
    assert at == expected
    assert at is not None and at.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ((NOW - timedelta(days=7, seconds=1)).isoformat(), "7 days"),
        ((NOW + timedelta(minutes=5, seconds=1)).isoformat(), "5 minutes"),
        (int(NOW.timestamp()), "7 days"),  # seconds rather than milliseconds
        (0, "7 days"),
        (-(10**30), "7 days"),
        (10**30, "5 minutes"),
        (1e300, "5 minutes"),
        ("9999-12-31T23:59:59.999999-23:59", "5 minutes"),
        ("0001-01-01T00:00:00+23:59", "7 days"),
        ("99999999999999999999", "5 minutes"),
        ("yesterday", "ISO 8601"),
        ("2026-13-01", "ISO 8601"),
        ("2026-03-04T25:00:00Z", "ISO 8601"),
        ("nan", "ISO 8601"),
        ("²²²²²²²²²²²²", "ISO 8601"),
        ("12345678901x", "ISO 8601"),
    ],
)
def test_timestamps_out_of_bounds(value: Any, limit: str) -> None:
    field, message = refusal({"timestamp": value})
    assert field == "timestamp"
    assert limit in message


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b"[]", b"null", b'"x"', b'{"type":"x"} x', b'{"type":"\xff"}', b'{"x":"\xed\xa0\x80"}',
     b'{"type":"\x00"}', b'{"type":NaN}', b'{"timestamp":Infinity}', b"\xef\xbb\xbf{}",
     b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_json_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_event(body)
    with pytest.raises(PulseError):
        decode_batch(body)


def batch(*events: Any) -> bytes:
    return json.dumps({"events": events}).encode()


def test_a_batch_of_good_events() -> None:
    found = decode_batch(batch({"type": "a"}, {"eventType": "b"}), NOW)
    assert [(index, event.event_type) for index, event in found.events] == [(0, "a"), (1, "b")]
    assert (found.errors, found.size) == ([], 2)


def test_bad_events_do_not_spoil_the_others() -> None:
    good = {"type": "a", "custom_data": {"n": 1}}
    bad = [
        {"type": 5},
        {"type": "a", "url": "x" * 2049},
        {"type": "a", "custom_data": {"\x00": 1}},
        {"type": "a", "event_name": "\ud800"},
        {"type": "a", "timestamp": 0},
        "not an object",
        None,
        {},
    ]
    found = decode_batch(batch(good, *bad, good), NOW)
    assert [index for index, _ in found.events] == [0, 9]
    assert [(error.index, error.field) for error in found.errors] == [
        (1, "type"), (2, "url"), (3, "custom_data"), (4, "event_name"), (5, "timestamp"), (6, "events"), (7, "events"),
        (8, "event_type"),
    ]  # fmt: skip
    assert all(error.message for error in found.errors)
    assert found.size == 10


@pytest.mark.parametrize("bad", [{"type": "a", "timestamp": 0}, {"type": "a", "url": "\x00"}, {"type": "a", "url": 1}])
def test_each_kind_of_refusal_alone_leaves_the_rest_of_its_batch(bad: dict[str, Any]) -> None:
    found = decode_batch(batch({"type": "a"}, bad), NOW)
    assert [index for index, _ in found.events] == [0]
    assert [error.index for error in found.errors] == [1]


def test_the_size_of_a_batch() -> None:
    assert decode_batch(batch(*[{"type": "a"}] * 100), NOW).size == 100
    with pytest.raises(TooLarge, match="at most 100"):
        decode_batch(batch(*[{"type": "a"}] * 101), NOW)
    with pytest.raises(TooLarge, match="at most 100"):
        decode_batch(batch(*[{"type": 1}] * 101), NOW)


@pytest.mark.parametrize("body", [b"{}", b'{"events":[]}', b'{"events":{}}', b'{"events":null}', b'{"event":[{}]}'])
def test_a_batch_without_a_list_names_events(body: bytes) -> None:
    with pytest.raises(Invalid, match="1 to 100") as caught:
        decode_batch(body)
    assert caught.value.details[0].field == "events"


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
_FIELDS = st.sampled_from([
    *SPELLINGS, *(name for others, _, _ in SPELLINGS.values() for name in others), "timestamp", "custom_data",
    "customData", "utm_params", "utmParams", "screen_resolution", "screenResolution",
])  # fmt: skip


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (decode_event, decode_batch):
        try:
            read(body)
        except PulseError as error:
            assert error.status in (400, 413, 422)


@given(st.dictionaries(_FIELDS, _ANY_JSON), st.booleans())
@example({"custom_data": {"a": 1e308}}, True)
def test_any_json_is_read_or_refused_alike_alone_and_in_a_batch(fields: dict[str, Any], named: bool) -> None:
    body = {"event_name": "x", **fields} if named else fields
    text = json.dumps(body)
    found = decode_batch(f'{{"events":[{text},{{"type":"a"}}]}}'.encode(), NOW)
    try:
        event = decode_event(text.encode(), NOW)
    except Invalid as error:
        assert [(e.index, e.field, e.message) for e in found.errors] == [
            (0, error.details[0].field, error.details[0].message)
        ]
        assert [index for index, _ in found.events] == [1]
    else:
        assert len(found.events) == 2
        assert event.event_type
