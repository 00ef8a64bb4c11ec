"""What the tracker sends, when, and when it keeps silent."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.recorder import Recorder

HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
  document.dispatchEvent(new Event('visibilitychange', {bubbles: true}));
}"""
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def seen_for_a_moment(page: Page) -> None:
    """Let visible time pass: under 100 ms is not reported."""
    moment = page.evaluate("performance.now()")
    page.wait_for_function("until => performance.now() > until", arg=moment + 150)


def fence(page: Page, recorder: Recorder) -> None:
    """Everything the page has sent so far has arrived once this event of its own has."""
    own = {"event_id": "fence", "event_type": "fence"}
    page.evaluate("own => fetch('/api/v1/track/event', {method: 'POST', body: JSON.stringify(own)})", own)
    recorder.wait(lambda r: any(sent.body.get("event_id") == "fence" for sent in r.requests))


def paths(recorder: Recorder) -> list[str]:
    return [event["url"].removeprefix(recorder.origin) for event in recorder.of_type("pageview")]


def test_loading_a_page_sends_one_pageview(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/shop") + "?utm_source=mail#terms")
    event = recorder.wait(lambda r: r.of_type("pageview"))[0]
    assert event["url"] == recorder.origin + "/shop?utm_source=mail"
    assert (event["viewport_width"], event["viewport_height"]) == (1200, 800)
    assert event["screen_width"] > 0 and event["screen_height"] > 0
    assert (event["language"], event["timezone"]) == ("en-GB", "Europe/Berlin")
    assert UUID4.fullmatch(event["event_id"])
    assert abs(datetime.fromisoformat(event["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)
    request = recorder.requests[0]
    assert request.path == "/api/v1/track/event?api_key=key-1"
    assert request.headers["Content-Type"].startswith("text/plain")
    fence(page, recorder)
    assert len(recorder.of_type("pageview")) == 1


def test_referrer_is_the_page_before(page: Page, recorder: Recorder) -> None:
    recorder.tracked("/b")
    page.goto(recorder.tracked("/a", '<a href="/b">on</a>'))
    page.click("a")
    second = recorder.wait(lambda r: len(r.of_type("pageview")) == 2 and r.of_type("pageview"))[1]
    assert second["referrer"] == recorder.origin + "/a"


def test_another_origin_is_reached_without_preflight_or_cookie(context: BrowserContext, recorder: Recorder) -> None:
    context.add_cookies([{"name": "session", "value": "x", "url": recorder.origin}])
    port = recorder.origin.rsplit(":", 1)[1]
    recorder.page("/other", f'<script defer src="{recorder.origin}/stats/js/pulse.js?v=2" data-key="key-2"></script>')
    page = context.new_page()
    page.goto(f"http://localhost:{port}/other")
    recorder.wait(lambda r: r.of_type("pageview"))
    assert recorder.requests[0].path == "/stats/api/v1/track/event?api_key=key-2"
    assert "Cookie" not in recorder.requests[0].headers
    assert recorder.methods == []


def test_cookies_of_the_same_origin_stay_at_home(page: Page, context: BrowserContext, recorder: Recorder) -> None:
    context.add_cookies([{"name": "session", "value": "x", "url": recorder.origin}])
    page.goto(recorder.tracked("/"))
    recorder.wait(lambda r: r.of_type("pageview"))
    assert "Cookie" not in recorder.requests[0].headers


def test_endpoint_can_be_elsewhere(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/", attributes='data-endpoint="/inner/"'))
    recorder.wait(lambda r: r.of_type("pageview"))
    assert recorder.requests[0].path.startswith("/inner/api/v1/track/event?")


def test_nothing_lasting_is_left_in_the_browser(page: Page, context: BrowserContext, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/"))
    recorder.wait(lambda r: r.of_type("pageview"))
    page.wait_for_function("sessionStorage.getItem('pulse:key-1') === '[]'")
    assert context.cookies() == []
    assert page.evaluate("localStorage.length") == 0


def test_single_page_application(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/app"))
    page.evaluate("history.pushState(null, '', '/app/one')")
    page.evaluate("history.replaceState({scroll: 5}, '', '/app/one?page=2')")  # the same page
    page.evaluate("history.replaceState(null, '', '/app/two')")
    page.go_back()
    recorder.wait(lambda r: len(r.of_type("pageview")) == 4)
    fence(page, recorder)
    assert paths(recorder) == ["/app", "/app/one", "/app/two", "/app"]
    referrers = [event["referrer"].removeprefix(recorder.origin) for event in recorder.of_type("pageview")]
    assert referrers == ["", "/app", "/app/one", "/app/two"]


def test_fragment_is_a_page_only_where_asked(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/plain"))
    page.evaluate("location.hash = '/one'")
    page.goto(recorder.tracked("/hashed", attributes="data-hash"))
    page.evaluate("location.hash = '/one'")
    recorder.wait(lambda r: len(r.of_type("pageview")) == 3)
    fence(page, recorder)
    assert paths(recorder) == ["/plain", "/hashed", "/hashed#/one"]


def test_own_events_before_and_after_loading(page: Page, recorder: Recorder) -> None:
    stub = "window.pulse=window.pulse||function(){(pulse.q=pulse.q||[]).push(arguments)}"
    page.goto(recorder.tracked("/", before=f"<script>{stub};pulse('early', {{n: 1}})</script>"))
    page.wait_for_function("window.pulse.loaded")
    page.evaluate("pulse('signup', {plan: 'pro'})")
    recorder.wait(lambda r: len(r.of_type("custom")) == 2)
    assert [(event["event_name"], event["custom_data"]) for event in recorder.of_type("custom")] == [
        ("early", {"n": 1}), ("signup", {"plan": "pro"}),
    ]


def test_script_included_twice_counts_once(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/", before='<script defer src="/js/pulse.js" data-api-key="key-1"></script>'))
    recorder.wait(lambda r: r.of_type("pageview"))
    fence(page, recorder)
    assert len(recorder.of_type("pageview")) == 1


LINKS = """
<base target="elsewhere">
<a id="out" href="https://example.invalid/path?email=a@b.c"><b>out</b></a> <a id="in" href="/other">in</a>
<a id="file" href="/files/report.PDF?x=1">file</a> <a id="named" href="/export" download>named</a>
<a id="mail" href="mailto:a@b.c">mail</a> <a id="code" href="javascript:void 0" target="_self">code</a>
"""


@pytest.mark.parametrize(("link", "name", "target"), [
    ("#out b", "outbound", "https://example.invalid/path"),
    ("#file", "download", "/files/report.PDF"),
    ("#named", "download", "/export"),
])
def test_links_that_lead_away(page: Page, recorder: Recorder, link: str, name: str, target: str) -> None:
    page.goto(recorder.tracked("/", LINKS))
    page.evaluate("addEventListener('click', event => event.preventDefault())")
    page.click(link)
    event = recorder.wait(lambda r: r.of_type("click"))[0]
    assert event["event_name"] == name
    assert event["custom_data"]["url"].removeprefix(recorder.origin) == target


def test_other_links_are_no_events(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/", LINKS))
    page.evaluate("addEventListener('click', event => event.preventDefault())")
    for link in ("#in", "#mail", "#code"):
        page.click(link)
    page.click("#out", button="right")
    fence(page, recorder)
    assert recorder.of_type("click") == []


def test_middle_click_is_a_click(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/", LINKS))
    page.evaluate("addEventListener('auxclick', event => event.preventDefault())")
    page.click("#out", button="middle")
    assert recorder.wait(lambda r: r.of_type("click"))[0]["event_name"] == "outbound"


def test_visible_time_is_sent_on_leaving(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/read"))
    seen_for_a_moment(page)
    page.goto(recorder.page("/untracked", ""))
    event = recorder.wait(lambda r: r.of_type("engagement"))[0]
    assert event["url"] == recorder.origin + "/read"
    assert 100 <= event["engagement_ms"] < 60_000


def test_hidden_time_is_not_counted(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/read"))
    seen_for_a_moment(page)
    page.evaluate(HIDE, True)
    first = recorder.wait(lambda r: r.of_type("engagement"))[0]
    hidden_at = page.evaluate("performance.now()")
    assert first["engagement_ms"] <= hidden_at
    page.wait_for_function("until => performance.now() > until", arg=hidden_at + 1500)
    shown_at = page.evaluate("performance.now()")
    page.evaluate(HIDE, False)
    seen_for_a_moment(page)
    page.evaluate(HIDE, True)
    second = recorder.wait(lambda r: len(r.of_type("engagement")) == 2 and r.of_type("engagement"))[1]
    assert second["engagement_ms"] <= page.evaluate("performance.now()") - shown_at
    assert second["engagement_ms"] >= 100


def test_route_change_ends_the_time_of_the_page_before(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/one"))
    seen_for_a_moment(page)
    page.evaluate("history.pushState(null, '', '/two')")
    assert recorder.wait(lambda r: r.of_type("engagement"))[0]["url"] == recorder.origin + "/one"


def test_page_put_away_and_taken_out_again(page: Page, recorder: Recorder) -> None:
    page.goto(recorder.tracked("/read"))
    seen_for_a_moment(page)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    recorder.wait(lambda r: r.of_type("engagement"))
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    recorder.wait(lambda r: paths(r) == ["/read", "/read"])


@pytest.mark.parametrize("state", ["hidden", "prerendering"])
def test_page_nobody_sees_waits(page: Page, recorder: Recorder, state: str) -> None:
    page.add_init_script(f"Object.defineProperty(document, '{state}', {{value: true, configurable: true}})")
    page.goto(recorder.tracked("/later"))
    fence(page, recorder)
    assert recorder.of_type("pageview") == []
    page.evaluate(f"Object.defineProperty(document, '{state}', {{value: false, configurable: true}})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))" if state == "hidden"
                  else "document.dispatchEvent(new Event('prerenderingchange'))")
    recorder.wait(lambda r: paths(r) == ["/later"])


@pytest.mark.parametrize("wish", [
    "Object.defineProperty(navigator, 'doNotTrack', {value: '1'})",
    "Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})",
    "localStorage.setItem('pulse_ignore', '1')",
])
def test_who_does_not_want_to_be_counted_is_not(page: Page, recorder: Recorder, wish: str) -> None:
    page.add_init_script(wish)
    page.goto(recorder.tracked("/", LINKS))
    page.evaluate("addEventListener('click', event => event.preventDefault())")
    page.evaluate("pulse('signup')")
    page.click("#out")
    seen_for_a_moment(page)
    page.evaluate("history.pushState(null, '', '/next')")
    fence(page, recorder)
    assert [sent.body["event_id"] for sent in recorder.requests] == ["fence"]


def test_excluded_pages(page: Page, recorder: Recorder) -> None:
    for path in ("/admin/users", "/private", "/private/not", "/a.b", "/axb"):
        page.goto(recorder.tracked(path, attributes='data-exclude="/admin/*, /private,/a.b"'))
        page.evaluate("pulse('inside')")
        seen_for_a_moment(page)
        fence(page, recorder)
        recorder.requests[:] = [sent for sent in recorder.requests if sent.body.get("event_id") != "fence"]
    page.goto(recorder.page("/end", ""))
    recorder.wait(lambda r: len(r.of_type("engagement")) == 2)
    assert {event["url"].removeprefix(recorder.origin) for event in recorder.stored()} == {"/private/not", "/axb"}


def test_missing_key_says_so_and_sends_nothing(page: Page, recorder: Recorder) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(recorder.page("/", '<script defer src="/js/pulse.js"></script>'))
    fence(page, recorder)
    assert "pulse: no data-api-key" in said
    assert len(recorder.requests) == 1
