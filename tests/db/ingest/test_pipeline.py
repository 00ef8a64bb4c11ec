"""Rows as PostgreSQL takes them: whatever passes the checks must go in, or one event would sink its whole group."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from pulse.errors import PulseError
from pulse.ingest import batch as batches
from pulse.ingest.custom_data import MAX_DEPTH
from pulse.ingest.event import decode_event
from pulse.ingest.pipeline import Accepted, RequestFacts, enrich
from pulse.ingest.visitor import Identity
from pulse.storage.green_copy import followed_by_copy

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
IDENTITY = Identity({NOW.date(): b"a" * 32}, b"s" * 32)
FACTS = RequestFacts(1, "8.8.8.8", "curl/8", "en", NOW)

# The columns' own types, without the columns that the writer adds.
READ_BACK = text("SELECT * FROM json_populate_recordset(NULL::events, CAST(:rows AS json))")


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection with an empty table `events` of its own, which takes any time."""
    with engine.connect() as made:
        made.execute(text("CREATE TEMPORARY TABLE events (LIKE public.events)"))
        yield made


def store(connection: Connection, body: bytes) -> dict[str, object]:
    """Return the event's row as PostgreSQL reads it, from JSON and from a line of COPY alike."""
    found = enrich(decode_event(body, NOW), FACTS, IDENTITY)
    assert isinstance(found, Accepted)
    rows = connection.execute(READ_BACK, {"rows": msgspec.json.encode([found.row]).decode()})
    stored = dict(rows.mappings().one())
    lines, unfit = batches.lines_of([found.row])
    if not unfit:
        with followed_by_copy(connection, str(batches.Q.copy_events), batches.join_lines(7, [lines])):
            connection.execute(text("TRUNCATE events"))
        assert dict(connection.execute(text("SELECT * FROM events")).mappings().one()) == {**stored, "batch_id": 7}
    return stored


@pytest.mark.parametrize(
    "custom_data",
    [
        "{}",
        '{"a": 1, "a": 2}',
        '{"large": 1e300, "small": -1e-300, "digits": ' + "9" * 300 + "}",
        '{"fraction": 0.' + "1" * 299 + "}",
        '{"both": ' + "9" * 300 + "e300}",
        '{"text": "\\\\u0000 \\ud83d\\ude00 \\u0001 \\u007f \\uffff", "\\u00e9": null}',
        '{"a":' * (MAX_DEPTH - 1) + "{}" + "}" * (MAX_DEPTH - 1),
    ],
)
def test_accepted_custom_data_is_stored(connection: Connection, custom_data: str) -> None:
    row = store(connection, f'{{"type":"x","custom_data":{custom_data}}}'.encode())
    assert isinstance(row["custom_data"], dict)


def test_the_columns_hold_what_the_row_says(connection: Connection) -> None:
    row = store(
        connection,
        b'{"type":"x","timestamp":"2026-03-04T10:00:00.000001Z","url":"https://a.example/b","screenWidth":5}',
    )
    assert row["occurred_at"] == datetime(2026, 3, 4, 10, 0, 0, 1, tzinfo=UTC)
    assert (row["hostname"], row["path"], row["screen_width"]) == ("a.example", "/b", 5)
    assert (row["client_session"], row["event_name"], row["custom_data"]) == (False, None, None)


@pytest.mark.parametrize(
    "text", ["quoted \"'", "back\\\\slash\\", "null", "", "a,b", "\\.", "\u2028é😀", "line\nend", "\x01\t"]
)
def test_text_is_stored_as_it_is(connection: Connection, text: str) -> None:
    event = {"event_name": f"x{text}", "custom_data": {text: text}, "event_type": "null"}
    row = store(connection, json.dumps(event).encode())
    assert (row["event_name"], row["custom_data"], row["event_type"]) == (f"x{text}", {text: text}, "null")


def test_rows_in_numbers_are_copied_but_for_those_with_control_characters(connection: Connection) -> None:
    copied = ["plain", "[", "]", '"]', "],[", "back\\slash\\", "null", "\\n", "\\\\", '\\"', "a,b", "é😀"]
    others = ["line\nend", "\x01", "\\\t"]
    rows = []
    for name in (*copied[:6], *others, *copied[6:]):
        found = enrich(
            decode_event(json.dumps({"event_name": name, "custom_data": {name: 1}}).encode(), NOW), FACTS, IDENTITY
        )
        assert isinstance(found, Accepted)
        rows.append(found.row)
    lines, unfit = batches.lines_of(rows)
    assert [row.event_name for row in unfit] == others
    with followed_by_copy(connection, str(batches.Q.copy_events), batches.join_lines(7, [lines, lines])):
        connection.execute(text("TRUNCATE events"))
    stored = connection.execute(text("SELECT event_name, custom_data, batch_id FROM events ORDER BY ctid")).all()
    assert stored == [(name, {name: 1}, 7) for name in copied * 2]


_TEXT = st.text(alphabet=st.characters(), max_size=30)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXT, inner, max_size=5),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.dictionaries(_TEXT, _JSON, max_size=5), _TEXT, st.booleans())
def test_whatever_is_accepted_is_stored(
    connection: Connection, custom_data: dict[str, object], name: str, ascii: bool
) -> None:
    try:
        event = {"event_type": "x", "event_name": name, "custom_data": custom_data}
        body = json.dumps(event, ensure_ascii=ascii).encode()
        decode_event(body, NOW)
    except (PulseError, UnicodeEncodeError):
        return
    row = store(connection, body)
    assert row["event_name"] == (name or None)
    assert isinstance(row["custom_data"], dict) and set(row["custom_data"]) == set(custom_data)
