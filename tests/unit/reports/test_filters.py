"""The grammar of filters: what is read, in which spelling it comes out, and what is refused in which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.errors import Invalid
from pulse.reports.conditions import single_event_conditions
from pulse.reports.filters import DIMENSIONS, OPERATORS, Filter, read_filters, write_filters

values = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1, max_size=20)
filters = st.builds(
    lambda dimension, operator, found: Filter(dimension, operator, tuple(sorted(found))),
    st.sampled_from([name for name in DIMENSIONS if name != "country"]),
    st.sampled_from(list(OPERATORS)),
    st.sets(values, min_size=1, max_size=20),
)


@given(st.sets(filters, max_size=10))
def test_what_is_written_is_read_again(found: set[Filter]) -> None:
    ordered = tuple(sorted(found))
    assert read_filters(write_filters(ordered)) == ordered


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_filters(text)
    except Invalid as error:
        assert [detail.field for detail in error.details] == ["filters"]
        error.message.encode()  # can be answered
    else:
        assert read_filters(write_filters(found)) == found


def test_operators_and_values() -> None:
    assert read_filters("country==de|AT; page=^/blog;utm_source!=x;event=@sign") == (
        Filter("country", "==", ("AT", "DE")), Filter("event", "=@", ("sign",)),
        Filter("page", "=^", ("/blog",)), Filter("utm_source", "!=", ("x",)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("page==/a;country==DE", " country ==de; page==/a"),
        ("path==/a", "page==/a"),
        ("utmSource==x", "utm_source==x"),
        ("Entry_Page==/", "entryPage==/"),
        ("page==/b|/a|/b", "page==/a|/b"),
        ("page==/a;page==/a", "page==/a"),
        ("type==click", "event_type==click"),
    ],
)
def test_equal_filters_have_one_spelling(one: str, other: str) -> None:
    assert write_filters(read_filters(one)) == write_filters(read_filters(other))


def test_separators_within_values() -> None:
    (found,) = read_filters(r"utm_campaign==a\;b|c\|d|e\\f=@==")
    assert found.values == ("a;b", "c|d", "e\\f=@==")


@pytest.mark.parametrize("text", [None, "", "  "])
def test_none(text: str | None) -> None:
    assert read_filters(text) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("country", ["filter 1", "country", "=@ (contains)"]),
        ("country==DE;planet==x", ["filter 2", "planet", "must be one of country, region"]),
        ("country~DE", ["filter 1"]),
        ("country==DE;", ["filter 2"]),
        ("page==", ["empty", "(none)"]),
        ("page==/a||/b", ["empty"]),
        ("page==" + "x" * 501, ["500", "501"]),
        ("page==" + "|".join(map(str, range(21))), ["20", "21"]),
        (";".join(f"page==/{n}" for n in range(11)), ["10", "11"]),
        ("page==a\x00b", ["NUL"]),
        ("page==\ud800", ["surrogates"]),
        ("page==a\\b", ["backslash", "character 8"]),
        ("page==a\\", ["backslash"]),
    ],
)
def test_what_is_refused_is_explained(text: str, words: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        read_filters(text)
    assert all(word in caught.value.details[0].message for word in words), caught.value.details


def test_single_events_have_no_entry_page() -> None:
    with pytest.raises(Invalid, match="entry_page"):
        single_event_conditions(read_filters("entry_page==/"))
