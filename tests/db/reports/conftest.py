"""A site of one project with a history of events."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import Engine, text

from pulse.rollup.fold import fold_once
from pulse.storage.schema import make_partitions

_INSERT = text("INSERT INTO events SELECT * FROM json_populate_recordset(NULL::events, CAST(:rows AS json))")
_BATCH = text("INSERT INTO ingest_batches (id, writer, events) VALUES (:id, gen_random_uuid(), :events)")
_ids = count(1)

OTHER_COLUMNS = (
    "hostname", "region", "city", "language", "os",
    "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
)  # fmt: skip


@dataclass
class Site:
    """One project; `history` keeps every event written, as a dict of columns."""

    engine: Engine
    timezone: str
    project_id: int
    history: list[dict[str, Any]] = field(default_factory=list)

    def write(self, *events: dict[str, Any]) -> None:
        """Store events that need only what differs from a pageview of '/', in one batch, unfolded."""
        batch_id = next(_ids)
        rows = [{**_pageview(self.project_id), **event, "batch_id": batch_id} for event in events]
        for row in rows:
            row.setdefault("session_key", row["visitor"])
        self.history += rows
        for month in {row["occurred_at"].date().replace(day=1) for row in rows}:
            make_partitions(self.engine, month + timedelta(days=14))
        with self.engine.begin() as connection:
            connection.execute(_BATCH, {"id": batch_id, "events": len(rows)})
            connection.execute(_INSERT, {"rows": msgspec.json.encode(rows).decode()})

    def fold(self) -> None:
        """Fold whatever waits."""
        while fold_once(self.engine).batches:
            pass


def _pageview(project_id: int) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "id": uuid4(),
        "client_session": False,
        "event_type": "pageview",
        "visitor": 1,
        "hostname": "shop.example",
        "path": "/",
        "channel": "Direct",
        "device": "desktop",
    }


def add_site(engine: Engine, timezone: str) -> Site:
    """Make a project in a zone."""
    with engine.begin() as connection:
        project_id = connection.execute(
            text("INSERT INTO projects (name, timezone) VALUES ('test', :timezone) RETURNING id"),
            {"timezone": timezone},
        ).scalar_one()
    return Site(engine, timezone, project_id)


@pytest.fixture
def site(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A project in the zone given by an indirect parameter, else UTC."""
    yield add_site(engine, getattr(request, "param", "UTC"))


def make_visits(seed: int, first: datetime, hours: int, visits: int) -> list[dict[str, Any]]:
    """Make visits of one to six events, minutes apart, at random times from `first` on; visitors come again."""
    chance = random.Random(seed)
    events = []
    for _ in range(visits):
        visitor = chance.randrange(1, visits // 2)
        at = first + timedelta(seconds=chance.randrange(hours * 3600))
        source = chance.choice([None, None, "Google", "Hacker News"])
        facts = {
            "visitor": visitor * 2**40 * (-1) ** visitor,
            "country": chance.choice(["DE", "US", None]),
            "device": chance.choice(["desktop", "mobile"]),
            "browser": chance.choice(["Firefox", None]),
            "source": source,
            "referrer": f"{source.lower().replace(' ', '.')}.example/x" if source else None,
            # A set of values of its own for every other dimension, so that no list can pass for another.
            **{
                column: chance.choice([f"{column} 1", f"{column} 2", None])
                for column in OTHER_COLUMNS
            },
            "channel": chance.choice(["Direct", "Organic Search"]),
            "screen_width": 1920,
            "screen_height": 1080,
        }
        for _ in range(chance.randrange(1, 7)):
            kind = chance.choice(["pageview"] * 5 + ["custom", "engagement"])
            events.append(
                {
                    **facts,
                    "id": UUID(int=chance.getrandbits(128)),
                    "occurred_at": at,
                    "event_type": kind,
                    "event_name": chance.choice(["signup", None]) if kind == "custom" else None,
                    "path": chance.choice(["/", "/a", "/b", "/c"]),
                }
            )
            at += timedelta(seconds=chance.choice([1, 40, 600, 2500]))
    return events
