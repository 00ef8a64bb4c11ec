"""Page URLs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.ingest.page import Hints, Utm, parse_page


@pytest.mark.parametrize(
    ("url", "hostname", "path"),
    [
        ("https://Example.COM/Pricing", "example.com", "/Pricing"),
        ("https://example.com", "example.com", "/"),
        ("https://example.com/", "example.com", "/"),
        ("https://example.com/a/", "example.com", "/a/"),
        ("http://localhost:3001/demo?x=1#top", "localhost", "/demo"),
        ("https://user:secret@example.com:8443/a", "example.com", "/a"),
        ("https://example.com./a", "example.com", "/a"),
        ("http://[2001:DB8::1]:80/a", "[2001:db8::1]", "/a"),
        ("https://example.com/caf%C3%A9", "example.com", "/caf%C3%A9"),
        ("https://example.com/café", "example.com", "/café"),
        ("https://example.com?email=someone@example.org", "example.com", "/"),
        ("https://example.com/#/route?token=1", "example.com", "/#/route"),
        ("https://example.com/app#!/route", "example.com", "/app#!/route"),
        ("https://example.com/app#section", "example.com", "/app"),
        ("//example.com/a", "example.com", "/a"),
        ("/pricing?plan=pro", None, "/pricing"),
        ("pricing", None, "/pricing"),
        ("?page=2", None, "/"),
        ("file:///home/someone/index.html", None, "/home/someone/index.html"),
        ("app://com.example/main", "com.example", "/main"),
        ("http://[broken/a", None, "/a"),
        ("http://a b/c", None, "/c"),
        ("   ", None, "/"),
    ],
)
def test_host_and_path(url: str, hostname: str | None, path: str) -> None:
    page = parse_page(url)
    assert (page.hostname, page.path) == (hostname, path)


def test_no_url_is_no_page() -> None:
    assert parse_page(None).path is None
    assert parse_page("").path is None


def test_long_paths_are_cut() -> None:
    page = parse_page("https://example.com/" + "a" * 2000)
    assert page.path is not None and len(page.path) == 1024


@pytest.mark.parametrize(
    ("query", "hints"),
    [
        ("utm_source=google&utm_medium=cpc", Hints(Utm("google", "cpc"))),
        (
            "utm_campaign=Spring+Sale%21&utm_term=a%20b&utm_content=x",
            Hints(Utm(campaign="Spring Sale!", term="a b", content="x")),
        ),
        ("UTM_Source=News", Hints(Utm("News"))),
        ("utm_source=&utm_source=b&utm_source=c", Hints(Utm("b"))),
        ("utm_source=%00", None),
        ("utm_source=%FF", Hints(Utm("\ufffd"))),
        ("utm_source=%ED%A0%80", Hints(Utm("\ufffd\ufffd\ufffd"))),
        ("ref=producthunt&source=other", Hints(ref="producthunt")),
        ("gclid=Cj0KCQ", Hints(click_id="gclid")),
        ("fbclid=", None),
        ("email=a@b.example&token=1", None),
        ("&&=&a", None),
    ],
)
def test_campaign_hints(query: str, hints: Hints | None) -> None:
    assert parse_page(f"https://example.com/?{query}").hints == hints


def test_hash_routes_may_carry_campaign_parameters() -> None:
    assert parse_page("https://example.com/#/a?utm_source=x").hints == Hints(Utm("x"))


def test_campaign_values_are_cut() -> None:
    hints = parse_page("https://example.com/?utm_source=" + "a" * 1000).hints
    assert hints is not None and hints.utm == Utm("a" * 255)


@given(st.text() | st.text(alphabet="htps:/?#@[]&=%.utm_source0 "))
def test_any_text_is_a_page_without_query(url: str) -> None:
    page = parse_page(url)
    assert page.path is None or ("?" not in page.path and len(page.path) <= 1024)
    assert page.hostname is None or 0 < len(page.hostname) <= 253
