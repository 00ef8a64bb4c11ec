"""Group commit and what happens to groups when PostgreSQL is not well."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from pulse.config import Config
from pulse.errors import Unavailable
from pulse.ingest import batch as batches
from pulse.ingest.pipeline import Accepted, Drop
from pulse.ingest.spool import Spool
from pulse.ingest.writer import GroupWriter, _Submission
from pulse.storage.engine import build_engine
from pulse.storage.projects import ensure_development_project
from tests.db.ingest.conftest import bring_back, cut_off, ids, row
from tests.running import wait_until


def test_everything_handed_in_by_many_is_committed_once(writer: GroupWriter, engine: Engine) -> None:
    rows = [[row() for _ in range(1 + n % 7)] for n in range(60)]
    threads = [threading.Thread(target=writer.submit, args=(part,)) for part in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(engine) == sorted(accepted.row.id for part in rows for accepted in part)
    with engine.connect() as connection:
        total, groups = connection.execute(text("SELECT sum(events), count(*) FROM ingest_batches")).one()
    assert total == sum(map(len, rows)) and groups <= len(rows)


def test_many_events_of_one_request_are_stored_whatever_their_text(writer: GroupWriter, engine: Engine) -> None:
    names = ["plain", 'a "quoted", one', "back\\slash", "line\nend", "null", "é\u2028"] * 3
    chosen = row(event_name="chosen by a client")
    writer.submit([*(row(event_name=name) for name in names), Accepted(chosen.row, True)])
    writer.submit([Accepted(chosen.row, True)])  # again
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT event_name FROM events")).scalars().all()
        batch_of = connection.execute(text("SELECT DISTINCT batch_id FROM events")).scalars().all()
        counted = connection.execute(text("SELECT id FROM ingest_batches WHERE events = 19")).scalars().all()
    assert sorted(stored) == sorted([*names, "chosen by a client"])
    assert batch_of == counted and len(batch_of) == 1


def test_many_with_a_bad_row_are_refused_and_others_stored(writer: GroupWriter, engine: Engine) -> None:
    far = row(occurred_at=datetime.now(UTC) + timedelta(days=4000))
    good = [row() for _ in range(30)]
    parts = good[:15], [*(row() for _ in range(15)), far], good[15:]
    with ThreadPoolExecutor(3) as threads:
        done = [threads.submit(writer.submit, part) for part in parts]
    assert [isinstance(each.exception(), Unavailable) for each in done] == [False, True, False]
    assert ids(engine) == sorted(accepted.row.id for accepted in good)


def test_one_bad_row_costs_its_own_request_only(writer: GroupWriter, engine: Engine) -> None:
    far = datetime.now(UTC) + timedelta(days=4000)  # no partition: PostgreSQL refuses it
    outcomes: dict[str, bool] = {}

    def submit(accepted: Accepted) -> None:
        try:
            writer.submit([accepted])
            outcomes[accepted.row.id] = True
        except Unavailable:
            outcomes[accepted.row.id] = False

    good = [row() for _ in range(10)]
    threads = [threading.Thread(target=submit, args=(r,)) for r in [*good[:5], row(occurred_at=far), *good[5:]]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(engine) == sorted(accepted.row.id for accepted in good)
    assert sorted(outcomes.values()) == [False] + [True] * 10


def test_storing_a_batch_again_stores_nothing_again(engine: Engine, writer: GroupWriter) -> None:
    batch_ids = batches.BatchIds()
    rows = json.dumps([json.loads(batches.msgspec.json.encode(row().row))])
    lines, _ = batches.lines_of([row().row])
    number = batch_ids.next()
    batch = batches.Batch(number, batch_ids.writer, 2, rows, lines=batches.join_lines(number, [lines]))
    for _ in range(3):
        batches.store(engine, batch)
    assert len(ids(engine)) == 2 and batches.is_stored(engine, batch)


def test_a_try_that_is_still_under_way_when_its_connection_is_lost_counts(
    engine: Engine, writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_ids = batches.BatchIds()
    rows = json.dumps([json.loads(batches.msgspec.json.encode(row().row))])
    batch = batches.Batch(batch_ids.next(), batch_ids.writer, 1, rows)
    lost = OperationalError("", {}, Exception("connection lost"), connection_invalidated=True)
    tries: list[int] = []
    execute = batches._execute

    def lose_the_first(*arguments: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise lost
        execute(*arguments)

    monkeypatch.setattr(batches, "_execute", lose_the_first)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(batches.store(engine, batch) is None))
    with engine.begin() as connection:
        connection.execute(batches.Q.store, batches.parameters_of(batch))  # the first try, not yet finished
        thread.start()
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        wait_until(lambda: bool(connection.execute(waiting).scalar()))
    thread.join(10)
    assert done == [True] and len(tries) == 2 and len(ids(engine)) == 1


def test_a_connection_that_died_while_it_idled_is_replaced(writer: GroupWriter, engine: Engine, spool: Spool) -> None:
    writer.submit([row()])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    writer.submit([row()])
    assert len(ids(engine)) + len(spool.pending()) == 2


def test_events_wait_in_the_spool_while_writes_fail_and_come_back_once(
    writer: GroupWriter, engine: Engine, spool: Spool
) -> None:
    before, during, after = row(), [row() for _ in range(3)], row()
    writer.submit([before])
    cut_off(engine)
    for accepted in during:
        writer.submit([accepted])
    assert ids(engine) == [before.row.id] and len(spool.pending()) == 3
    bring_back(engine)
    for _ in range(2):  # twice: a crash after storing and before removing the file replays it
        kept = [(path, path.read_bytes()) for path in spool.pending()]
        spool.replay(lambda batch: batches.store(engine, batch))
        for path, data in kept[:1]:
            path.write_bytes(data)
    writer.submit([after])
    spool.replay(lambda batch: batches.store(engine, batch))
    assert ids(engine) == sorted([before.row.id, after.row.id, *(accepted.row.id for accepted in during)])


def test_events_are_refused_when_there_is_no_room_anywhere(writer: GroupWriter, engine: Engine, spool: Spool) -> None:
    cut_off(engine)
    spool.room.max_bytes = 10
    with pytest.raises(Unavailable) as refused:
        writer.submit([row()])
    assert refused.value.retry_after_s and spool.pending() == []
    bring_back(engine)


def test_closing_answers_what_was_handed_in_and_takes_no_more(writer: GroupWriter, engine: Engine) -> None:
    threads = [threading.Thread(target=writer.submit, args=([row()],)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert len(ids(engine)) == 10
    with pytest.raises(Unavailable):
        writer.submit([row()])


def test_a_worker_that_is_being_ended_stores_or_refuses(
    writer: GroupWriter, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gunicorn ends a worker that hangs by a signal, whose exception comes up wherever that worker is."""

    def stop(*_: object) -> None:
        raise SystemExit(1)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "store", stop)
        with pytest.raises(Unavailable):
            writer.submit([row()])
    stored = row()
    writer.submit([stored])
    assert ids(engine) == [stored.row.id]


