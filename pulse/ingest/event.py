"""Bytes to checked events, one or a batch.

The good case is one pass of msgspec over the body and one constructor; whatever is only needed to word an error, or to
look at text that PostgreSQL would refuse, is done when a cheap look at the bytes says so.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from pulse.errors import BadRequest, Detail, Invalid, PulseError, TooLarge
from pulse.ingest.custom_data import check_custom_data
from pulse.ingest.page import Utm
from pulse.ingest.wire import ABSENT, RULES, UTM_RULE, Wire, WireUtm

MAX_EVENTS = 100
MAX_AGE = timedelta(days=7)
MAX_AHEAD = timedelta(minutes=5)


class WireEvent(Struct, gc=False):
    """A checked event. Text is not empty, holds no NUL and no unpaired surrogate; `occurred_at` is aware, in UTC.

    `custom_data` is the client's JSON object, byte by byte; `event_id` is in canonical spelling.
    """

    event_type: str
    event_name: str | None = None
    url: str | None = None
    referrer: str | None = None
    session_id: str | None = None
    visitor_id: str | None = None
    user_agent: str | None = None
    screen_width: int | None = None
    screen_height: int | None = None
    viewport_width: int | None = None
    viewport_height: int | None = None
    language: str | None = None
    timezone: str | None = None
    custom_data: Raw | None = None
    utm: Utm | None = None
    occurred_at: datetime | None = None
    event_id: str | None = None
    engagement_ms: int | None = None


@dataclass(frozen=True, slots=True)
class EventError:
    """Why one event of a batch was refused."""

    index: int
    field: str
    message: str


class Batch(NamedTuple):
    """A batch read: the good events with their index, the errors of the others, and how many there were."""

    events: list[tuple[int, WireEvent]]
    errors: list[EventError]
    size: int


class _WireBatch(Struct, gc=False):
    events: list[Wire]


class _RawBatch(Struct, gc=False):
    events: list[Raw]


_event_decoder = msgspec.json.Decoder(Wire)
_batch_decoder = msgspec.json.Decoder(_WireBatch)
_raw_batch_decoder = msgspec.json.Decoder(_RawBatch)

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SIZE = re.compile(r"\s*(\d{1,6})\s*[xX×*]\s*(\d{1,6})\s*", re.ASCII)
_ESCAPED_NUL = b"\\u0000"
_SURROGATES = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F]..", re.DOTALL)
_ERROR_PATH = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)
_BAD_TEXT = "must hold no NUL character and no unpaired surrogate"


def decode_event(body: bytes, now: datetime | None = None) -> WireEvent:
    """Decode and check one event; `now` is when it was received, by default this moment.

    Raises BadRequest for a body that is no JSON object in UTF-8 and Invalid, which names the field and its limit, for a
    field that breaks a rule.
    """
    _check_utf8(body)
    return _read_event(body, now or datetime.now(UTC))


def decode_batch(body: bytes, now: datetime | None = None) -> Batch:
    """Decode `{"events": […]}` and check each event by itself: a bad one does not spoil the others.

    Raises BadRequest for a body that is no JSON object in UTF-8, Invalid for one without a list of events, and TooLarge
    for more than 100 of them.
    """
    now = now or datetime.now(UTC)
    _check_utf8(body)
    try:
        wires = _batch_decoder.decode(body).events
    except (msgspec.DecodeError, RecursionError):
        return _decode_one_by_one(body, now)  # costs a second reading, and tells the bad ones from the good
    _check_size(len(wires))
    is_suspect = _ESCAPED_NUL in body
    batch = Batch([], [], len(wires))
    for index, wire in enumerate(wires):
        try:
            batch.events.append((index, _check(wire, now, is_suspect)))
        except PulseError as error:
            batch.errors.append(_name_error(index, error))
    return batch


def _decode_one_by_one(body: bytes, now: datetime) -> Batch:
    body = _mend_surrogates(body)
    try:
        items = _raw_batch_decoder.decode(body).events
    except msgspec.ValidationError as error:
        if str(error).startswith("Expected `object`") and "$" not in str(error):
            raise BadRequest("The body must be a JSON object.") from None
        raise _invalid("events", f"must be a list of 1 to {MAX_EVENTS} events") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None
    _check_size(len(items))
    batch = Batch([], [], len(items))
    for index, item in enumerate(items):
        try:
            batch.events.append((index, _read_event(bytes(item), now)))
        except PulseError as error:
            batch.errors.append(_name_error(index, error))
    return batch


def _check_size(size: int) -> None:
    if size > MAX_EVENTS:
        message = f"must hold at most {MAX_EVENTS} events, not {size}"
        raise TooLarge(f"events {message}.", details=[Detail("events", message)])
    if size == 0:
        raise _invalid("events", f"must be a list of 1 to {MAX_EVENTS} events")


def _name_error(index: int, error: PulseError) -> EventError:
    detail = error.details[0] if error.details else Detail("events", error.message)
    return EventError(index, detail.field, detail.message)


def _read_event(body: bytes, now: datetime) -> WireEvent:
    try:
        wire = _event_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        mended = _mend_surrogates(body)
        if mended is body:
            raise _malformed(error) from None
        return _read_event(mended, now)
    return _check(wire, now, _ESCAPED_NUL in body)


def _check_utf8(body: bytes) -> None:
    """Refuse what is not UTF-8: msgspec does not look at the text it skips, PostgreSQL does."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"The body is not UTF-8 text (byte {error.start}).") from None


