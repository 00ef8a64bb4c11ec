"""What runs in the background gives way to requests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from pulse.config import Config
from pulse.ingest import batch as batches
from pulse.ingest.spool import Spool
from pulse.jobs import _LEADER_LOCK, UPKEEP, lower_vacuum_priority
from pulse.storage.projects import ensure_development_project
from pulse.storage.scheduling import NICENESS
from tests.db.ingest.conftest import ids, row
from tests.running import wait_until


@pytest.fixture
def slow_vacuum(engine: Engine) -> Iterator[None]:
    """A table that PostgreSQL vacuums by itself as soon as it looks, and for a long time."""
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    statements = [
        "CREATE TABLE dusty (n int) WITH (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)",
        "INSERT INTO dusty SELECT generate_series(1, 50000)",
        "DELETE FROM dusty",
        "ALTER SYSTEM SET autovacuum_naptime = '1s'",
        "SELECT pg_reload_conf()",
    ]
    with autocommit.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    yield
    with autocommit.connect() as connection:
        connection.execute(text("ALTER SYSTEM RESET autovacuum_naptime"))
        connection.execute(text("SELECT pg_reload_conf()"))
        connection.execute(text("DROP TABLE dusty"))


@pytest.mark.usefixtures("slow_vacuum")
def test_autovacuum_is_given_the_lower_priority(engine: Engine) -> None:
    def niceness() -> dict[int, int]:
        with engine.connect() as connection:
            workers = connection.execute(UPKEEP.autovacuum_workers).scalars().all()
        found = {}
        for worker in workers:
            with suppress(ProcessLookupError):  # done meanwhile
                found[worker] = os.getpriority(os.PRIO_PROCESS, worker)
        return found

    def gives_way() -> bool:
        lower_vacuum_priority(engine)
        return NICENESS in niceness().values()

    wait_until(gives_way)


def test_a_worker_that_stands_by_replays_the_spool_of_its_own_node(engine: Engine, config: Config) -> None:
    numbers, accepted = batches.BatchIds(), row()
    rows = batches.join_rows([batches.encode(accepted.row).decode()])
    Spool(config.data_dir / "spool").append(batches.Batch(numbers.next(), numbers.writer, 1, rows), {1: len(rows)})
    settings = {"DATABASE_URL": str(config.database_url), "PULSE_DATA_DIR": str(config.data_dir)}
    with engine.connect() as leader:
        ensure_development_project(leader)
        leader.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LEADER_LOCK})
        leader.commit()
        worker = subprocess.Popen([Path(sys.executable).with_name("pulse"), "worker"], env=os.environ | settings)
        try:
            wait_until(lambda: ids(engine) == [accepted.row.id])
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)
