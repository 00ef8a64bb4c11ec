"""What a group does when PostgreSQL answers with an error: what each SQLSTATE means for it."""


import pytest
from sqlalchemy import Engine, text

from pulse.config import Config
from pulse.errors import Unavailable
from pulse.ingest import batch as batches
from pulse.ingest.spool import Spool
from pulse.ingest.writer import GroupWriter, _Submission
from pulse.storage.engine import build_engine
from pulse.storage.projects import ensure_development_project
from tests.db.ingest.conftest import ids, row
from tests.running import wait_until


def fail(engine: Engine, code: str, times: int) -> None:
    """Let PostgreSQL refuse so many groups with that SQLSTATE, whatever is in them."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE SEQUENCE tries;"  # counts on when a transaction is rolled back
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF;"
                " RETURN new; END $$;"
                "CREATE TRIGGER fail BEFORE INSERT ON ingest_batches FOR EACH ROW EXECUTE FUNCTION fail()"
            )
        )


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57014"])
@pytest.mark.parametrize("events", [1, 20])
def test_a_group_that_gave_way_to_another_session_is_tried_again(
    writer: GroupWriter, engine: Engine, spool: Spool, code: str, events: int
) -> None:
    fail(engine, code, 2)
    accepted = [row() for _ in range(events)]
    writer.submit(accepted)
    assert ids(engine) == sorted(each.row.id for each in accepted) and spool.pending() == []


def test_a_group_that_always_gives_way_goes_to_the_spool_and_the_next_ones_do_not_for_long(
    writer: GroupWriter, engine: Engine, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.ingest.writer.PROBE_EVERY_S", 3600.0)  # no second probe
    writer._probe_every_s = 3600.0
    fail(engine, "40P01", 3)
    sent = [row()]
    writer.submit(sent)
    assert ids(engine) == [] and len(spool.pending()) == 1

    def is_committed() -> bool:
        sent.append(row())
        writer.submit(sent[-1:])
        return sent[-1].row.id in ids(engine)

    wait_until(is_committed)
    spool.replay(lambda batch: batches.store(engine, batch))
    assert ids(engine) == sorted(each.row.id for each in sent)


@pytest.mark.parametrize("code", ["08006", "53100", "53200", "57P03", "58030", "XX000"])
def test_a_group_waits_in_the_spool_when_postgresql_is_not_well(
    writer: GroupWriter, engine: Engine, spool: Spool, code: str
) -> None:
    fail(engine, code, 1)  # once: it is not asked again at once
    accepted = row()
    writer.submit([accepted])
    assert ids(engine) == [] and len(spool.pending()) == 1
    spool.replay(lambda batch: batches.store(engine, batch))
    assert ids(engine) == [accepted.row.id]


def test_events_beyond_a_limit_of_postgresql_do_not_wait(writer: GroupWriter, engine: Engine, spool: Spool) -> None:
    fail(engine, "54000", 1)
    with pytest.raises(Unavailable, match="refused the event"):
        writer.submit([row()])
    assert spool.pending() == []


def test_connections_that_lead_to_a_standby_are_left(config: Config, engine: Engine, spool: Spool) -> None:
    """After a failover behind one address, with the old primary running on as a standby."""
    with engine.begin() as connection:
        ensure_development_project(connection)
    pooled = build_engine(config, str(config.database_url), autocommit=True)
    with pooled.connect() as one, pooled.connect() as other:
        for connection in (one, other):
            connection.execute(text("SET default_transaction_read_only = on"))
    writer = GroupWriter(pooled, spool)
    sent = [[row() for _ in range(count)] for count in (1, 20)]
    for accepted in sent:
        writer.submit(accepted)
    writer.close()
    pooled.dispose()
    assert spool.pending() == [] and len(ids(engine)) == 21


@pytest.mark.parametrize("fault", [None, SystemExit(1), ValueError("unforeseen")])
def test_requests_stored_apart_are_answered_apart(
    writer: GroupWriter, engine: Engine, spool: Spool, fault: BaseException | None
) -> None:
    """A fault comes, or PostgreSQL goes away and the spool is full, in a group that is stored one by one."""
    fail(engine, "22000", 1)
    spool.room.max_bytes = 10
    group = [_Submission([row(path=path)]) for path in ("one", "two", "three")]
    keep = writer._keep

    def fail_at_the_third(part: list[_Submission]) -> None:
        if part == group[2:]:
            if fault is not None:
                raise fault
            writer._go_away(Exception("gone"))
        keep(part)

    writer._keep = fail_at_the_third  # type: ignore[method-assign]
    writer._finish(group)
    assert [submission.error is None for submission in group] == [True, True, False]
    assert len(ids(engine)) == 2
