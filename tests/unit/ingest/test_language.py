"""Language tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.ingest.language import parse_language


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("en-US", "en-US"),
        ("en_us", "en-US"),
        ("EN", "en"),
        ("de-CH,de;q=0.9,en;q=0.5", "de-CH"),
        (" fr ; q=0.5", "fr"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("*", None),
        ("", None),
        ("1234", None),
        ("C", None),
        ("x" * 300, None),
    ],
)
def test_reads_the_first_tag(text: str, tag: str | None) -> None:
    assert parse_language(text) == tag


@given(st.text())
def test_any_text_gives_a_short_tag_or_none(text: str) -> None:
    tag = parse_language(text)
    assert tag is None or (tag.isascii() and 2 <= len(tag) <= 35)
