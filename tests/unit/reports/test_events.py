"""Cursors: what is made can be read, and nothing else."""

import base64
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.errors import Invalid
from pulse.reports.events import EventsQuery, make_cursor, read_cursor

FAR_AHEAD = base64.urlsafe_b64encode(b"\x7f" + b"\xff" * 23).decode()
FAR_BACK = base64.urlsafe_b64encode(b"\x80" + b"\x00" * 23).decode()


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)), st.uuids())
def test_a_cursor_comes_back_to_the_microsecond(at: datetime, event_id: UUID) -> None:
    cursor = make_cursor(at.replace(tzinfo=UTC), event_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert read_cursor(cursor) == (at.replace(tzinfo=UTC), event_id)


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "é", "A" * 31, "A" * 33, "A" * 32 + "====", "a b" * 11, "\x00" * 32, "/" * 32, FAR_AHEAD, FAR_BACK],
)
def test_a_made_up_cursor_is_refused_by_name(cursor: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_cursor(cursor)
    assert [problem.field for problem in caught.value.details] == ["cursor"]


@pytest.mark.parametrize(
    "question",
    [{"limit": "0"}, {"limit": "1001"}, {"limit": "ten"}, {"path": ""}, {"path": "/\x00"}, {"eventName": "x" * 1025},
     {"country": "Germany"}, {"cursor": "A" * 65}],
)  # fmt: skip
def test_questions_out_of_bounds_are_refused(question: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(question))):
        msgspec.convert(question, EventsQuery, strict=False)


def test_a_question_in_bounds_is_read_from_text() -> None:
    found = msgspec.convert({"limit": "1000", "eventName": "null", "path": "/x"}, EventsQuery, strict=False)
    assert (found.limit, found.event_name, found.path) == (1000, "null", "/x")
