"""Traffic the service accepts as it is, and that looks like visitors."""

import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from pulse.ingest.event import decode_batch, decode_event
from pulse.ingest.geo import locate
from pulse.ingest.user_agent import parse_user_agent
from pulse.load.bodies import BATCH_EVENTS, Bodies
from pulse.load.traffic import Traffic, list_pages, read_site

NOW = datetime.now(UTC)


def test_every_single_body_is_a_valid_event() -> None:
    bodies = Bodies(singles=300, batches=1)
    for _ in range(600):
        body = bodies.single()
        event = decode_event(body.data)
        assert body.events == 1
        assert body.counted == (event.event_type != "engagement")
        assert event.event_id


def test_every_batch_is_valid_and_counted_right() -> None:
    bodies = Bodies(singles=1, batches=5)
    for _ in range(10):
        body = bodies.batch()
        batch = decode_batch(body.data)
        assert batch.errors == []
        assert len(batch.events) == body.events == BATCH_EVENTS
        assert body.counted == sum(event.event_type != "engagement" for _, event in batch.events)


def test_each_round_brings_new_ids() -> None:
    bodies = Bodies(singles=50, batches=2)
    first, second = ([decode_event(bodies.single().data) for _ in range(50)] for _ in range(2))
    for field in ("event_id", "visitor_id", "session_id"):
        assert not {getattr(e, field) for e in first} & {getattr(e, field) for e in second}
    assert len({event.event_id for event in first}) == 50


def test_two_generators_share_no_ids() -> None:
    one, other = Bodies(20, 1), Bodies(20, 1)
    ids = [decode_event(bodies.single().data).event_id for bodies in (one, other) for _ in range(20)]
    assert len(set(ids)) == 40


def test_the_same_seed_repeats_the_same_events() -> None:
    def take(seed: int) -> list[str]:
        return [json.dumps(timed.event) for timed in itertools.islice(Traffic(seed).stream(10), 200)]

    assert take(3) == take(3)
    assert take(3) != take(4)


def test_pages_are_visited_unequally() -> None:
    seen: Counter[str] = Counter()
    traffic = Traffic()
    while seen.total() < 5000:
        seen.update(t.event["url"].partition("?")[0] for t in traffic.session() if t.event["event_type"] == "pageview")
    most, least = seen.most_common(1)[0][1], seen.most_common()[-1][1]
    assert most > 300 * least / 2
    assert len(seen) > 200
    assert len(list_pages(read_site())) == 500


def test_sessions_vary_and_stay_in_order() -> None:
    traffic = Traffic()
    sessions = [traffic.session() for _ in range(500)]
    pages = [sum(t.event["event_type"] == "pageview" for t in session) for session in sessions]
    assert 0.3 < pages.count(1) / 500 < 0.55
    assert max(pages) > 8
    for session in sessions:
        assert [t.at_s for t in session] == sorted(t.at_s for t in session)
        assert len({t.event["session_id"] for t in session}) == 1
    assert len({session[0].event["session_id"] for session in sessions}) == 500


def test_campaigns_stand_in_the_first_url_only() -> None:
    traffic = Traffic()
    tagged = 0
    for _ in range(300):
        urls = [t.event["url"] for t in traffic.session() if t.event["event_type"] == "pageview"]
        tagged += "utm_campaign" in urls[0]
        assert not any("?" in url for url in urls[1:])
    assert 10 < tagged < 90


def test_history_fills_every_day_and_nothing_lies_ahead() -> None:
    found = Traffic().history(NOW, 6, 3000)
    times = [at for at, _, _ in found]
    assert times == sorted(times)
    assert NOW - timedelta(days=6) <= times[0] and times[-1] < NOW
    assert len({at.date() for at in times}) >= 6
    assert 3000 <= len(found) < 3100


@pytest.mark.parametrize("rate", [5, 80])
def test_the_stream_keeps_its_rate_from_the_start(rate: float) -> None:
    events = list(itertools.islice(Traffic().stream(rate), int(rate * 200)))
    assert [t.at_s for t in events] == sorted(t.at_s for t in events)
    assert len(events) / events[-1].at_s == pytest.approx(rate, rel=0.35)
    assert 0.5 * rate < sum(t.at_s < 20 for t in events) / 20 < 2 * rate


@pytest.mark.parametrize("agent", read_site()["agents"], ids=lambda agent: agent["text"][-60:])
def test_every_browser_is_known_and_no_bot(agent: dict[str, str]) -> None:
    found = parse_user_agent(agent["text"])
    assert not found.is_bot
    assert found.browser and found.os and found.device != "unknown"


@pytest.mark.parametrize("country", read_site()["countries"], ids=lambda country: country["code"])
def test_addresses_lie_in_their_country(country: dict[str, str]) -> None:
    network = country["network"].rsplit(".", 2)[0]
    assert {locate(f"{network}.{third}.7").country for third in (1, 100, 254)} == {country["code"]}
