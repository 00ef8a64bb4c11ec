"""Events while PostgreSQL takes none, for each of the reasons it may have, and their way back."""

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Engine, text

from pulse.config import Config
from pulse.ingest import batch as batches
from pulse.ingest.batch import Batch, BatchIds
from pulse.ingest.pipeline import Accepted
from pulse.ingest.spool import Spool
from pulse.ingest.writer import GroupWriter
from pulse.monitor import shared
from pulse.storage import embedded
from pulse.storage.embedded import EmbeddedServer
from pulse.storage.engine import build_engine
from tests.db.ingest.conftest import ids, row
from tests.running import find_fast_folder, wait_until

FILL = """
INSERT INTO events (occurred_at, batch_id, visitor, session_key, id, project_id, client_session, event_type, channel,
                    device, path)
SELECT now(), 0, 1, 1, gen_random_uuid(), 1, false, 'pageview', 'Direct', 'desktop', repeat('x', 1500)
FROM generate_series(1, 2200)
"""


def replay(engine: Engine, spool: Spool) -> None:
    """Store what waits, as the background worker does."""
    spool.replay(lambda batch: batches.store(engine, batch))


def submit_until_committed(writer: GroupWriter, engine: Engine) -> list[Accepted]:
    """Send events until one is in the table: the writer finds out for itself that PostgreSQL is back."""
    sent: list[Accepted] = []

    def is_committed() -> bool:
        sent.append(row())
        writer.submit([sent[-1]])
        return sent[-1].row.id in ids(engine)

    wait_until(is_committed)
    return sent


def test_without_a_free_connection(writer: GroupWriter, engine: Engine, spool: Spool, server: EmbeddedServer) -> None:
    engine.dispose()
    others = []
    with pytest.raises(psycopg2.OperationalError, match="too many clients"):
        while True:
            others.append(psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="postgres"))
    waiting = [row() for _ in range(3)]
    for accepted in waiting:
        writer.submit([accepted])
    assert len(spool.pending()) == 3
    for other in others:
        other.close()
    waiting += submit_until_committed(writer, engine)
    replay(engine, spool)
    assert ids(engine) == sorted(accepted.row.id for accepted in waiting)


