"""The page an event happened on: host and path of its URL, and where the URL says the visit came from."""

import re
from typing import NamedTuple
from urllib.parse import unquote_plus

from pulse.ingest.memo import Memo
from pulse.ingest.source_table import CLICK_IDS

HOST_LENGTH = 253
PATH_LENGTH = 1024
PARAMETER_LENGTH = 255


class Utm(NamedTuple):
    """The five campaign parameters; None where absent."""

    source: str | None = None
    medium: str | None = None
    campaign: str | None = None
    term: str | None = None
    content: str | None = None


class Hints(NamedTuple):
    """What a landing page's query string says about where the visit came from."""

    utm: Utm | None = None
    ref: str | None = None       # ?ref= or ?source=
    click_id: str | None = None  # the name of an advertiser's parameter, never its value


class Page(NamedTuple):
    """Where an event happened: lower-case host without port, path as sent without query."""

    hostname: str | None = None
    path: str | None = None
    hints: Hints | None = None


NO_PAGE = Page()

# RFC 3986, appendix B.
_URL = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_HOST = re.compile(r"(?:[^@]*@)*(\[[0-9a-fA-F:.%]+\]|[^:\[\]\s<>\"'`{}|\\^]+)(?::\d*)?")
_UTM_KEYS = {f"utm_{name}": name for name in Utm._fields}


def split_host(authority: str | None) -> str | None:
    """Return the lower-case host of a URL's authority, without user, port and final dot; None for junk."""
    match = _HOST.fullmatch(authority) if authority else None
    return match.group(1).lower().rstrip(".")[:HOST_LENGTH] or None if match else None


def split_url(url: str) -> tuple[str, str | None, str, str, str]:
    """Return scheme, authority, path, query and fragment; never fails, whatever the text."""
    match = _URL.fullmatch(url)
    assert match is not None  # each part may be empty: the expression matches any text
    scheme, authority, path, query, fragment = match.groups()
    return (scheme or "").lower(), authority, path, query or "", fragment or ""


def _parse(url: str) -> Page:
    scheme, authority, path, query, fragment = split_url(url.strip())
    if fragment.startswith(("/", "!/")):  # hash routing: the fragment is the page
        route, _, hash_query = fragment.partition("?")
        path = f"{path or '/'}#{route}"
        query = f"{query}&{hash_query}" if hash_query else query
    if not path.startswith("/") and not scheme:
        path = f"/{path}"
    return Page(split_host(authority), (path or "/")[:PATH_LENGTH], _read_hints(query) if query else None)


def _read_hints(query: str) -> Hints | None:
    """Read the campaign parameters, which alone of the query string are kept: the rest can hold personal data.

    The first of two equal names counts.
    """
    utm: dict[str, str] = {}
    ref = click_id = None
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        key = key.lower()
        if not value:
            continue
        if key in _UTM_KEYS:
            utm.setdefault(_UTM_KEYS[key], _decode(value))
        elif key in ("ref", "source"):
            ref = ref or _decode(value)
        elif key in CLICK_IDS:
            click_id = click_id or key
    utm = {name: value for name, value in utm.items() if value}
    if not utm and not ref and not click_id:
        return None
    return Hints(Utm(**utm) if utm else None, ref or None, click_id)


def _decode(value: str) -> str:
    return unquote_plus(value).replace("\x00", "").strip()[:PARAMETER_LENGTH]


_PAGES: Memo[str, Page] = Memo(_parse, size=4096)


def parse_page(url: str | None) -> Page:
    """Return host, path and campaign hints of an event's URL; a bare path is a page of no known host."""
    return _PAGES[url] if url else NO_PAGE