def test_drops_that_cannot_be_counted_stop_nobody(
    writer: GroupWriter, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batches.Q, "count_drops", None, raising=False)  # no statement
    writer.drop(1, Drop.BOT)
    wait_until(lambda: "could not be counted" in caplog.text)
    writer.submit([row()])
    assert len(ids(engine)) == 1


def test_drops_are_counted_by_project_day_and_reason(writer: GroupWriter, engine: Engine) -> None:
    writer.drop(1, Drop.BOT, 2)
    writer.drop(1, Drop.BOT)
    writer.drop(999, Drop.BOT)  # a project that is gone
    writer.close()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT project_id, reason, events FROM ingest_drops")).all() == [(1, "bot", 3)]


def test_a_claim_made_last_week_still_holds(writer: GroupWriter, engine: Engine) -> None:
    accepted = Accepted(row().row, client_id=True)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO event_ids VALUES (1, :id, date_trunc('week', now() - interval '7 days'))"),
            {"id": accepted.row.id},
        )
    writer.submit([accepted])
    assert ids(engine) == []


def test_a_flood_of_one_project_leaves_room_and_a_turn_for_another(
    engine: Engine, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        ensure_development_project(connection)
        connection.execute(text("INSERT INTO projects (id, name) VALUES (2, 'quiet')"))
    monkeypatch.setattr("pulse.ingest.writer.MAX_WAITING_OF_PROJECT", 20)
    monkeypatch.setattr("pulse.ingest.writer.MAX_GROUP", 4)
    held, order = threading.Event(), []
    execute = batches._execute

    def hold(on: Engine, batch: batches.Batch) -> None:
        held.wait(30)
        order.append({event["project_id"] for event in json.loads(batch.rows)})
        execute(on, batch)

    monkeypatch.setattr(batches, "_execute", hold)
    writer = GroupWriter(engine, spool)
    threads = [threading.Thread(target=writer.submit, args=([row()],)) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_until(lambda: writer.waiting_rows >= 16)
    with pytest.raises(Unavailable, match="Too many events"):
        writer.submit([row() for _ in range(21)])
    threads.append(threading.Thread(target=writer.submit, args=([row(project_id=2)],)))
    threads[-1].start()
    wait_until(lambda: writer.waiting_rows >= 17)
    held.set()
    for thread in threads:
        thread.join(30)
    writer.close()
    assert len(ids(engine)) == 21
    assert 2 in set().union(*order[:3])  # the first groups were on their way when it came


def test_ids_sent_to_two_workers_at_once_are_stored_once(engine: Engine, config: Config, spool: Spool) -> None:
    with engine.begin() as connection:
        ensure_development_project(connection)
    engines = [build_engine(config, str(config.database_url), autocommit=True) for _ in range(2)]
    writers = [GroupWriter(found, spool) for found in engines]
    rows = [Accepted(row().row, client_id=True) for _ in range(40)]
    # Opposite orders: two groups that claim the same ids one by one would wait for each other.
    orders = list(zip(writers, (rows, rows[::-1]), strict=True))
    sends = [(writer, order[n : n + 10]) for n in range(0, 40, 10) for writer, order in orders]
    with ThreadPoolExecutor(len(sends)) as pool:
        list(pool.map(lambda send: send[0].submit(send[1]), sends))  # raises what a caller would have got
    for writer, found in zip(writers, engines, strict=True):
        writer.close()
        found.dispose()
    assert ids(engine) == sorted(accepted.row.id for accepted in rows) and spool.pending() == []


def test_an_id_sent_again_after_a_restart_is_stored_once(writer: GroupWriter, engine: Engine, spool: Spool) -> None:
    stored, spooled = Accepted(row().row, client_id=True), Accepted(row().row, client_id=True)
    writer.submit([stored])
    cut_off(engine)
    writer.submit([spooled])
    writer.close()
    bring_back(engine)
    restarted = GroupWriter(engine, spool)
    restarted.submit([stored, spooled])
    restarted.close()
    assert len(spool.pending()) == 1
    spool.replay(lambda batch: batches.store(engine, batch))
    assert ids(engine) == sorted([stored.row.id, spooled.row.id])


def test_a_flood_fills_its_share_of_the_spool_and_not_that_of_others(
    writer: GroupWriter, engine: Engine, spool: Spool
) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO projects (id, name) VALUES (2, 'quiet')"))
    cut_off(engine)
    spool.room.max_bytes = 40_000
    stored = [row()]
    writer.submit(stored)
    with pytest.raises(Unavailable, match="this project's share of the spool is full") as refused:
        for _ in range(100):
            accepted = [row(path="x" * 1000)]
            writer.submit(accepted)
            stored += accepted
    assert refused.value.retry_after_s
    quiet = [row(project_id=2)]
    # In one group with the flood as well.
    group = [_Submission(each) for each in ([row(path="x" * 1000)], quiet, [row(path="x" * 1000)])]
    writer._finish(group)
    assert [submission.error is None for submission in group] == [False, True, False]
    bring_back(engine)
    spool.replay(lambda batch: batches.store(engine, batch))
    assert ids(engine) == sorted(each.row.id for each in [*stored, *quiet])
