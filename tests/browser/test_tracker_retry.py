"""Events the service could not take go again, with their id, until an answer says that they are stored."""

import json

import pytest
from playwright.sync_api import Page

from tests.browser.recorder import Recorder


def queue(page: Page) -> list[dict[str, object]]:
    return list(json.loads(page.evaluate("sessionStorage.getItem('pulse:key-1') || '[]'")))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_refused_for_now_goes_again_by_itself(page: Page, recorder: Recorder, status: int) -> None:
    recorder.statuses = [status]
    page.goto(recorder.tracked("/"))
    recorder.wait(lambda r: r.of_type("pageview"))
    first, again = recorder.requests
    assert (first.status, again.status) == (status, 200)
    assert again.events == first.events  # id and time included
    page.wait_for_function("sessionStorage.getItem('pulse:key-1') === '[]'")


def test_network_error_then_one_batch_on_the_next_page(page: Page, recorder: Recorder) -> None:
    recorder.down = True
    page.goto(recorder.tracked("/one"))
    page.evaluate("pulse('signup', {plan: 'pro'})")
    page.wait_for_function("JSON.parse(sessionStorage.getItem('pulse:key-1') || '[]').length === 2")
    kept = queue(page)
    page.goto(recorder.page("/untracked", ""))
    recorder.down = False
    page.goto(recorder.tracked("/two"))
    recorder.wait(lambda r: len(r.of_type("pageview")) == 2 and r.of_type("custom"))
    stored = {event["event_id"]: event for event in recorder.stored()}
    assert [stored[event["event_id"]] for event in kept] == kept
    assert "/api/v1/track/batch?api_key=key-1" in [sent.path for sent in recorder.requests]
    page.wait_for_function("sessionStorage.getItem('pulse:key-1') === '[]'")


def test_coming_online_sends_at_once(page: Page, recorder: Recorder) -> None:
    # No timer of a second or more ever ends: only the event can send again.
    page.add_init_script(
        "const wait = setTimeout; window.setTimeout = (f, ms) => ms >= 1000 ? (window.resting = ms, 0) : wait(f, ms)"
    )
    recorder.statuses = [503]
    page.goto(recorder.tracked("/"))
    page.wait_for_function("window.resting === 2000")
    page.evaluate("dispatchEvent(new Event('online'))")
    recorder.wait(lambda r: r.of_type("pageview"))


def test_what_is_wrong_is_not_sent_for_ever(page: Page, recorder: Recorder) -> None:
    recorder.statuses = [401]
    page.goto(recorder.tracked("/"))
    recorder.wait(lambda r: r.requests)
    page.wait_for_function("sessionStorage.getItem('pulse:key-1') === '[]'")
    page.evaluate("pulse('next')")
    recorder.wait(lambda r: r.of_type("custom"))
    assert [event["event_type"] for sent in recorder.requests for event in sent.events] == ["pageview", "custom"]


def test_refused_time_is_left_to_the_service(page: Page, recorder: Recorder) -> None:
    recorder.statuses = [422]
    page.goto(recorder.tracked("/"))
    recorder.wait(lambda r: r.of_type("pageview"))
    first, again = (sent.events[0] for sent in recorder.requests)
    assert "timestamp" in first and "timestamp" not in again
    assert first["event_id"] == again["event_id"]
    page.evaluate("pulse('next')")
    assert "timestamp" not in recorder.wait(lambda r: r.of_type("custom"))[0]


def test_at_most_fifty_wait(page: Page, recorder: Recorder) -> None:
    recorder.down = True
    page.goto(recorder.tracked("/"))
    page.evaluate("for (let n = 1; n <= 60; n++) pulse('tick', {n})")
    kept = queue(page)
    assert len(kept) == 50
    assert [event["custom_data"]["n"] for event in kept] == list(range(11, 61))  # type: ignore[index]


def test_large_queue_is_not_stopped_by_the_limit_of_keepalive(page: Page, recorder: Recorder) -> None:
    recorder.statuses = [503]
    page.goto(recorder.tracked("/"))
    recorder.wait(lambda r: r.requests)
    page.evaluate("for (let n = 1; n <= 30; n++) pulse('big', {n, text: 'x'.repeat(4000)})")
    recorder.wait(lambda r: len(r.of_type("custom")) == 30)


def test_without_beacons_leaving_is_still_told(page: Page, recorder: Recorder) -> None:
    page.add_init_script("Object.defineProperty(Navigator.prototype, 'sendBeacon', {value: () => false})")
    page.goto(recorder.tracked("/read"))
    recorder.wait(lambda r: r.of_type("pageview"))
    page.wait_for_function("performance.now() > 500")
    page.goto(recorder.page("/untracked", ""))
    assert recorder.wait(lambda r: r.of_type("engagement"))[0]["url"] == recorder.origin + "/read"


def test_works_where_storage_is_refused(page: Page, recorder: Recorder) -> None:
    page.add_init_script(
        "for (const name of ['sessionStorage', 'localStorage'])"
        " Object.defineProperty(window, name, {get() { throw new DOMException('refused', 'SecurityError'); }})"
    )
    recorder.statuses = [503]
    page.goto(recorder.tracked("/"))
    recorder.wait(lambda r: r.of_type("pageview"))
    assert len(recorder.requests) == 2
