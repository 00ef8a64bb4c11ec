"""Filters of reports, as a client writes them: `country==DE|AT;page=^/blog`."""

import re
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from pulse.errors import Detail, Invalid

MAX_FILTERS = 10
MAX_VALUES = 20
MAX_VALUE_CHARACTERS = 500

# What a visit has: an attribute of its first event, or the page it began or ended with.
VISIT_DIMENSIONS = (
    "country", "region", "city", "language", "device", "browser", "os", "source", "channel", "referrer", "hostname",
    "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "entry_page", "exit_page",
)  # fmt: skip
# What each event has by itself. `event` is what the list of events shows: name, else type, of all but pageviews.
EVENT_DIMENSIONS = ("page", "event", "event_type", "event_name", "screen")
DIMENSIONS = VISIT_DIMENSIONS + EVENT_DIMENSIONS

# What a missing value is called, by dimension, as the lists show it; `(none)` in all others.
MISSING = {"country": "(unknown)", "browser": "(unknown)", "os": "(unknown)", "source": "(direct)"}
NONE = "(none)"

OPERATORS = {"==": "is", "!=": "is not", "=@": "contains", "=^": "begins with"}
_ALIASES = {"path": "page", "type": "event_type", "name": "event_name"}
_FILTER = re.compile(r"\s*([A-Za-z_]+)\s*(==|!=|=@|=\^)(.*)", re.DOTALL)
_PIECE = re.compile(r"\\(.?)|([;|])", re.DOTALL)
_SPECIAL = re.compile(r"[\\;|]")

FilterText = Annotated[
    str,
    Meta(
        description="Only visits and events that pass: dimension, operator (== is, != is not, =@ contains, =^ begins"
        r" with), values with | between them, filters with ; between them; \; \| \\ within a value."
        " Example: country==DE|AT;page=^/blog",
        extra_json_schema={"examples": ["country==DE|AT;page=^/blog"]},
    ),
]


@dataclass(frozen=True, slots=True, order=True)
class Filter:
    """One condition: the dimension has (`!=`: has not) any of the values in the operator's way."""

    dimension: str
    operator: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        """Write it as `read_filters` reads it."""
        return self.dimension + self.operator + "|".join(_SPECIAL.sub(r"\\\g<0>", value) for value in self.values)

    @property
    def missing(self) -> str:
        """What a missing value of the dimension is called."""
        return MISSING.get(self.dimension, NONE)


Filters = tuple[Filter, ...]


def read_filters(text: str | None) -> Filters:
    """Read filters in one order and spelling, so that equal ones are equal; none of None and of nothing but spaces.

    Raises Invalid naming `filters`, which of them it is, and what is allowed.
    """
    if text is None or not text.strip():
        return ()
    parts = _split(text)
    if len(parts) > MAX_FILTERS:
        raise _invalid(f"must be at most {MAX_FILTERS} filters with ; between them, not {len(parts)}")
    found = {_read(number, part) for number, part in enumerate(parts, start=1)}
    return tuple(sorted(found))


def write_filters(filters: Filters) -> str:
    """Write filters as `read_filters` reads them."""
    return ";".join(map(str, filters))


def _split(text: str) -> list[list[str]]:
    """Cut text at `;` and `|`, and take the backslashes out: a list of pieces for each filter."""
    parts, piece, at = [[""]], "", 0
    for match in _PIECE.finditer(text):
        piece += text[at : match.start()]
        at = match.end()
        escaped, separator = match.groups()
        if separator is None:
            if not escaped or escaped not in r"\;|":
                raise _invalid(rf"a backslash must be followed by ; | or \ (at character {match.start() + 1})")
            piece += escaped
            continue
        parts[-1][-1] = piece
        piece = ""
        if separator == "|":
            parts[-1].append("")
        else:
            parts.append([""])
    parts[-1][-1] = piece + text[at:]
    return parts


def _read(number: int, pieces: list[str]) -> Filter:
    named = f"filter {number} ({_shorten(pieces[0])})"
    match = _FILTER.fullmatch(pieces[0])
    if match is None:
        allowed = ", ".join(f"{sign} ({meaning})" for sign, meaning in OPERATORS.items())
        raise _invalid(f"{named} must be a dimension, one of {allowed}, and a value")
    dimension = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", match[1]).lower()
    dimension = _ALIASES.get(dimension, dimension)
    if dimension not in DIMENSIONS:
        raise _invalid(f"{named}: the dimension must be one of {', '.join(DIMENSIONS)}")
    values = [match[3], *pieces[1:]]
    if len(values) > MAX_VALUES:
        raise _invalid(f"{named} must have at most {MAX_VALUES} values with | between them, not {len(values)}")
    for value in values:
        problem = _check(value)
        if problem:
            raise _invalid(f"{named}: {problem}")
    if dimension == "country":
        values = [value if value == MISSING["country"] else value.upper() for value in values]
    return Filter(dimension, match[2], tuple(sorted(set(values))))


def _check(value: str) -> str | None:
    if not value:
        return "a value is empty; a missing one is called (unknown), (direct) or (none)"
    if len(value) > MAX_VALUE_CHARACTERS:
        return f"a value must have at most {MAX_VALUE_CHARACTERS} characters, not {len(value)}"
    if "\x00" in value:
        return "a value must not hold the character NUL"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "a value must be Unicode text without lone surrogates"
    return None


def _shorten(text: str) -> str:
    text = text.encode("utf-8", "replace").decode().replace("\x00", "�")
    return text if len(text) <= 60 else text[:59] + "…"


def _invalid(problem: str) -> Invalid:
    return Invalid(f"The filters can't be read: {problem}.", details=[Detail("filters", problem)])
