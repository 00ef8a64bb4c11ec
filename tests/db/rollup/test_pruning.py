"""Only what nobody asks for any more is deleted."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from pulse.rollup import pruning
from pulse.rollup.pruning import prune_batches, prune_live
from tests.db.rollup.conftest import rows_of


def test_live_slots_older_than_two_hours(engine: Engine, new_project: Callable[..., int]) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO summary_live SELECT now() - n * interval '1 minute', now(), 1, 1, :id, '/', ''"
                " FROM unnest(ARRAY[0, 119, 121, 5000]) n"
            ),
            {"id": new_project()},
        )
    assert prune_live(engine) == 2
    assert prune_live(engine) == 0
    assert rows_of(engine, "SELECT count(*) FROM summary_live")[0][0] == 2


def test_batches_folded_two_weeks_ago(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "CHUNK", 2)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ingest_batches SELECT n, gen_random_uuid(), 1, now() - interval '30 days',"
                " CASE WHEN n <= 6 THEN now() - interval '15 days' WHEN n <= 8 THEN now() - interval '13 days' END,"
                " n <> 6"  # whose goals are not counted yet
                " FROM generate_series(1, 9) n"
            )
        )
    assert prune_batches(engine) == 5
    assert [row.id for row in rows_of(engine, "SELECT id FROM ingest_batches ORDER BY id")] == [6, 7, 8, 9]
