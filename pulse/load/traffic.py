"""Realistic visitors: who they are, which pages they read in one session and when. Seeded, so that a run repeats.

What the site and its visitors are made of is in `site.json`, which the k6 scripts read too.
"""

import heapq
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

Event = dict[str, Any]

SITE_PATH = Path(__file__).with_name("site.json")
# Half of all visits are by somebody who has been here before.
RETURNING_SHARE = 0.5
KNOWN_VISITORS = 5_000
MEAN_READING_S = 28.0
# How busy each hour of a day is (UTC), against the busiest.
_HOURS = (3, 2, 2, 2, 3, 4, 5, 7, 8, 9, 9, 9, 10, 10, 10, 10, 9, 9, 9, 10, 10, 8, 6, 4)


@dataclass(frozen=True, slots=True)
class Visitor:
    """One person with one browser. `address` lies in a network of `country`."""

    id: str
    user_agent: str
    screen: tuple[int, int]
    country: str
    address: str
    language: str
    timezone: str


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """An event in its wire form, without time and id; `at_s` is seconds since the session, or the stream, began."""

    at_s: float
    visitor: Visitor
    event: Event


class Choice:
    """Weighted choice among items, at the cost of one bisection."""

    def __init__(self, items: list[Any], weights: list[float]) -> None:
        self._items = items
        self._totals = list(itertools.accumulate(weights))

    def pick(self, source: random.Random) -> Any:
        """Return one of the items."""
        return source.choices(self._items, cum_weights=self._totals)[0]


@cache
def read_site() -> dict[str, Any]:
    """Return the site's pages, channels, campaigns, browsers and countries."""
    site: dict[str, Any] = json.loads(SITE_PATH.read_text())
    return site


def list_pages(site: dict[str, Any]) -> list[str]:
    """Return every path of the site, the most visited first."""
    return site["pages"] + [
        form.format(number) for form, count in site["numberedPages"] for number in range(1, count + 1)
    ]


