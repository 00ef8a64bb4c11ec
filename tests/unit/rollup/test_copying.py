"""Fields of COPY."""

from hypothesis import given
from hypothesis import strategies as st

from pulse.rollup.copying import NULL, array, decode, encode, pack_texts, unpack_texts
from pulse.rollup.reading import MARK
from pulse.rollup.writing import VALUE_MAX_BYTES, clip

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(texts)
def test_text_comes_back(text: str) -> None:
    field = encode(text)
    assert decode(field) == text
    assert not set(field) & set("\t\n\r")
    assert field != NULL


def test_letters_that_postgresql_escapes() -> None:
    assert decode(r"\b\f\n\r\t\v\\n") == "\b\f\n\r\t\v\\n"


def test_arrays() -> None:
    assert array([1, -2]) == "{1,-2}"
    assert array([]) == "{}"


@given(st.lists(st.none() | texts))
def test_texts_come_back_from_binary_fields(values: list[str | None]) -> None:
    assert unpack_texts(pack_texts(values)) == values


# As long as a mark is, or as what it is made of.
lengths = st.sampled_from([0, 1, 4, 254, 510, 0xFEFE, 0xFEFEFE])
values = st.none() | texts | lengths.map(lambda length: "þ" * (length // 2) + "x" * (length % 2))


@given(st.lists(st.lists(values, max_size=4), min_size=1, max_size=5))
def test_no_text_looks_like_a_mark(groups: list[list[str | None]]) -> None:
    fields = [pack_texts(group) for group in groups]
    assert MARK.join(fields).split(MARK) == fields


@given(st.text(st.sampled_from("aé漢😀\\"), max_size=1500))
def test_values_are_cut_between_letters(text: str) -> None:
    value = clip(text)
    assert text.startswith(value)
    assert len(value.encode()) <= VALUE_MAX_BYTES
    assert value == text or len(value.encode()) > VALUE_MAX_BYTES - 4
