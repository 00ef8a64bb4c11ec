"""Events to rows."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.errors import PulseError
from pulse.ingest.event import decode_event
from pulse.ingest.pipeline import Accepted, Drop, EventRow, RequestFacts, enrich
from pulse.ingest.visitor import Identity

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
FACTS = RequestFacts(7, "8.8.8.8", FIREFOX, "de-CH,de;q=0.9", NOW)
IDENTITY = Identity({NOW.date(): b"a" * 32}, b"s" * 32)


def outcome(facts: RequestFacts = FACTS, **fields: Any) -> Accepted | Drop:
    body = json.dumps({"event_type": "pageview"} | fields).encode()
    return enrich(decode_event(body, NOW), facts, IDENTITY)


def row(facts: RequestFacts = FACTS, **fields: Any) -> EventRow:
    found = outcome(facts, **fields)
    assert isinstance(found, Accepted)
    return found.row


def test_a_whole_event() -> None:
    found = outcome(
        event_name="Plans", url="https://Example.com/pricing?utm_source=google&utm_medium=cpc&email=a@b.example#x",
        referrer="https://www.google.com/search?q=secret", session_id="s-1", screen_width=1920, screen_height=1080,
        viewport_width=1200, viewport_height=800, language="en_us", timezone="Europe/Berlin", event_id=ID,
        timestamp="2026-03-04T11:00:00Z", custom_data={"plan": "pro"},
    )  # fmt: skip
    assert isinstance(found, Accepted) and found.client_id
    stored = json.loads(msgspec.json.encode(found.row))
    visitor, session = stored.pop("visitor"), stored.pop("session_key")
    assert visitor != session and isinstance(visitor, int) and isinstance(session, int)
    assert stored == {
        "occurred_at": "2026-03-04T11:00:00Z", "id": ID, "project_id": 7, "client_session": True,
        "event_type": "pageview", "event_name": "Plans", "hostname": "example.com", "path": "/pricing",
        "referrer": "google.com/search", "source": "Google", "channel": "Paid Search", "utm_source": "google",
        "utm_medium": "cpc", "screen_width": 1920, "screen_height": 1080, "viewport_width": 1200,
        "viewport_height": 800, "country": "US", "device": "desktop", "browser": "Firefox", "browser_version": "125",
        "os": "Linux", "language": "en-US", "timezone": "Europe/Berlin", "custom_data": {"plan": "pro"},
    }  # fmt: skip


def test_the_least_event() -> None:
    found = outcome(RequestFacts(7, "", "", "", NOW))
    assert isinstance(found, Accepted) and not found.client_id
    stored = json.loads(msgspec.json.encode(found.row))
    assert UUID(stored.pop("id")).version == 7
    assert stored.pop("visitor") == stored.pop("session_key")
    assert stored == {
        "occurred_at": "2026-03-04T12:00:00Z", "project_id": 7, "client_session": False, "event_type": "pageview",
        "channel": "Direct", "device": "unknown",
    }  # fmt: skip


def test_address_user_agent_and_query_are_not_stored() -> None:
    text = msgspec.json.encode(row(url="https://example.com/?token=secret", referrer="https://a.example/?token=secret"))
    assert not any(word in text for word in (b"8.8.8.8", b"Gecko", b"secret"))


def test_bots_are_dropped() -> None:
    assert outcome(FACTS._replace(user_agent=GOOGLEBOT)) is Drop.BOT
    assert outcome(user_agent=GOOGLEBOT) is Drop.BOT


def test_the_bodys_user_agent_counts_before_the_headers() -> None:
    server = FACTS._replace(user_agent="python-requests/2.34")
    assert row(server).device == "unknown"
    assert row(server, user_agent=FIREFOX).browser == "Firefox"
    assert row(FACTS._replace(user_agent=GOOGLEBOT), user_agent=FIREFOX).browser == "Firefox"
    assert row(server, user_agent=FIREFOX).visitor == row().visitor, "the visitor's, not the server's"


def test_the_language_header_is_the_fallback() -> None:
    assert row().language == "de-CH"
    assert row(language="fr").language == "fr"


def test_utm_params_count_before_the_urls() -> None:
    found = row(url="https://example.com/?utm_source=url&utm_term=x", utm_params={"source": "body"})
    assert (found.utm_source, found.utm_term) == ("body", None)


def test_the_identity_is_of_the_day_the_event_was_received() -> None:
    assert row(timestamp="2026-03-01T12:00:00Z").visitor == row().visitor


def test_engagement_time_is_kept_on_engagement_events_only() -> None:
    assert row(event_type="engagement", engagementMs=1500).engagement_ms == 1500
    assert row(event_type="pageview", engagement_ms=1500).engagement_ms is None


def test_the_own_site_is_no_referrer() -> None:
    found = row(url="https://example.com/b", referrer="https://example.com/a")
    assert (found.referrer, found.source, found.channel) == (None, None, "Direct")


_TEXT = st.text(alphabet=st.characters(), max_size=60)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "event_name": _TEXT,
    "url": _TEXT | st.builds("https://{}/{}?utm_source={}".format, _TEXT, _TEXT, _TEXT),
    "referrer": _TEXT | _TEXT.map("https://{}/".format),
    "session_id": _TEXT,
    "visitor_id": _TEXT,
    "user_agent": _TEXT,
    "language": _TEXT,
    "timezone": _TEXT,
    "timestamp": st.datetimes(NOW.replace(tzinfo=None) - timedelta(days=7), NOW.replace(tzinfo=None)).map(str),
    "utm_params": st.fixed_dictionaries({"source": _TEXT, "medium": _TEXT}),
    "custom_data": st.dictionaries(_TEXT, _TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    "screen_width": st.integers(-1, 100_001),
    "event_id": st.uuids().map(str),
}


@given(st.fixed_dictionaries({}, optional=_VALUES), _TEXT, _TEXT)
def test_an_accepted_events_row_survives_json_as_postgresql_reads_it(
    fields: dict[str, Any], address: str, header: str
) -> None:
    facts = RequestFacts(1, address, header, header, NOW)
    try:
        found = outcome(facts, **fields)
    except PulseError:
        return
    if isinstance(found, Drop):
        return
    text = msgspec.json.encode(found.row)
    assert "\x00" not in json.dumps(json.loads(text), ensure_ascii=False)
    json.dumps(json.loads(text), ensure_ascii=False).encode()  # fails on an unpaired surrogate
    again = msgspec.json.decode(text)
    assert set(again) <= set(EventRow.__struct_fields__)
    assert -(2**63) <= again["visitor"] < 2**63
    assert len(again.get("path", "")) <= 1024


@pytest.mark.parametrize("drop", list(Drop))
def test_a_drop_reason_is_a_word_to_count_by(drop: Drop) -> None:
    assert drop.value.isidentifier()