class Traffic:
    """An endless supply of visitors and their sessions; the same seed gives the same ones."""

    def __init__(self, seed: int = 1) -> None:
        self._site = site = read_site()
        self._random = random.Random(seed)
        pages = list_pages(site)
        self._pages = Choice(pages, [1 / rank ** site["zipfExponent"] for rank in range(1, len(pages) + 1)])
        self._agents, self._countries, self._channels, self._campaigns, self._actions = (
            Choice(site[name], [item["weight"] for item in site[name]])
            for name in ("agents", "countries", "channels", "campaigns", "actions")
        )
        self._known: list[Visitor] = []
        self._sessions = itertools.count(1)
        self._origin = f"https://{site['hostname']}"

    def visitor(self) -> Visitor:
        """Return a new visitor, or one who has been here before."""
        if self._known and self._random.random() < RETURNING_SHARE:
            return self._random.choice(self._known)
        agent = self._agents.pick(self._random)
        country = self._countries.pick(self._random)
        network = country["network"].split(".")
        found = Visitor(
            id=f"v{self._random.getrandbits(48):012x}",
            user_agent=agent["text"],
            screen=tuple(self._random.choice(agent["screens"])),
            country=country["code"],
            address=f"{network[0]}.{network[1]}.{self._random.randrange(256)}.{self._random.randrange(1, 255)}",
            language=self._random.choice(country["languages"]),
            timezone=country["timezone"],
        )
        if len(self._known) < KNOWN_VISITORS:
            self._known.append(found)
        else:
            self._known[self._random.randrange(KNOWN_VISITORS)] = found
        return found

    def session(self) -> list[TimedEvent]:
        """Return one session in order of time: pageviews, visible time on each page, and what is done there."""
        source = self._random
        visitor = self.visitor()
        common = self._describe(visitor)
        referrer, query = self._arrive()
        pages = 1
        if source.random() >= self._site["bounceShare"]:
            pages += 1 + int(source.expovariate(1 / self._site["meanFurtherPages"]))
        events: list[TimedEvent] = []
        at_s = 0.0
        for _ in range(min(pages, 30)):
            url = f"{self._origin}{self._pages.pick(source)}{query}"
            view = {"event_type": "pageview", "url": url, "referrer": referrer}
            events.append(TimedEvent(at_s, visitor, {**view, **common}))
            reading_s = min(source.expovariate(1 / MEAN_READING_S) + 1.5, 600)
            if source.random() < self._site["actionShare"]:
                action = self._actions.pick(source)
                done = {"event_type": action["type"], "event_name": action["name"], "custom_data": action["data"]}
                events.append(TimedEvent(at_s + reading_s * 0.7, visitor, {"url": url, **done, **common}))
            seen = {"event_type": "engagement", "engagement_ms": int(reading_s * 1000), "url": url}
            events.append(TimedEvent(at_s + reading_s, visitor, {**seen, **common}))
            at_s += reading_s + 0.1
            referrer, query = url, ""
        return events

    def _describe(self, visitor: Visitor) -> Event:
        width, height = visitor.screen
        return {
            "session_id": f"s{next(self._sessions)}-{visitor.id}",
            "visitor_id": visitor.id,
            "user_agent": visitor.user_agent,
            "screen_width": width,
            "screen_height": height,
            "viewport_width": width,
            "viewport_height": height - 120,
            "language": visitor.language,
            "timezone": visitor.timezone,
        }

    def _arrive(self) -> tuple[str, str]:
        """Return the referrer and the query of the first page."""
        channel = self._channels.pick(self._random)
        if channel.get("campaigns"):
            campaign = self._campaigns.pick(self._random)
            pairs = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in campaign["utm"].items())
            return campaign["referrer"], f"?{pairs}"
        return (self._random.choice(channel["referrers"]) if channel["referrers"] else ""), ""

    def history(self, ends_at: datetime, days: float, events: int) -> list[tuple[datetime, Visitor, Event]]:
        """Return about `events` events of the `days` before `ends_at`, in order of time, more by day than by night."""
        found: list[tuple[datetime, Visitor, Event]] = []
        span_s = days * 86_400
        while len(found) < events:
            started_at = ends_at - timedelta(seconds=self._random.random() * span_s)
            if self._random.random() * max(_HOURS) > _HOURS[started_at.hour]:
                continue
            for timed in self.session():
                at = started_at + timedelta(seconds=timed.at_s)
                if at < ends_at:
                    found.append((at, timed.visitor, timed.event))
        found.sort(key=lambda item: item[0])
        return found

    def stream(self, rate: float) -> Iterator[TimedEvent]:
        """Yield events without end, in order of time, on average `rate` a second: as many people as that takes."""
        sessions: list[tuple[float, int, Iterator[TimedEvent], TimedEvent]] = []
        numbers = itertools.count()
        # Two events a page, MEAN_READING_S apart; people begin spread over that time.
        gap_s = MEAN_READING_S / 2 * 1.1
        for _ in range(max(round(rate * gap_s), 1)):
            self._begin(sessions, next(numbers), self._random.random() * gap_s)
        while True:
            at_s, number, rest, event = heapq.heappop(sessions)
            yield TimedEvent(at_s, event.visitor, event.event)
            following = next(rest, None)
            if following is None:
                self._begin(sessions, next(numbers), at_s + self._random.random() * gap_s * 2)
            else:
                due_s = at_s + following.at_s - event.at_s
                heapq.heappush(sessions, (due_s, number, rest, following))

    def _begin(self, sessions: list[Any], number: int, at_s: float) -> None:
        rest = iter(self.session())
        heapq.heappush(sessions, (at_s, number, rest, next(rest)))


def give_id(event: Event, source: random.Random) -> Event:
    """Return the event with an id of the client's own, as the tracker script sends it."""
    return {"event_id": str(UUID(int=source.getrandbits(128), version=4)), **event}
