"""User agents."""

import pytest
from crawlerdetect import CrawlerDetect  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from pulse.ingest.user_agent import UNKNOWN, Agent, is_bot, parse_user_agent

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"

BROWSERS = {
    f"{WINDOWS} Chrome/120.0.0.0 Safari/537.36": Agent("desktop", "Chrome", "120", "Windows", "10"),
    f"{WINDOWS} Chrome/120.0.0.0 Safari/537.36 Edg/120.0.0.0": Agent("desktop", "Edge", "120", "Windows", "10"),
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4"
    " Safari/605.1.15": Agent("desktop", "Safari", "17", "macOS", "10.15"),
    "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0": Agent(
        "desktop", "Firefox", "125", "Linux", None
    ),
    f"{IPHONE} Version/17.4 Mobile/15E148 Safari/604.1": Agent("mobile", "Safari", "17", "iOS", "17.4"),
    f"{IPHONE} CriOS/120.0.6099.119 Mobile/15E148 Safari/604.1": Agent("mobile", "Chrome", "120", "iOS", "17.4"),
    "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148"
    " Safari/604.1": Agent("tablet", "Safari", "16", "iOS", "16.6"),
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Mobile"
    " Safari/537.36": Agent("mobile", "Chrome", "122", "Android", "14"),
    "Mozilla/5.0 (Linux; Android 13; Lenovo TB-X606F) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0"
    " Safari/537.36": Agent("tablet", "Chrome", "122", "Android", "13"),
    "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0"
    " Chrome/115.0.0.0 Mobile Safari/537.36": Agent("mobile", "Samsung Internet", "23", "Android", "13"),
}


@pytest.mark.parametrize(("text", "agent"), BROWSERS.items())
def test_browsers(text: str, agent: Agent) -> None:
    assert parse_user_agent(text) == agent


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/3.1 TV", "tv"),
        ("Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0 Safari/537.36", "tv"),
        ("Mozilla/5.0 (Linux; Android 9; AFTKA) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537", "tv"),
        ("Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko)", "console"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) AppleWebKit/537.36 Edge/18.17763", "console"),
        ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36", "desktop"),
        ("Dalvik/2.1.0 (Linux; U; Android 9; SM-G960F Build/PPR1)", "mobile"),
    ],
)
def test_devices(text: str, device: str) -> None:
    agent = parse_user_agent(text)
    assert (agent.device, agent.is_bot) == (device, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "curl/8.5.0",
        "Wget/1.21.3 (linux-gnu)",
        "python-requests/2.34.2",
        "Python/3.11 aiohttp/3.9.1",
        "Python-urllib/3.11",
        "python-httpx/0.27",
        "python/gevent-http-client-2.6.1",
        "Werkzeug/3.1.9",
        "schemathesis/4.32.5",
        "Go-http-client/1.1",
        "Grafana k6/1.1.0",
        "k6/1.1.0 (https://k6.io/)",
        "node",
        "undici",
        "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
        "axios/1.6.8",
        "okhttp/4.9.3",
        "Apache-HttpClient/4.5.3 (Java/1.8.0_191)",
        "Java/11.0.2",
        "GuzzleHttp/7",
        "PostmanRuntime/7.37.0",
        "libwww-perl/6.67",
    ],
)
def test_http_clients_are_stored_with_an_unknown_device(text: str) -> None:
    assert parse_user_agent(text) == UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "ClaudeBot/1.0",
        "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36",
        "Scrapy/2.11 (+https://scrapy.org)",
        "curl/8.5 SomeBot",
        "python-requests/2.31 (compatible; ExampleCrawler)",
        "curl/8 (+https://example.com/my-bot)",
    ],
)
def test_crawlers_and_monitors_are_bots(text: str) -> None:
    assert parse_user_agent(text).is_bot


YANDEX = ["Mozilla/5.0 (compatible; YandexImages/3.0)", "Mozilla/5.0 YandexSearch/1"]  # a rule with a lookahead


@pytest.mark.parametrize("text", [*BROWSERS, *YANDEX])
def test_agrees_with_the_crawlerdetect_package(text: str) -> None:
    assert is_bot(text) == CrawlerDetect(user_agent=text).is_crawler()


@given(st.text(alphabet=st.characters(), max_size=2000))
def test_any_text_gives_bounded_facts(text: str) -> None:
    agent = parse_user_agent(text)
    facts = [agent.browser, agent.browser_version, agent.os, agent.os_version]
    assert all(fact is None or 0 < len(fact.encode()) <= 256 for fact in facts)
    assert agent.device in {"desktop", "mobile", "tablet", "tv", "console", "unknown"}


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=100).map("Mozilla/5.0 ".__add__))
def test_agrees_with_the_crawlerdetect_package_on_any_browser_like_text(text: str) -> None:
    assert is_bot(text) == CrawlerDetect(user_agent=text).is_crawler()


def test_lone_surrogates_and_nul_do_no_harm() -> None:
    agent = parse_user_agent("Foo\ud800\x00/1.2 (X11)")
    assert "\x00" not in repr(agent) and not agent.is_bot
