"""The wire form of events: a field for every spelling, its type and its limit in words."""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from pulse.ingest.custom_data import MAX_BYTES

Name = Annotated[str, Meta(max_length=64, description="text of at most 64 characters")]
Label = Annotated[str, Meta(max_length=255, description="text of at most 255 characters")]
Agent = Annotated[str, Meta(max_length=1024, description="text of at most 1024 characters")]
Url = Annotated[str, Meta(max_length=2048, description="text of at most 2048 characters")]
Pixels = Annotated[int, Meta(ge=0, le=100_000, description="a whole number from 0 to 100000")]
Millis = Annotated[int, Meta(ge=0, le=86_400_000, description="a whole number of milliseconds from 0 to 86400000")]
Size = Annotated[str, Meta(max_length=64, description="a size such as 1920x1080, each side from 0 to 100000")]
Id = Annotated[str, Meta(max_length=64, description="a UUID")]
Instant = Annotated[int | float | str, Meta(description="an ISO 8601 time or milliseconds since 1970")]

ABSENT = Raw(b"")


class WireUtm(Struct, gc=False):
    """The campaign parameters as sent, each with or without `utm`."""

    source: Label | None = None
    medium: Label | None = None
    campaign: Label | None = None
    term: Label | None = None
    content: Label | None = None
    utm_source: Label | None = None
    utm_medium: Label | None = None
    utm_campaign: Label | None = None
    utm_term: Label | None = None
    utm_content: Label | None = None
    utmSource: Label | None = None
    utmMedium: Label | None = None
    utmCampaign: Label | None = None
    utmTerm: Label | None = None
    utmContent: Label | None = None


UtmObject = Annotated[WireUtm, Meta(description="an object of texts of at most 255 characters")]


class Wire(Struct, gc=False):
    """An event as sent: a field for every spelling. Of two spellings of one field the first listed counts."""

    event_type: Name | None = None
    event_name: Label | None = None
    url: Url | None = None
    referrer: Url | None = None
    session_id: Label | None = None
    visitor_id: Label | None = None
    user_agent: Agent | None = None
    screen_width: Pixels | None = None
    screen_height: Pixels | None = None
    viewport_width: Pixels | None = None
    viewport_height: Pixels | None = None
    language: Label | None = None
    timezone: Name | None = None
    custom_data: Raw = ABSENT
    utm_params: UtmObject | None = None
    timestamp: Instant | None = None
    event_id: Id | None = None
    engagement_ms: Millis | None = None
    screen_resolution: Size | None = None
    type: Name | None = None
    eventType: Name | None = None
    eventName: Label | None = None
    sessionId: Label | None = None
    visitorId: Label | None = None
    userAgent: Agent | None = None
    screenWidth: Pixels | None = None
    screenHeight: Pixels | None = None
    viewportWidth: Pixels | None = None
    viewportHeight: Pixels | None = None
    customData: Raw = ABSENT
    utmParams: UtmObject | None = None
    eventId: Id | None = None
    engagementMs: Millis | None = None
    screenResolution: Size | None = None


def _read_rules(struct: type[Struct]) -> dict[str, str]:
    """Return each field's rule in words, from the description of its type."""
    rules = {}
    for field in msgspec.inspect.type_info(struct).fields:  # type: ignore[attr-defined]
        options = getattr(field.type, "types", (field.type,))
        for option in options:
            extra = getattr(option, "extra_json_schema", None)
            if extra and "description" in extra:
                rules[field.encode_name] = extra["description"]
    return rules


# What each field may be, for messages that read "must be …".
RULES = _read_rules(Wire) | {"custom_data": f"an object of at most {MAX_BYTES} bytes"}
UTM_RULE = _read_rules(WireUtm)["source"]
