"""Raw events put straight into the tables, as the group writer commits them."""

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text

from pulse.rollup import packing
from pulse.storage.schema import make_partitions

_BATCH_IDS = iter(range(1 << 20, 2**51, 1 << 20))  # a millisecond each
_INSERT_BATCH = text("INSERT INTO ingest_batches (id, writer, events) VALUES (:id, gen_random_uuid(), :events)")
_INSERT_EVENTS = text(
    "INSERT INTO events SELECT r.* FROM json_populate_recordset(null::events, CAST(:rows AS json)) r"
)

Event = dict[str, Any]


def make_event(project_id: int, at: datetime, **fields: Any) -> Event:
    """Return a row of table events: a pageview of '/' by visitor 1 unless said otherwise."""
    return {
        "id": str(uuid.uuid4()), "project_id": project_id, "occurred_at": at, "visitor": 1, "event_type": "pageview",
        "session_key": fields.get("visitor", 1), "client_session": False, "path": "/", "channel": "Direct",
        "device": "desktop",
    } | fields  # fmt: skip


def commit_batch(engine: Engine, events: Iterable[Event]) -> int:
    """Insert events as one batch, in one transaction; return its id."""
    rows = list(events)
    batch_id = next(_BATCH_IDS)
    with engine.begin() as connection:
        connection.execute(_INSERT_BATCH, {"id": batch_id, "events": len(rows)})
        data = msgspec.json.encode([row | {"batch_id": batch_id} for row in rows]).decode()
        connection.execute(_INSERT_EVENTS, {"rows": data})
    return batch_id


def make_project(engine: Engine, zone: str = "UTC") -> int:
    """Insert a project; return its id."""
    with engine.begin() as connection:
        statement = text("INSERT INTO projects (name, timezone) VALUES ('p', :zone) RETURNING id")
        return int(connection.execute(statement, {"zone": zone}).scalar_one())


def cover(engine: Engine, first: datetime, last: datetime) -> None:
    """Make the partitions for events of a time span."""
    at = first
    while at < last + timedelta(days=31):
        make_partitions(engine, at.astimezone(UTC).date())
        at += timedelta(days=28)


def rows_of(engine: Engine, query: str, **binds: Any) -> list[Any]:
    """Return the rows of a query."""
    with engine.begin() as connection:
        return list(connection.execute(text(query), binds).fetchall())


@pytest.fixture
def new_project(engine: Engine) -> Callable[..., int]:
    """Make projects by zone name."""
    return lambda zone="UTC": make_project(engine, zone)


def pack_all(engine: Engine) -> int:
    """Pack all that is waiting, without pauses; return how many days."""
    waiting = packing.find_waiting(engine, datetime.now(UTC))
    for day, _ in reversed(waiting):
        packing.pack(engine, day)
    return len(waiting)
