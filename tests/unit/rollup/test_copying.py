"""Text fields of COPY."""

from hypothesis import given
from hypothesis import strategies as st

from pulse.rollup.copying import NULL, array, decode, encode, encode_bytes
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


def test_bytes_and_arrays() -> None:
    assert encode_bytes(b"\x00\xff") == r"\\x00ff"
    assert encode_bytes(b"") == r"\\x"
    assert array([1, -2]) == "{1,-2}"
    assert array([]) == "{}"


@given(st.text(st.sampled_from("aé漢😀\\"), max_size=1500))
def test_values_are_cut_between_letters(text: str) -> None:
    value = clip(text)
    assert text.startswith(value)
    assert len(value.encode()) <= VALUE_MAX_BYTES
    assert value == text or len(value.encode()) > VALUE_MAX_BYTES - 4