def _mend_surrogates(body: bytes) -> bytes:
    """Write unpaired surrogate escapes as escaped NULs, which the check of each field then names.

    msgspec takes them for malformed JSON, and the body, or all of a batch, would be refused without a reason.
    Returns the same object when there are none.
    """

    def mend(match: re.Match[bytes]) -> bytes:
        found = match.group()
        return _ESCAPED_NUL if len(found) == 6 else found

    if b"\\u" not in body:
        return body
    mended = _SURROGATES.sub(mend, body)
    return body if mended == body else mended


def _malformed(error: Exception) -> BadRequest:
    if isinstance(error, RecursionError):
        return BadRequest("The body is JSON nested too deeply.")
    return BadRequest(f"The body is not JSON: {str(error).removeprefix('JSON is malformed: ')}.")


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}.", details=[Detail(field, message)])


def _explain(message: str) -> PulseError:
    """Turn msgspec's message into one in the API's words: the field as the client spelled it, and its rule."""
    match = _ERROR_PATH.fullmatch(message)
    path = match.group(2) if match else None
    if not path:
        return BadRequest("The event must be a JSON object.")
    field, _, part = path.partition(".")
    rule = UTM_RULE if part else RULES.get(field)
    return _invalid(path, f"must be {rule}" if rule else message)


def _check(wire: Wire, now: datetime, is_suspect: bool) -> WireEvent:
    """Fold the spellings into one and apply the rules that types can't say."""
    custom_data = _pick_custom_data(wire)
    timestamp = wire.timestamp
    event_id = wire.event_id or wire.eventId
    utm = wire.utm_params or wire.utmParams
    width = wire.screen_width if wire.screen_width is not None else wire.screenWidth
    height = wire.screen_height if wire.screen_height is not None else wire.screenHeight
    size = wire.screen_resolution or wire.screenResolution
    if size and width is None and height is None:
        width, height = _parse_size(size, "screen_resolution" if wire.screen_resolution else "screenResolution")
    event_name = wire.event_name or wire.eventName or None
    event = WireEvent(
        wire.event_type or wire.type or wire.eventType or _default_type(event_name),
        event_name,
        wire.url or None,
        wire.referrer or None,
        wire.session_id or wire.sessionId or None,
        wire.visitor_id or wire.visitorId or None,
        wire.user_agent or wire.userAgent or None,
        width,
        height,
        wire.viewport_width if wire.viewport_width is not None else wire.viewportWidth,
        wire.viewport_height if wire.viewport_height is not None else wire.viewportHeight,
        wire.language or None,
        wire.timezone or None,
        custom_data,
        None if utm is None else _fold_utm(utm),
        None if timestamp is None or timestamp == "" else _parse_instant(timestamp, now),
        _parse_id(event_id, "event_id" if wire.event_id else "eventId") if event_id else None,
        wire.engagement_ms if wire.engagement_ms is not None else wire.engagementMs,
    )
    if is_suspect:
        _check_text(event)
    return event


