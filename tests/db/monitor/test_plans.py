"""Every statement of the service can be shown with its plan, and none is run for it."""

import pytest
from sqlalchemy import Engine, text

from pulse.errors import NotFound
from pulse.monitor.plans import PlanBook, explain, find_block
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
    assert "no plan" in reasons["schema.create_migrations_table"]


def test_a_write_is_planned_and_not_done(engine: Engine) -> None:
    with engine.begin() as connection:
        before = connection.execute(text("SELECT count(*) FROM service_secrets")).scalar()
        found = PlanBook().find(connection, "visitor.offer_secret")
        assert found.plan[0].startswith("Insert on service_secrets")
        assert connection.execute(text("SELECT count(*) FROM service_secrets")).scalar() == before


@pytest.mark.parametrize("name", ["", "x", "none.none", "schema.none", "../../etc.passwd", "schema.__class__"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(NotFound):
        find_block(name)