@contextlib.contextmanager
def full_disk(server: EmbeddedServer, engine: Engine) -> Iterator[None]:
    """Refuse new sessions to make the events' file larger, as a file system without room does."""

    postmaster = (server.data_dir / "postmaster.pid").read_text().split()[0]

    def limit(size: str) -> None:
        # Run by PostgreSQL itself: nobody else may set limits of its processes, not always even root.
        command = f"prlimit --fsize={size}: --pid={postmaster}"
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TEMP TABLE said (line text) ON COMMIT DROP")
            connection.exec_driver_sql(f"COPY said FROM PROGRAM '{command}'")
        engine.dispose()

    with engine.begin() as connection:
        (partition,) = connection.execute(text("SELECT DISTINCT tableoid::regclass::text FROM events")).one()
        # A page for each row, or filling takes seconds. PostgreSQL's log is in files of 16 MiB, which must still fit.
        connection.execute(text(f"ALTER TABLE {partition} SET (fillfactor = 10)"))
        connection.execute(text(FILL))
        size = connection.execute(text(f"SELECT pg_relation_size('{partition}')")).scalar_one()
        assert size > 16 << 20
    limit(str(size))
    try:
        yield
    finally:
        limit("unlimited")


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
def test_with_a_full_disk(
    writer: GroupWriter, engine: Engine, spool: Spool, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    writer.submit([row()])
    large = [[row(path="y" * 1500) for _ in range(20)] for _ in range(3)]
    with full_disk(server, engine):
        before = len(ids(engine))
        for rows in large:
            writer.submit(rows)
        assert "could not extend file" in caplog.text
        assert len(spool.pending()) == 3 and len(ids(engine)) == before
    replay(engine, spool)
    stored = ids(engine)
    assert len(stored) == before + 60 and {accepted.row.id for rows in large for accepted in rows} < set(stored)


@pytest.fixture
def standby(server: EmbeddedServer, database_url: str) -> Iterator[EmbeddedServer]:
    """A hot standby of the process's PostgreSQL, as it is once the test's database is there."""
    with tempfile.TemporaryDirectory(prefix="pulse-standby-", dir=find_fast_folder()) as folder:
        Path(folder).chmod(0o711)
        found = embedded.locate(Path(folder) / "var")
        embedded._prepare_folders(found)
        embedded._run(found, "pg_basebackup", "-h", server.socket_dir, "-U", "pulse", "-D", found.data_dir, "-R",
                      "-c", "fast", "--no-sync")  # fmt: skip
        (found.data_dir / "postmaster.pid").unlink(missing_ok=True)
        embedded._write_settings(found)
        embedded._run(found, "pg_ctl", "-D", found.data_dir, "-w", "-s", "-l", found.data_dir / "start.log", "start")
        try:
            yield found
        finally:
            embedded.stop(found)


def test_with_a_standby_in_its_place(
    server: EmbeddedServer, standby: EmbeddedServer, config: Config, engine: Engine, spool: Spool, tmp_path: Path
) -> None:
    """The address leads to a standby that is promoted a while later."""
    address = tmp_path / "pg"
    address.symlink_to(server.socket_dir)
    url = str(config.database_url).replace(str(server.socket_dir), str(address))
    moving = build_engine(config, url, autocommit=True)
    writer = GroupWriter(moving, spool)
    waiting = [row() for _ in range(3)]
    writer.submit(waiting[:1])
    with engine.connect() as connection:
        lsn = connection.execute(text("SELECT pg_current_wal_insert_lsn()::text")).scalar_one()
    behind = text("SELECT pg_last_wal_replay_lsn() < CAST(:lsn AS pg_lsn)")
    after = build_engine(config, standby.url_of(str(engine.url.database)))
    with after.connect() as connection:
        wait_until(lambda: not connection.execute(behind, {"lsn": lsn}).scalar())

    address.unlink()
    address.symlink_to(standby.socket_dir)
    with engine.begin() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                 " WHERE datname = current_database() AND pid <> pg_backend_pid()")
        )  # fmt: skip
    for accepted in waiting[1:]:
        writer.submit([accepted])
    assert len(spool.pending()) == 2

    with after.connect() as connection:
        connection.execute(text("SELECT pg_promote()"))
    waiting += submit_until_committed(writer, after)
    replay(moving, spool)
    assert ids(after) == sorted(accepted.row.id for accepted in waiting)
    assert ids(engine) == [waiting[0].row.id]
    writer.close()
    moving.dispose()
    after.dispose()


def test_an_event_that_postgresql_refuses_costs_no_other(writer: GroupWriter, engine: Engine, spool: Spool) -> None:
    far = row(occurred_at=datetime.now(UTC) + timedelta(days=4000))  # no partition
    good = [row() for _ in range(6)]
    numbers = BatchIds()

    def keep(rows: list[Accepted], claiming: list[Accepted], copied: list[Accepted]) -> None:
        fields = [[json.loads(batches.msgspec.json.encode(found.row)) for found in part] for part in (rows, claiming)]
        number, events = numbers.next(), len(rows) + len(claiming) + len(copied)
        lines = batches.join_lines(number, [batches.lines_of([found.row])[0] for found in copied])
        spool.append(Batch(number, numbers.writer, events, *map(json.dumps, fields), lines=lines), {1: 100})

    keep([good[0], far], [good[1], good[2], good[2]], [good[4]])
    keep([good[3]], [], [good[5]])
    before = shared.collect().counts.get("spool_refused_events", 0)
    tries = 0

    def store(batch: Batch) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            raise ConnectionError  # killed after one event of the file was stored by itself
        batches.store(engine, batch)

    with pytest.raises(ConnectionError):
        spool.replay(store)
    with engine.begin() as connection:  # now they could all be stored together
        year = far.row.occurred_at.year
        partition = f"CREATE TABLE far PARTITION OF events FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')"
        connection.execute(text(partition))
    replay(engine, spool)
    assert ids(engine) == sorted(accepted.row.id for accepted in [*good, far])
    assert spool.pending() == []

    beyond = row(occurred_at=datetime.now(UTC) + timedelta(days=6000))
    good.append(row())
    keep([good[-1]], [], [beyond])
    replay(engine, spool)
    replay(engine, spool)
    assert ids(engine) == sorted(accepted.row.id for accepted in [*good, far])
    assert spool.pending() == [] and len(list(spool.folder.glob("*.refused"))) == 1
    assert shared.collect().counts["spool_refused_events"] == before + 1
