"""Referrers, sources and channels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.ingest.page import Hints, Utm, parse_page
from pulse.ingest.source import attribute, find_site
from pulse.ingest.source_table import CLICK_IDS, SHORT_NAMES, SITES


@pytest.mark.parametrize(
    ("referrer", "source", "channel"),
    [
        ("https://www.google.com/", "Google", "Organic Search"),
        ("https://www.google.co.uk/search?q=secret", "Google", "Organic Search"),
        ("https://google.de/", "Google", "Organic Search"),
        ("android-app://com.google.android.googlequicksearchbox/", "Google", "Organic Search"),
        ("https://mail.google.com/", "Gmail", "Email"),
        ("https://docs.google.com/document/x", "Google Docs", "Referral"),
        ("https://gemini.google.com/app", "Gemini", "AI Assistants"),
        ("https://www.bing.com/", "Bing", "Organic Search"),
        ("https://duckduckgo.com/", "DuckDuckGo", "Organic Search"),
        ("https://yandex.ru/", "Yandex", "Organic Search"),
        ("https://m.facebook.com/", "Facebook", "Organic Social"),
        ("https://l.facebook.com/l.php?u=x", "Facebook", "Organic Social"),
        ("https://t.co/abc", "X", "Organic Social"),
        ("https://www.linkedin.com/feed", "LinkedIn", "Organic Social"),
        ("android-app://com.linkedin.android/", "LinkedIn", "Organic Social"),
        ("https://old.reddit.com/r/x", "Reddit", "Organic Social"),
        ("https://news.ycombinator.com/item?id=1", "Hacker News", "Organic Social"),
        ("https://www.youtube.com/watch?v=1", "YouTube", "Organic Video"),
        ("https://chatgpt.com/", "ChatGPT", "AI Assistants"),
        ("https://www.perplexity.ai/", "Perplexity", "AI Assistants"),
        ("https://www.amazon.co.jp/", "Amazon", "Organic Shopping"),
        ("https://github.com/org/repo", "GitHub", "Referral"),
        ("https://blog.example.org/post", "blog.example.org", "Referral"),
        ("https://notgoogle.com/", "notgoogle.com", "Referral"),
        ("https://google.example.com/", "google.example.com", "Referral"),
        ("https://facebook.com.evil.example/", "facebook.com.evil.example", "Referral"),
        ("", None, "Direct"),
        (None, None, "Direct"),
        ("about:blank", None, "Direct"),
        ("not a url", None, "Direct"),
    ],
)
def test_a_referrer_names_source_and_channel(referrer: str | None, source: str | None, channel: str) -> None:
    origin = attribute(referrer, "shop.test", None)
    assert (origin.source, origin.channel) == (source, channel)


@pytest.mark.parametrize(
    ("referrer", "stored"),
    [
        ("https://www.Example.org/Post/?token=secret#x", "example.org/Post"),
        ("https://user:password@example.org:8080/", "example.org"),
        ("example.org/post", "example.org/post"),
        ("android-app://com.slack/", "com.slack"),
    ],
)
def test_the_stored_referrer_is_host_and_path(referrer: str, stored: str) -> None:
    assert attribute(referrer, "shop.test", None).referrer == stored


@pytest.mark.parametrize("referrer", ["https://shop.test/a", "https://www.shop.test/", "http://blog.shop.test:80/"])
@pytest.mark.parametrize("hostname", ["shop.test", "www.shop.test"])
def test_the_own_site_is_no_referrer(referrer: str, hostname: str) -> None:
    origin = attribute(referrer, hostname, None)
    assert (origin.referrer, origin.source, origin.channel) == (None, None, "Direct")


def test_a_site_whose_name_ends_alike_is_not_the_own_site() -> None:
    assert attribute("https://workshop.test/", "shop.test", None).source == "workshop.test"
    assert attribute("https://shop.test/", "workshop.test", None).source == "shop.test"


def test_the_parent_domain_of_the_own_site_is_no_referrer() -> None:
    assert attribute("https://www.shop.test/", "blog.shop.test", None).channel == "Direct"


@pytest.mark.parametrize(
    ("query", "source", "channel"),
    [
        ("utm_source=google&utm_medium=cpc", "Google", "Paid Search"),
        ("utm_source=Google&utm_medium=PPC", "Google", "Paid Search"),
        ("utm_source=facebook&utm_medium=paid_social", "Facebook", "Paid Social"),
        ("utm_source=fb&utm_medium=cpc", "Facebook", "Paid Social"),
        ("utm_source=youtube&utm_medium=cpm", "YouTube", "Paid Video"),
        ("utm_source=amazon&utm_medium=cpc", "Amazon", "Paid Shopping"),
        ("utm_source=partner&utm_medium=cpc", "partner", "Paid Other"),
        ("utm_source=partner&utm_medium=cpc&utm_campaign=shopping-week", "partner", "Paid Shopping"),
        ("utm_source=partner&utm_medium=cpc&utm_campaign=workshop", "partner", "Paid Other"),
        ("utm_source=partner&utm_campaign=spring-shop", "partner", "Organic Shopping"),
        ("utm_source=partner&utm_campaign=eshop", "partner", "Organic Shopping"),
        ("utm_source=x&utm_campaign=Cross-Network+2", "X", "Cross-network"),
        ("utm_source=partner&utm_medium=banner", "partner", "Display"),
        ("utm_source=partner&utm_medium=cpm", "partner", "Display"),
        ("utm_source=newsletter", "newsletter", "Email"),
        ("utm_source=mailchimp&utm_medium=email", "Mailchimp", "Email"),
        ("utm_source=facebook&utm_medium=email", "Facebook", "Email"),
        ("utm_source=linkedin", "LinkedIn", "Organic Social"),
        ("utm_source=acme&utm_medium=social", "acme", "Organic Social"),
        ("utm_source=acme&utm_medium=video", "acme", "Organic Video"),
        ("utm_source=acme&utm_medium=organic", "acme", "Organic Search"),
        ("utm_source=acme&utm_medium=affiliate", "acme", "Affiliates"),
        ("utm_source=acme&utm_medium=audio", "acme", "Audio"),
        ("utm_source=acme&utm_medium=sms", "acme", "SMS"),
        ("utm_source=acme&utm_medium=web_push", "acme", "Mobile Push"),
        ("utm_source=acme&utm_medium=referral", "acme", "Referral"),
        ("utm_source=acme", "acme", "Campaign"),
        ("utm_campaign=launch", None, "Campaign"),
        ("utm_source=%28direct%29", "(direct)", "Direct"),
        ("utm_source=chatgpt.com", "ChatGPT", "AI Assistants"),
        ("utm_source=https://www.perplexity.ai/", "Perplexity", "AI Assistants"),
        ("ref=producthunt", "Product Hunt", "Organic Social"),
        ("ref=somewhere", "somewhere", "Referral"),
        ("source=github.com", "GitHub", "Referral"),
        ("gclid=1", "Google", "Paid Search"),
        ("gclid=1&utm_source=google&utm_medium=organic", "Google", "Organic Search"),
        ("msclkid=1", "Bing", "Paid Search"),
        ("dclid=1", "Google", "Display"),
        ("ttclid=1", "TikTok", "Paid Video"),
        ("fbclid=1", "Facebook", "Organic Social"),
        ("mc_eid=1", "Mailchimp", "Email"),
        ("mkt_tok=1", None, "Email"),
    ],
)
def test_campaign_hints_name_source_and_channel(query: str, source: str | None, channel: str) -> None:
    origin = attribute(None, "shop.test", parse_page(f"https://shop.test/?{query}").hints)
    assert (origin.source, origin.channel) == (source, channel)


def test_hints_count_before_the_referrer_which_is_kept() -> None:
    origin = attribute("https://www.google.com/", "shop.test", Hints(Utm("newsletter", "email", "may")))
    assert origin == ("google.com", "newsletter", "Email", Utm("newsletter", "email", "may"))


def test_a_click_id_makes_a_search_visit_paid() -> None:
    assert attribute("https://www.google.com/", "shop.test", Hints(click_id="gclid")).channel == "Paid Search"


def test_every_name_in_the_tables_resolves() -> None:
    assert len(SITES) >= 150
    assert {kind for _, kind in SITES.values()} == {"search", "social", "video", "ai", "email", "shopping", "site"}
    assert all(domain in SITES for domain in SHORT_NAMES.values())
    assert all(domain in SITES or domain == "" for domain, _ in CLICK_IDS.values())
    assert all(find_site(domain) == site for domain, site in SITES.items() if "." in domain)


_TEXTS = st.none() | st.text(min_size=1, max_size=40) | st.sampled_from(["google", "cpc", "fb", "email", "(direct)"])


@given(_TEXTS, _TEXTS, st.builds(Utm, _TEXTS, _TEXTS, _TEXTS, _TEXTS, _TEXTS), st.sampled_from([None, *CLICK_IDS]))
def test_anything_has_a_channel(referrer: str | None, ref: str | None, utm: Utm, click_id: str | None) -> None:
    origin = attribute(referrer, "shop.test", Hints(utm if any(utm) else None, ref, click_id))
    assert origin.channel
    assert "?" not in (origin.referrer or "")
