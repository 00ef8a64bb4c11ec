"""The path of one event: from what the client sent to the row that is stored, top to bottom."""

from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from msgspec import Raw, Struct

from pulse.ingest.event import WireEvent
from pulse.ingest.geo import locate
from pulse.ingest.language import parse_language
from pulse.ingest.page import Hints, Page, parse_page
from pulse.ingest.source import attribute
from pulse.ingest.user_agent import parse_user_agent
from pulse.ingest.uuid7 import new_event_id
from pulse.ingest.visitor import Identity

ENGAGEMENT = "engagement"


class Drop(Enum):
    """Why an event is answered and counted but not stored."""

    BOT = "bot"


class RequestFacts(NamedTuple):
    """What the request itself tells of all its events; text is empty where the header is missing.

    `address` is the client's, past the trusted proxies; `received_at` is aware, in UTC.
    """

    project_id: int
    address: str
    user_agent: str
    language_header: str
    received_at: datetime


class EventRow(Struct, gc=False, omit_defaults=True):
    """A row of table `events` but for `batch_id`; its JSON feeds `json_to_recordset`.

    `occurred_at` is UTC and becomes ISO 8601 text; `custom_data` is passed on as the client's own bytes.
    """

    occurred_at: datetime
    visitor: int
    session_key: int
    id: str
    project_id: int
    client_session: bool
    event_type: str
    channel: str
    device: str
    engagement_ms: int | None = None
    screen_width: int | None = None
    screen_height: int | None = None
    viewport_width: int | None = None
    viewport_height: int | None = None
    event_name: str | None = None
    hostname: str | None = None
    path: str | None = None
    referrer: str | None = None
    source: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    browser: str | None = None
    browser_version: str | None = None
    os: str | None = None
    os_version: str | None = None
    language: str | None = None
    timezone: str | None = None
    custom_data: Raw | None = None


class Accepted(Struct, gc=False):
    """A row to store, and whether the client chose its id (which then has to be claimed)."""

    row: EventRow
    client_id: bool


def enrich(
    event: WireEvent, facts: RequestFacts, identity: Identity, new_id: Callable[[], str] = new_event_id
) -> Accepted | Drop:
    """Turn a checked event into its row, or name the reason why it is not stored.

    One without an id of its own gets a new one. A `user_agent` in the body counts before the request's: server-side
    senders pass their visitor's on.
    """
    agent_text = event.user_agent or facts.user_agent
    agent = parse_user_agent(agent_text)
    if agent.is_bot:
        return Drop.BOT

    page = parse_page(event.url)
    origin = attribute(event.referrer, page.hostname, _choose_hints(event, page))
    place = locate(facts.address)
    visitor = identity.visitor(facts.project_id, event.visitor_id, facts.address, agent_text, facts.received_at.date())
    utm = origin.utm
    # By position, in the order of the class: with keywords it takes four times as long (1.1 instead of 0.3 µs).
    row = EventRow(
        event.occurred_at or facts.received_at,
        visitor,
        identity.session_key(facts.project_id, event.session_id, visitor),
        event.event_id or new_id(),
        facts.project_id,
        event.session_id is not None,
        event.event_type,
        origin.channel,
        agent.device,
        event.engagement_ms if event.event_type == ENGAGEMENT else None,
        event.screen_width,
        event.screen_height,
        event.viewport_width,
        event.viewport_height,
        event.event_name,
        page.hostname,
        page.path,
        origin.referrer,
        origin.source,
        utm.source,
        utm.medium,
        utm.campaign,
        utm.term,
        utm.content,
        place.country,
        place.region,
        place.city,
        agent.browser,
        agent.browser_version,
        agent.os,
        agent.os_version,
        parse_language(event.language or facts.language_header),
        event.timezone,
        event.custom_data,
    )
    return Accepted(row, event.event_id is not None)


def _choose_hints(event: WireEvent, page: Page) -> Hints | None:
    """Let campaign parameters that the event names itself count before those of its URL."""
    if event.utm is None:
        return page.hints
    return Hints(event.utm, None, page.hints.click_id if page.hints else None)
