"""Every statement of the service can be shown with its plan, and none is run for it."""

import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from pulse.errors import NotFound
from pulse.monitor import plans
from pulse.monitor.plans import Plan, PlanBook, explain, find_block
from pulse.monitor.recorder import Recorder
from pulse.monitor.service import add_up
from pulse.storage.sql import SQL_DIR, load_queries


def test_every_named_statement_has_a_plan_or_a_reason(engine: Engine) -> None:
    reasons = {}
    with engine.begin() as connection:
        for path in sorted(SQL_DIR.glob("*.sql")):
            for block in load_queries(path.stem).names():
                name = f"{path.stem}.{block}"
                found = explain(connection, name, find_block(name))
                assert bool(found.plan) != bool(found.problem), name
                if found.problem:
                    reasons[name] = found.problem
        assert connection.execute(text("SELECT 1")).scalar() == 1  # a refused plan spoils nothing
        assert connection.execute(text("SELECT to_regclass('fold_stage')")).scalar() is None  # made for a moment alone
    assert "no plan" in reasons["schema.create_migrations_table"]
    assert not [name for name, reason in reasons.items() if name.startswith("fold.") and "fold_stage" in reason]


def test_a_write_is_planned_and_not_done(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        before = connection.execute(text("SELECT count(*) FROM service_secrets")).scalar()
        found = PlanBook(tmp_path).find(connection, "projects.offer_secret")
        assert found.plan[0].startswith("Insert on service_secrets")
        assert connection.execute(text("SELECT count(*) FROM service_secrets")).scalar() == before


def test_slow_statements_are_planned_once_an_hour_for_all_processes(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(connection: Connection, name: str, statement: str) -> Plan:
        made.append(name)
        return explain(connection, name, statement)

    monkeypatch.setattr(plans, "explain", make)
    recorder = Recorder()
    recorder.slow_ms = 10.0
    for name, ms in (("events.page", 50.0), ("projects.offer_secret", 9.0), ("unknown.block", 90.0)):
        recorder.note_query(f"/* {name} */ SELECT 1", ms, 1)
    recorder.note_query("SELECT 'of no name'", 99.0, 1)
    slow = plans.list_slow(add_up([recorder.snapshot()], time.time()))
    assert list(slow) == ["events.page"]
    first, second = PlanBook(tmp_path), PlanBook(tmp_path)
    assert (first.make_missing(engine, slow), second.make_missing(engine, slow)) == (1, 0)
    with engine.begin() as connection:
        assert second.find(connection, "events.page") == first.known()["events.page"]
        assert made == ["events.page"]
        monkeypatch.setattr(plans, "KEEP_S", 0.0)
        second.find(connection, "events.page", slow["events.page"])
    assert made == ["events.page"] * 2


def test_a_statement_put_together_is_planned_as_it_was_sent(engine: Engine, tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.slow_ms = 10.0
    sent = "/* events.page */ SELECT id FROM events WHERE project_id = %(project)s AND path LIKE 'a%%' LIMIT %(limit)s"
    recorder.note_query(sent, 5.0, 1)
    with engine.begin() as connection:
        found = PlanBook(tmp_path).find(connection, "events.page")
        assert found.plan == [] and "once a run was slow" in (found.problem or "")
        recorder.note_query(sent, 50.0, 1)
        recorder.note_query("/* projects.get_project */ SELECT 'secret'", 50.0, 1)
        slow = plans.list_slow(add_up([recorder.snapshot()], time.time()))
        assert slow == {"events.page": sent, "projects.get_project": None}
        found = PlanBook(tmp_path).find(connection, "events.page", slow["events.page"])
    assert found.problem is None and "project_id = $1 AND path LIKE 'a%' LIMIT $2" in found.statement
    assert any("events" in line for line in found.plan)


@pytest.mark.parametrize("name", ["", "x", "none.none", "schema.none", "../../etc.passwd", "schema.__class__"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(NotFound):
        find_block(name)
