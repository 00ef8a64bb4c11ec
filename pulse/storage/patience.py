"""How long a web process waits for a sign of PostgreSQL: its own time-outs need a server that runs and is reached.

A server that hangs, or a network that swallows packets, would otherwise hold a request for ever. Works through the
callback with which psycopg2 waits under gevent; processes without gevent wait as long as it takes.
"""

import psycopg2
from psycopg2 import extensions

GRACE_S = 1.0  # what an answer may take beyond the time after which PostgreSQL itself ends a statement


class Unanswered(psycopg2.OperationalError):
    """PostgreSQL gave no sign in time. The connection is closed; the statement may still be carried out."""


class PatientConnection(extensions.connection):
    """A connection that knows how long to wait for each sign, its own making included; None is for ever."""

    wait_s: float | None = None


def patient_connection(statement_timeout_ms: int) -> type[PatientConnection]:
    """Return the kind of connection that waits for a little longer than a statement may take."""
    wait_s = statement_timeout_ms / 1000 + GRACE_S if statement_timeout_ms else None
    return type("PatientConnection", (PatientConnection,), {"wait_s": wait_s})


def install() -> None:
    """Make psycopg2 wait through gevent, and not for ever, in this process."""
    from psycogreen.gevent import gevent_wait_callback

    def wait(connection: extensions.connection) -> None:
        wait_s = getattr(connection, "wait_s", None)
        try:
            gevent_wait_callback(connection, timeout=wait_s)
        except TimeoutError as error:
            raise Unanswered(f"PostgreSQL gave no sign for {wait_s:g} s") from error

    extensions.set_wait_callback(wait)
