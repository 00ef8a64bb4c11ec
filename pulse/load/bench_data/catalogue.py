"""What bench data are drawn from: pages, visitors' facts, arrivals and actions, as ingestion would store them.

Pages, browsers, channels and campaigns are those of `site.json`; `world.json` brings them to 60 countries and to the
number of campaigns and referrers that a larger site has. Text is COPY's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pulse.ingest.page import Hints, Utm
from pulse.ingest.source import Origin, attribute
from pulse.ingest.user_agent import parse_user_agent
from pulse.load.bench_data.plan import Site
from pulse.load.traffic import list_pages, read_site
from pulse.rollup.copying import NULL, decode, encode

Weights = npt.NDArray[np.float64]
WORLD_PATH = Path(__file__).with_name("world.json")

AGENT_COLUMNS = (
    "device", "browser", "browser_version", "os", "os_version",
    "screen_width", "screen_height", "viewport_width", "viewport_height",
)  # fmt: skip
PLACE_COLUMNS = ("country", "language", "timezone")
ORIGIN_COLUMNS = (
    "referrer", "source", "channel", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
)  # fmt: skip
ACTION_COLUMNS = ("event_type", "event_name", "custom_data")

Facts = dict[str, str]


class Arrival(NamedTuple):
    """How a session begins: facts of its first pageview, and of the events on that page after it."""

    first: Facts
    then: Facts


@dataclass(frozen=True)
class Catalogue:
    """Everything one site's days are drawn from, each list with its ascending sums of weights up to 1."""

    hostname: str
    paths: list[str]
    agents: list[Facts]
    places: list[Facts]
    arrivals: list[Arrival]
    inside: Facts
    actions: list[Facts]
    path_sums: Weights
    agent_sums: Weights
    place_sums: Weights
    arrival_sums: Weights
    action_sums: Weights


def draw(sums: Weights, chances: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the index that each chance in [0, 1) falls on."""
    return np.minimum(np.searchsorted(sums, chances, side="right"), len(sums) - 1)


def to_text(field: str) -> str | None:
    """Return what a field says."""
    return None if field == NULL else decode(field)


@cache
def read_catalogue(site: Site) -> Catalogue:
    """Return a site's catalogue."""
    found = read_site()
    world = json.loads(WORLD_PATH.read_text())
    paths = _list_paths(found, site.pages)
    agents = _list_agents(found)
    places = _list_places(found, world)
    arrivals = _list_arrivals(found, world, site)
    actions = _list_actions(found)
    return Catalogue(
        hostname=found["hostname"],
        paths=[encode(path) for path in paths],
        agents=[facts for facts, _ in agents],
        places=[facts for facts, _ in places],
        arrivals=[arrival for arrival, _ in arrivals],
        inside=_facts(ORIGIN_COLUMNS, _flatten(attribute(None, found["hostname"], None))),
        actions=[facts for facts, _ in actions],
        path_sums=_sums([1 / rank ** found["zipfExponent"] for rank in range(1, len(paths) + 1)]),
        agent_sums=_sums([weight for _, weight in agents]),
        place_sums=_sums([weight for _, weight in places]),
        arrival_sums=_sums([weight for _, weight in arrivals]),
        action_sums=_sums([weight for _, weight in actions]),
    )


def _sums(weights: Sequence[float]) -> Weights:
    sums = np.cumsum(np.asarray(weights, dtype=np.float64))
    return sums / sums[-1]


def _facts(columns: Sequence[str], values: Sequence[Any]) -> Facts:
    fields = (NULL if value is None else encode(str(value)) for value in values)
    return dict(zip(columns, fields, strict=True))


def _list_paths(found: dict[str, Any], count: int) -> list[str]:
    paths = list_pages(found)
    paths += [f"/archive/{number}" for number in range(1, count - len(paths) + 1)]
    return paths[:count]


def _list_agents(found: dict[str, Any]) -> list[tuple[Facts, float]]:
    agents = []
    for item in found["agents"]:
        agent = parse_user_agent(item["text"])
        for width, height in item["screens"]:
            values = (
                agent.device, agent.browser, agent.browser_version, agent.os, agent.os_version,
                width, height, width, height - 120,
            )  # fmt: skip
            agents.append((_facts(AGENT_COLUMNS, values), item["weight"] / len(item["screens"])))
    return agents


def _list_places(found: dict[str, Any], world: dict[str, Any]) -> list[tuple[Facts, float]]:
    countries = [(item["code"], item["timezone"], item["languages"], item["weight"]) for item in found["countries"]]
    countries += [
        (code, zone, languages, world["weightOfFirst"] / rank**0.8)
        for rank, (code, zone, languages) in enumerate(world["countries"], start=1)
    ]
    return [
        (_facts(PLACE_COLUMNS, (code, language, zone)), weight / len(languages))
        for code, zone, languages, weight in countries
        for language in languages
    ]


def _flatten(origin: Origin) -> tuple[Any, ...]:
    utm = origin.utm
    return (
        origin.referrer, origin.source, origin.channel, utm.source, utm.medium, utm.campaign, utm.term, utm.content
    )  # fmt: skip


def _arrive(hostname: str, referrer: str, utm: dict[str, str] | None) -> Arrival:
    hints = Hints(Utm(**{name.removeprefix("utm_"): text for name, text in utm.items()})) if utm else None
    origins = (attribute(source, hostname, hints) for source in (referrer or None, None))
    return Arrival(*(_facts(ORIGIN_COLUMNS, _flatten(origin)) for origin in origins))


def _list_arrivals(found: dict[str, Any], world: dict[str, Any], site: Site) -> list[tuple[Arrival, float]]:
    arrivals = []
    for channel in found["channels"]:
        if channel.get("campaigns"):
            campaigns = _list_campaigns(found, world, site.campaigns)
            total = sum(weight for _, _, weight in campaigns)
            for referrer, utm, weight in campaigns:
                arrivals.append((_arrive(found["hostname"], referrer, utm), channel["weight"] * weight / total))
            continue
        referrers = list(channel["referrers"]) or [""]
        if any(".example/" in referrer for referrer in referrers):
            referrers += [f"https://site-{number}.example/links/{number % 7}" for number in range(site.referrers)]
        total = sum(1 / rank for rank in range(1, len(referrers) + 1))
        for rank, referrer in enumerate(referrers, start=1):
            arrivals.append((_arrive(found["hostname"], referrer, None), channel["weight"] / rank / total))
    return arrivals


def _list_campaigns(
    found: dict[str, Any], world: dict[str, Any], count: int
) -> list[tuple[str, dict[str, str], float]]:
    campaigns = [(item["referrer"], item["utm"], float(item["weight"])) for item in found["campaigns"]]
    forms = world["campaignForms"]
    for number in range(1, count - len(campaigns) + 1):
        form = forms[number % len(forms)]
        utm = {name: text.format(number) for name, text in form.items() if name != "referrer"}
        campaigns.append((form["referrer"], utm, 8.0 / number))
    return campaigns[:count]


def _list_actions(found: dict[str, Any]) -> list[tuple[Facts, float]]:
    actions = []
    for item in found["actions"]:
        for step in range(5):  # of each kind a few, so that sums of values are more than counts
            data = {name: _vary(value, step) for name, value in item["data"].items()}
            text = json.dumps(data, ensure_ascii=False)
            actions.append((_facts(ACTION_COLUMNS, (item["type"], item["name"], text)), item["weight"] / (step + 1)))
    return actions


def _vary(value: Any, step: int) -> Any:
    return round(value * (1 + step / 2), 2) if isinstance(value, (int, float)) else value
