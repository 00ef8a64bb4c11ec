"""A writer on the test's database, rows for it, and a PostgreSQL that takes no writes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from pulse.ingest.pipeline import Accepted, EventRow
from pulse.ingest.spool import Spool
from pulse.ingest.uuid7 import new_event_id
from pulse.ingest.writer import GroupWriter
from pulse.storage.projects import ensure_development_project


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An empty spool."""
    return Spool(tmp_path / "spool")


@pytest.fixture
def writer(engine: Engine, spool: Spool) -> Iterator[GroupWriter]:
    """A writer that commits to the test's database."""
    with engine.begin() as connection:
        ensure_development_project(connection)
    made = GroupWriter(engine, spool)
    yield made
    made.close()


def row(**changes: object) -> Accepted:
    """Make an event of now, whose id is ours."""
    values: dict[str, object] = {
        "occurred_at": datetime.now(UTC), "visitor": 1, "session_key": 1, "id": new_event_id(), "project_id": 1,
        "client_session": False, "event_type": "pageview", "channel": "Direct", "device": "desktop",
    }  # fmt: skip
    return Accepted(EventRow(**values | changes), False)  # type: ignore[arg-type]


def ids(engine: Engine) -> list[str]:
    """Return the ids of the stored events, each as often as it is stored."""
    with engine.connect() as connection:
        return sorted(str(found) for found in connection.execute(text("SELECT id FROM events")).scalars())


def cut_off(engine: Engine) -> None:
    """Make writes fail as on a server that became a standby, while reads and connections still work."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.execute(text("SELECT current_database()")).scalar()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    engine.dispose()


def bring_back(engine: Engine) -> None:
    """End `cut_off`."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET default_transaction_read_only = off"))
        name = connection.execute(text("SELECT current_database()")).scalar()
        connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))
    engine.dispose()
