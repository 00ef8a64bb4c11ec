"""The pool, on real connections."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pulse.config import Config
from pulse.errors import Unavailable
from pulse.storage.engine import Database, build_engine
from pulse.storage.pool import PulsePool, start_reaper

Build = Callable[..., Engine]


@pytest.fixture
def build(config: Config) -> Iterator[Build]:
    """Make engines with other pool settings; they are closed at the end."""
    assert config.database_url is not None
    made: list[Engine] = []

    def make(**settings: int) -> Engine:
        changed = replace(config, **{f"database_pool_{name}": value for name, value in settings.items()})
        made.append(build_engine(changed, str(config.database_url), application_name="pool-test"))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def pool_of(engine: Engine) -> PulsePool:
    assert isinstance(engine.pool, PulsePool)
    return engine.pool


def use_at_once(engine: Engine, count: int) -> None:
    """Hold `count` connections together, then give them all back."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(engine.connect())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)


def sessions(engine: Engine) -> int:
    """How many sessions of these tests PostgreSQL itself knows in this database, the asking one not counted."""
    with engine.connect() as connection:
        statement = text(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pool-test'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(connection.execute(statement).scalar_one())


def test_nothing_connects_before_it_is_needed(build: Build, engine: Engine) -> None:
    now = pool_of(build(max=5)).snapshot()
    assert (now.total, now.idle, now.in_use, now.waiting, now.max) == (0, 0, 0, 0, 5)
    assert sessions(engine) == 0


def test_connections_are_kept_and_used_again(build: Build, engine: Engine) -> None:
    opened = build(max=5, min=2)
    use_at_once(opened, 4)
    use_at_once(opened, 4)
    now = pool_of(opened).snapshot()
    assert (now.total, now.idle, now.in_use) == (4, 4, 0)
    assert sessions(engine) == 4


def test_what_idles_above_the_minimum_is_closed(build: Build, engine: Engine) -> None:
    opened = build(max=6, min=2, idle_timeout_ms=1)
    use_at_once(opened, 5)
    time.sleep(0.002)
    assert pool_of(opened).close_idle() == 3
    assert pool_of(opened).snapshot().total == 2
    wait_for(lambda: sessions(engine) == 2)
    assert pool_of(opened).close_idle() == 0
    use_at_once(opened, 6)  # the room of the closed ones is free again
    assert pool_of(opened).snapshot().total == 6


def test_what_was_used_lately_stays(build: Build) -> None:
    opened = build(max=6, min=1, idle_timeout_ms=60_000)
    use_at_once(opened, 5)
    assert pool_of(opened).close_idle() == 0
    assert pool_of(opened).snapshot().idle == 5


def test_connections_in_use_count_towards_the_minimum_and_are_left_alone(build: Build) -> None:
    opened = build(max=6, min=2, idle_timeout_ms=1)
    use_at_once(opened, 4)
    with opened.connect() as first, opened.connect() as second:
        time.sleep(0.002)
        assert pool_of(opened).close_idle() == 2
        assert first.execute(text("SELECT 1")).scalar() == second.execute(text("SELECT 1")).scalar() == 1


def test_the_least_used_go_first(build: Build) -> None:
    opened = build(max=3, min=1, idle_timeout_ms=1)
    use_at_once(opened, 3)

    def backend() -> int:
        with opened.connect() as connection:
            return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    favourite = backend()
    time.sleep(0.002)
    assert pool_of(opened).close_idle() == 2
    assert backend() == favourite


def test_the_reaper_closes_by_itself(build: Build) -> None:
    opened = build(max=6, min=1, idle_timeout_ms=20)
    start_reaper(pool_of(opened))
    use_at_once(opened, 5)
    wait_for(lambda: pool_of(opened).snapshot().total == 1)


def test_a_minimum_of_none_closes_all(build: Build, engine: Engine) -> None:
    opened = build(max=3, min=0, idle_timeout_ms=1)
    use_at_once(opened, 3)
    time.sleep(0.002)
    assert pool_of(opened).close_idle() == 3
    wait_for(lambda: sessions(engine) == 0)


def test_who_waits_too_long_is_told_so_and_counted(build: Build) -> None:
    opened = build(max=2, min=0, acquire_timeout_ms=30)
    with opened.connect(), opened.connect():
        with pytest.raises(PoolTimeoutError):
            opened.connect()
        for use in (Database(opened).begin, Database(opened).read):
            with pytest.raises(Unavailable, match="busy") as caught, use():
                pass
            assert caught.value.retry_after_s == 2
        now = pool_of(opened).snapshot()
        assert (now.timeouts, now.waiting, now.in_use, now.max) == (3, 0, 2, 2)
    use_at_once(opened, 2)  # and afterwards all is well


def test_who_waits_is_counted_until_served(build: Build) -> None:
    opened = build(max=2, min=0)
    served = []

    def ask() -> None:
        with opened.connect() as connection:
            served.append(connection.execute(text("SELECT 1")).scalar())

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    with opened.connect(), opened.connect():
        for thread in threads:
            thread.start()
        wait_for(lambda: pool_of(opened).snapshot().waiting == 3)
        assert "2 of 2 connections in use, 0 idle, 3 waiting" in pool_of(opened).status()
        assert served == []
    for thread in threads:
        thread.join(10)
    assert served == [1, 1, 1]
    assert pool_of(opened).snapshot().waiting == 0 and pool_of(opened).snapshot().timeouts == 0


def test_the_maximum_holds_under_threads_while_the_reaper_runs(build: Build, engine: Engine) -> None:
    opened = build(max=4, min=1, idle_timeout_ms=1)
    pool = pool_of(opened)
    stop = threading.Event()
    done: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(25):
            with opened.connect() as connection:
                connection.execute(text("SELECT 1"))
            done.append(1)

    def reap() -> None:
        while not stop.is_set():
            pool.close_idle()
            most.append(pool.snapshot().total)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(12)]
    reaper = threading.Thread(target=reap, daemon=True)
    reaper.start()
    for thread in workers:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in workers):
        seen = max(seen, sessions(engine))
    stop.set()
    reaper.join(10)
    assert len(done) == 12 * 25
    # A closed session takes PostgreSQL a moment to leave its view, so the pool's own count is the strict one.
    assert max(most) <= 4 and seen > 0
    use_at_once(opened, 4)  # no place was lost
    assert pool.snapshot().total == 4
    wait_for(lambda: sessions(engine) == 4)


def test_a_lost_connection_gives_its_place_back(build: Build, engine: Engine) -> None:
    opened = build(max=2, min=0)
    use_at_once(opened, 2)
    with engine.begin() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pool-test'"
                 " AND datname = current_database()")
        )
    with pytest.raises(Unavailable), Database(opened).begin() as lost:
        lost.execute(text("SELECT 1"))
    with Database(opened).begin() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    use_at_once(opened, 2)
    now = pool_of(opened).snapshot()
    assert (now.total, now.in_use) == (2, 0)


def test_an_emptied_pool_keeps_its_settings(build: Build) -> None:
    opened = build(max=5, min=3, idle_timeout_ms=1)
    use_at_once(opened, 5)
    opened.dispose()
    assert pool_of(opened).snapshot().total == 0
    use_at_once(opened, 5)
    time.sleep(0.002)
    assert pool_of(opened).close_idle() == 2
    assert (pool_of(opened).snapshot().min, pool_of(opened).snapshot().max) == (3, 5)