def _default_type(event_name: str | None) -> str:
    if event_name is None:
        raise _invalid("event_type", "must be text of 1 to 64 characters; it may be left out only with an event_name")
    return "custom"


def _pick_custom_data(wire: Wire) -> Raw | None:
    for raw, field in ((wire.custom_data, "custom_data"), (wire.customData, "customData")):
        if raw is ABSENT:
            continue
        data = bytes(raw)
        if data == b"null":
            continue
        problem = check_custom_data(data)
        if problem:
            raise _invalid(field, problem)
        return raw
    return None


def _fold_utm(wire: WireUtm) -> Utm | None:
    utm = Utm(
        wire.utm_source or wire.source or wire.utmSource or None,
        wire.utm_medium or wire.medium or wire.utmMedium or None,
        wire.utm_campaign or wire.campaign or wire.utmCampaign or None,
        wire.utm_term or wire.term or wire.utmTerm or None,
        wire.utm_content or wire.content or wire.utmContent or None,
    )
    return utm if any(utm) else None


def _parse_size(text: str, field: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    width, height = (int(match[1]), int(match[2])) if match else (-1, -1)
    if not 0 <= width <= 100_000 or not 0 <= height <= 100_000:
        raise _invalid(field, f"must be {RULES[field]}")
    return width, height


def _parse_id(text: str, field: str) -> str:
    if _UUID.fullmatch(text):
        return text
    try:
        return str(UUID(text.strip()))
    except ValueError:
        raise _invalid(field, "must be a UUID") from None


def _parse_instant(value: int | float | str, now: datetime) -> datetime:
    """Return the instant in UTC; a time without offset is in UTC already.

    Eleven leading digits are milliseconds: no ISO 8601 date is longer than eight.
    """
    at: datetime | None = None
    try:
        if not isinstance(value, str):
            at = _from_epoch_ms(value)
        elif value[:11].isdigit() and len(value) >= 11:
            at = _from_epoch_ms(float(value))
        else:
            at = datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        raise _invalid("timestamp", f"must be {RULES['timestamp']}") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    if now - at > MAX_AGE:
        raise _invalid("timestamp", f"must be at most {MAX_AGE.days} days old")
    if at - now > MAX_AHEAD:
        raise _invalid("timestamp", "must be at most 5 minutes ahead of the server's clock")
    return at if at.tzinfo is UTC else at.astimezone(UTC)


def _from_epoch_ms(value: int | float) -> datetime:
    # Numbers past the year 9999 and before the year 1 are instants too, only not of this calendar's library.
    return datetime.fromtimestamp(min(max(value, -1e13), 2e14) / 1000, UTC)


def _check_text(event: WireEvent) -> None:
    """Find the field whose text PostgreSQL would refuse; runs only when the body holds an escaped NUL somewhere."""
    for field in _TEXT_FIELDS:
        text = getattr(event, field)
        if text is not None and "\x00" in text:
            raise _invalid(field, _BAD_TEXT)
    for name, text in zip(Utm._fields, event.utm or (), strict=False):
        if text is not None and "\x00" in text:
            raise _invalid(f"utm_params.{name}", _BAD_TEXT)


_TEXT_FIELDS = (
    "event_type", "event_name", "url", "referrer", "session_id", "visitor_id", "user_agent", "language", "timezone",
)
