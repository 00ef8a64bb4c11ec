"""`pulse doctor` on installations that are really broken."""

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from sqlalchemy import Engine, text

from pulse import cli
from pulse.config import Config
from pulse.jobs import _LEADER_LOCK
from pulse.load.service import find_free_port
from pulse.monitor.files import OwnFile, folder_of
from pulse.monitor.recorder import Recorder
from pulse.storage.projects import ensure_development_project
from pulse.storage.schema import wanted_partitions

Findings = list[dict[str, Any]]
# The tests' server is thrown away after the run, and does not wait for the disk.
OF_THE_TESTS = ("fsync is off", "full_page_writes is off", "synchronous_commit is off")


@pytest.fixture
def examine(config: Config, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Findings]:
    """Run `pulse doctor --json` with some settings; return what is not well, without what the tests' server is told."""

    def run(*options: str, **settings: str) -> Findings:
        given = {
            "PULSE_ENV": "test", "DATABASE_URL": str(config.database_url), "PULSE_DATA_DIR": str(config.data_dir),
            "WEB_CONCURRENCY": "2", **settings,
        }  # fmt: skip
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        answer = CliRunner().invoke(cli.main, ["doctor", "--json", *options])
        found = json.loads(answer.output)
        assert answer.exit_code == (0 if found["healthy"] else 1)
        assert found["healthy"] == all(row["level"] != "wrong" for row in found["findings"])
        assert all(row.get("action") for row in found["findings"] if row["level"] != "ok")
        return [
            row for row in found["findings"]
            if row["level"] != "ok" and not row["message"].startswith(OF_THE_TESTS) and row["area"] not in QUIET
        ]  # fmt: skip

    return run


QUIET = ("background worker", "web processes")  # nothing runs in these tests but where they say so


def areas(found: Findings) -> set[tuple[str, str]]:
    return {(row["area"], row["level"]) for row in found}


