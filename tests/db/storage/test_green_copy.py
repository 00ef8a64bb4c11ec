"""COPY behind a statement: one transaction, errors as psycopg2's own, and a connection that is whole afterwards."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from pulse.storage.green_copy import followed_by_copy

COPY = "COPY copied FROM STDIN"


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection that commits each statement, with a table for texts that differ."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as made:
        made.execute(text("CREATE TABLE copied (line text PRIMARY KEY)"))
        yield made


def insert(connection: Connection, line: str, lines: bytes) -> None:
    with followed_by_copy(connection, COPY, lines):
        connection.execute(text("INSERT INTO copied VALUES (:line)"), {"line": line})


def stored(connection: Connection) -> list[str]:
    return sorted(connection.execute(text("SELECT line FROM copied")).scalars())


def test_statement_and_lines_are_stored_together(connection: Connection) -> None:
    insert(connection, "100 %", b"one\ntwo\n")
    insert(connection, "it's", b"")
    connection.execute(text("INSERT INTO copied VALUES ('alone')"))
    assert stored(connection) == ["100 %", "alone", "it's", "one", "two"]


@pytest.mark.parametrize(("line", "lines"), [("there", b"new\n"), ("new", b"there\n"), ("new", b"same\nsame\n")])
def test_they_fail_together_and_the_connection_goes_on(connection: Connection, line: str, lines: bytes) -> None:
    insert(connection, "there", b"one\n")
    with pytest.raises(IntegrityError) as caught:
        insert(connection, line, lines)
    assert caught.value.orig is not None and caught.value.orig.pgcode == "23505"  # type: ignore[attr-defined]
    assert not caught.value.connection_invalidated
    assert stored(connection) == ["one", "there"]
    insert(connection, "again", b"two\n")
    assert stored(connection) == ["again", "one", "there", "two"]


def test_a_lost_connection_is_an_operational_error(engine: Engine, connection: Connection) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        victim = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": victim})
        with pytest.raises(OperationalError) as caught:
            insert(connection, "lost", b"lost\n")
        assert caught.value.connection_invalidated
        assert stored(other) == []


def test_what_is_not_copied_is_an_error(connection: Connection) -> None:
    with pytest.raises(DBAPIError), followed_by_copy(connection, "COPY missing FROM STDIN", b"a\n"):
        connection.execute(text("INSERT INTO copied VALUES ('a')"))
    assert stored(connection) == []


def test_a_copy_that_takes_too_long_is_stopped_and_the_connection_goes_on(connection: Connection) -> None:
    connection.execute(
        text(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(0.05); RETURN new; END';"
            "CREATE TRIGGER slow BEFORE INSERT ON copied FOR EACH ROW EXECUTE FUNCTION wait();"
            "SET statement_timeout = 200"
        )
    )
    lines = b"".join(b"%0900d\n" % number for number in range(10_000))
    with pytest.raises(OperationalError) as caught:
        insert(connection, "first", lines)
    assert caught.value.orig is not None and caught.value.orig.pgcode == "57014"  # type: ignore[attr-defined]
    assert not caught.value.connection_invalidated
    insert(connection, "again", b"two\n")
    assert stored(connection) == ["again", "two"]


_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from pulse.storage import patience
from pulse.storage.green_copy import CopyingCursor, followed_by_copy
patience.install()
url = sys.argv[1]
made = {"connection_factory": patience.patient_connection(500), "cursor_factory": CopyingCursor}
engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args=made)
beats = []
def beat():
    while True:
        beats.append(1)
        gevent.sleep(0.001)
lines = b"".join(b"%d\\n" % number for number in range(300_000))
with engine.connect() as connection:
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    print(pid, flush=True)
    sys.stdin.readline()
    gevent.spawn(beat)
    before = len(beats)
    try:
        with followed_by_copy(connection, "COPY copied FROM STDIN", lines):
            connection.execute(text("INSERT INTO copied VALUES ('first')"))
        print("stored", len(beats) - before > 10)
    except OperationalError as error:
        print(type(error.orig).__name__, error.connection_invalidated)
"""


@pytest.mark.parametrize(("stop", "outcome"), [(False, "stored True"), (True, "Unanswered True")])
def test_others_work_while_a_greenlet_waits_and_it_does_not_wait_for_ever(
    engine: Engine, connection: Connection, stop: bool, outcome: str
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", _UNDER_GEVENT, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        backend = int(process.stdout.readline())
        if stop:
            os.kill(backend, signal.SIGSTOP)
        try:
            said, _ = process.communicate("go\n", timeout=30)
        finally:
            if stop:
                os.kill(backend, signal.SIGCONT)
    assert said.strip() == outcome
    assert len(stored(connection)) == (0 if stop else 300_001)
