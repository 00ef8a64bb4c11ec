"""How long a web process waits for a sign of PostgreSQL: its own time-outs need a server that runs and is reached.

A server that hangs, or a network that swallows packets, would otherwise hold a request for ever. Works through the
callback with which psycopg2 waits under gevent; processes without gevent wait as long as it takes.
"""

import select
from collections.abc import Callable

import psycopg2
from psycopg2 import extensions

GRACE_S = 1.0  # what an answer may take beyond the time after which PostgreSQL itself ends a statement


class Unanswered(psycopg2.OperationalError):
    """PostgreSQL gave no sign in time. The connection is closed; the statement may still be carried out."""


class PatientConnection(extensions.connection):
    """A connection that knows how long to wait for each sign, its own making included; None is for ever."""

    wait_s: float | None = None
    # What follows its next statement (see green_copy.py): the text of a COPY, and its lines.
    to_copy: tuple[bytes, bytes] | None = None


def patient_connection(statement_timeout_ms: int) -> type[PatientConnection]:
    """Return the kind of connection that waits for a little longer than a statement may take."""
    wait_s = statement_timeout_ms / 1000 + GRACE_S if statement_timeout_ms else None
    return type("PatientConnection", (PatientConnection,), {"wait_s": wait_s})


_wait_through_gevent: Callable[[int, bool, float | None], None] | None = None


def wait_for(connection: extensions.connection, *, write: bool = False) -> None:
    """Return when the connection has something to read or, with `write`, takes something. Raises Unanswered."""
    descriptor = connection.fileno()
    if _wait_through_gevent is None:
        select.select([descriptor], [descriptor] if write else [], [])
        return
    wait_s = getattr(connection, "wait_s", None)
    try:
        _wait_through_gevent(descriptor, write, wait_s)
    except TimeoutError as error:
        raise _unanswered(wait_s) from error


def _unanswered(wait_s: float | None) -> Unanswered:
    return Unanswered(f"PostgreSQL gave no sign for {wait_s:g} s")


def install() -> None:
    """Make psycopg2 wait through gevent, and not for ever, in this process."""
    global _wait_through_gevent  # as the callback below is one for all connections of the process
    from gevent.socket import wait_read, wait_readwrite
    from psycogreen.gevent import gevent_wait_callback

    def wait(connection: extensions.connection) -> None:
        wait_s = getattr(connection, "wait_s", None)
        try:
            gevent_wait_callback(connection, timeout=wait_s)
        except TimeoutError as error:
            raise _unanswered(wait_s) from error

    def wait_for_descriptor(descriptor: int, write: bool, wait_s: float | None) -> None:
        (wait_readwrite if write else wait_read)(descriptor, timeout=wait_s)

    extensions.set_wait_callback(wait)
    _wait_through_gevent = wait_for_descriptor