def change(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_sound_installation(
    examine: Callable[..., Findings], config: Config, engine: Engine, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "QUIET", ())
    own = OwnFile(folder_of(config.data_dir))
    own.write(Recorder().snapshot("web", time.time()))  # this process's own may have been reset by another test
    with closing(redis.Redis.from_url(valkey_url)) as client:
        client.config_set("maxmemory", "64mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        with engine.connect() as leader:
            leader.execute(text(f"SELECT pg_advisory_lock({_LEADER_LOCK})"))
            found = examine("--network", REDIS_URL=valkey_url, SECRET_KEY="0123456789abcdef")
        client.config_set("maxmemory-policy", "noeviction")
        assert areas(examine(REDIS_URL=valkey_url)) >= {("Redis", "wrong")}
        client.config_set("maxmemory", "0")
        assert areas(examine(REDIS_URL=valkey_url)) >= {("Redis", "advice")}
    own.close()
    assert found == []


def test_nothing_runs(examine: Callable[..., Findings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "QUIET", ())
    assert areas(examine()) == {("background worker", "wrong"), ("web processes", "wrong")}


def test_settings_that_can_not_be_used(examine: Callable[..., Findings]) -> None:
    found = examine(PORT="70000", LOG_FORMAT="xml")
    assert len(found) == 2 and "PORT" in found[0]["message"] and "LOG_FORMAT" in found[1]["message"]


def test_settings_that_are_not_safe(examine: Callable[..., Findings], engine: Engine, tmp_path: Path) -> None:
    assert areas(examine(PULSE_ENV="development", HOST="0.0.0.0")) == {("settings", "wrong")}  # noqa: S104
    assert areas(examine(SECRET_KEY="a" * 32)) == {("settings", "wrong")}
    (tmp_path / "geo.mmdb").write_bytes(b"no database")
    found = examine(SECRET_KEY="0123456789abcdef", GEOIP_DATABASE=str(tmp_path / "geo.mmdb"))
    assert areas(found) == {("GeoIP", "wrong")}
    with engine.begin() as connection:
        ensure_development_project(connection)
    found = examine(PULSE_ENV="production", GEOIP_DATABASE="")
    assert areas(found) == {("administrator", "wrong"), ("keys", "advice")}


def test_no_postgresql(examine: Callable[..., Findings], config: Config) -> None:
    assert areas(examine(DATABASE_URL=f"postgresql://pulse@127.0.0.1:{find_free_port()}/pulse")) == {
        ("PostgreSQL", "wrong")
    }
    assert areas(examine(DATABASE_URL="")) == {("PostgreSQL", "wrong")}


def test_settings_of_postgresql(examine: Callable[..., Findings], engine: Engine) -> None:
    name = engine.url.database
    change(engine, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert areas(examine()) == {("PostgreSQL", "wrong")}
    assert areas(examine(DATABASE_POOL_MAX="200")) == {("PostgreSQL", "wrong"), ("connections", "advice")}


def test_a_schema_that_is_not_this_releases(examine: Callable[..., Findings], engine: Engine) -> None:
    change(engine, "UPDATE schema_migrations SET checksum = 'other' WHERE number = 2")
    [edited] = examine()
    assert edited["area"] == "schema" and "002_goals was edited" in edited["message"]
    change(engine, "INSERT INTO schema_migrations VALUES (999, 'later', 'x')")
    assert "999" in examine()[0]["message"]
    change(engine, "DROP TABLE schema_migrations")
    [empty] = examine()
    assert empty["action"] == "pulse migrate"


def test_partitions_and_indexes(examine: Callable[..., Findings], engine: Engine) -> None:
    last = wanted_partitions(datetime.now(UTC).date())[-1]
    change(
        engine, f"DROP TABLE {last.name}",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'api_keys_by_project'::regclass",
    )  # fmt: skip
    found = examine()
    assert areas(found) == {("partitions", "wrong"), ("indexes", "wrong")}
    assert last.name in found[0]["message"] and "api_keys_by_project" in found[1]["message"]


def test_a_login_that_may_not_enough(examine: Callable[..., Findings], engine: Engine, config: Config) -> None:
    name = f"weak_{os.getpid()}"
    change(
        engine, f"CREATE ROLE {name} LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"GRANT pg_monitor, pg_read_all_data TO {name}",
    )  # fmt: skip
    try:
        found = examine(DATABASE_URL=str(config.database_url).replace("pulse@", f"{name}@"))
        assert [row["area"] for row in found] == ["privileges", "privileges"]
    finally:
        change(engine, f"DROP ROLE {name}")


def test_work_that_waits(examine: Callable[..., Findings], engine: Engine) -> None:
    change(
        engine,
        "INSERT INTO ingest_batches VALUES (1, gen_random_uuid(), 1, now() - interval '2 h')",
        "INSERT INTO ingest_batches VALUES (2, gen_random_uuid(), 1, now(), now() - interval '2 h')",
        "INSERT INTO projects (id, name) VALUES (7, 'x')",
        "INSERT INTO rebuilds (project_id, first_day, last_day, requested_at)"
        " VALUES (7, '2026-01-01', '2026-01-01', now() - interval '2 h')",
        "INSERT INTO rebuilds (project_id, first_day, last_day, finished_at, failure)"
        " VALUES (7, '2026-01-01', '2026-01-01', now(), 'broken')",
        "INSERT INTO erasures (project_id, visitor, before_batch, requested_at)"
        " VALUES (7, 1, 1, now() - interval '2 h')",
        "INSERT INTO removals VALUES (8, now() - interval '2 h')",
    )
    found = examine()
    assert areas(found) == {("background work", "wrong")}
    assert len(found) == 6


def test_spool_and_disk(examine: Callable[..., Findings], config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = config.data_dir / "spool"
    spool.mkdir(parents=True)
    (spool / "00000000000000000001-w.batch").touch()
    assert examine() == []
    os.utime(spool / "00000000000000000001-w.batch", (time.time() - 600,) * 2)
    (spool / "00000000000000000002-w.bad").touch()
    found = examine()
    assert [row["area"] for row in found] == ["spool", "spool"]
    monkeypatch.setattr("pulse.upkeep.check_machine.LOW_DISK_BYTES", 2**62)
    assert ("disk", "wrong") in areas(examine())
    (config.data_dir / "file").touch()
    assert ("disk", "wrong") in areas(examine(PULSE_DATA_DIR=str(config.data_dir / "file" / "below")))


def test_clocks_that_differ(examine: Callable[..., Findings], monkeypatch: pytest.MonkeyPatch) -> None:
    from pulse.upkeep import check_database

    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(time.time() - 90, tz)

    monkeypatch.setattr(check_database, "datetime", Late)
    [found] = examine()
    assert found["area"] == "clock" and found["level"] == "wrong" and "ahead" in found["message"]


def test_what_can_not_be_reached(examine: Callable[..., Findings]) -> None:
    port = find_free_port()
    away = {
        "DATABASE_REPLICA_URL": f"postgresql://pulse@127.0.0.1:{port}/x", "REDIS_URL": f"redis://127.0.0.1:{port}",
        "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{port}/hook", "SMTP_URL": f"smtp://127.0.0.1:{port}",
    }  # fmt: skip
    assert areas(examine(**away)) == {("replica", "wrong"), ("Redis", "wrong")}
    assert areas(examine("--network", **away)) == {
        ("replica", "wrong"), ("Redis", "wrong"), ("webhook", "wrong"), ("mail", "wrong"),
    }  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        hook = f"http://127.0.0.1:{receiver.getsockname()[1]}/hook"
        found = areas(examine("--network", **{**away, "ALERT_WEBHOOK_URL": hook}))
    assert ("webhook", "wrong") not in found


def test_in_words(examine: Callable[..., Findings]) -> None:
    examine()
    answer = CliRunner().invoke(cli.main, ["doctor"])
    assert answer.exit_code == 1
    assert "✗ background worker: None leads" in answer.output and "    pulse serve" in answer.output
