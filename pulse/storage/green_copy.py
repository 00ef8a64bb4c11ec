"""A statement and a COPY behind it in one transaction, also where psycopg2 waits through gevent.

psycopg2 refuses COPY there. Here it is done with the same libpq on the same connection: `connection.pgconn_ptr` is
psycopg2's own way of handing it out (its documentation shows ctypes). Both statements are sent as one text, which
PostgreSQL carries out as one transaction: two round trips in all, for a connection that commits each statement.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg2
from psycopg2 import _psycopg, errors, extensions
from sqlalchemy import Connection

from pulse.storage.patience import wait_for

# Values of libpq's ExecStatusType and ConnStatusType, and the field of a message that holds its SQLSTATE (libpq-fe.h,
# postgres_ext.h).
_COPY_IN, _BAD_RESPONSE, _FATAL_ERROR = 4, 5, 7
_CONNECTION_BAD = 1
_SQLSTATE = ord("C")

# Symbols are looked for in what the module was linked with as well: in its libpq, and no other.
_libpq = ctypes.CDLL(_psycopg.__file__)
_Pointer, _text, _int = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = _libpq[name]
    function.restype, function.argtypes = result, (_Pointer, *arguments)
    return function


_send_query = _declare("PQsendQuery", _int, _text)
_get_result = _declare("PQgetResult", _Pointer)
_is_busy = _declare("PQisBusy", _int)
_consume_input = _declare("PQconsumeInput", _int)
_flush = _declare("PQflush", _int)
_put_data = _declare("PQputCopyData", _int, _text, _int)
_put_end = _declare("PQputCopyEnd", _int, _text)
_status_of_connection = _declare("PQstatus", _int)
_message_of_connection = _declare("PQerrorMessage", _text)
_status_of = _declare("PQresultStatus", _int)
_message_of = _declare("PQresultErrorMessage", _text)
_field_of = _declare("PQresultErrorField", _text, _int)
_clear = _declare("PQclear", None)


class CopyingCursor(extensions.cursor):
    """A cursor that carries out what `followed_by_copy` has prepared on its connection."""

    def execute(self, query: Any, vars: Any = None) -> None:
        """Run a statement, together with the COPY that is to follow it."""
        connection = cast(Any, self.connection)
        prepared = connection.to_copy
        if prepared is None:
            super().execute(query, vars)
            return
        copy, lines = prepared
        connection.to_copy = None
        try:
            _run(connection, self.mogrify(query, vars) + b";" + copy, lines)
        except BaseException as error:
            was_refused = isinstance(error, psycopg2.Error) and error.pgcode is not None
            if not was_refused or _status_of_connection(connection.pgconn_ptr) == _CONNECTION_BAD:
                connection.close()  # half of a conversation: the next one would take the rest of it for its answer
            raise


@contextmanager
def followed_by_copy(connection: Connection, copy: str, lines: bytes) -> Iterator[None]:
    """Let `copy`, a COPY … FROM STDIN that gets these lines, follow the next statement in that one's transaction.

    The connection's cursors must be of class CopyingCursor. The statement returns no rows; both fail together.
    """
    driver = cast(Any, connection.connection).driver_connection
    driver.to_copy = copy.encode(), lines
    try:
        yield
    finally:
        driver.to_copy = None


def _run(connection: Any, query: bytes, lines: bytes) -> None:
    pointer = connection.pgconn_ptr
    if not _send_query(pointer, query):
        raise _broken(pointer)
    error: psycopg2.Error | None = None
    _send_all(connection, pointer)
    while result := _next_result(connection, pointer):
        status = _status_of(result)
        if status in (_BAD_RESPONSE, _FATAL_ERROR):
            error = _error_of(result)
        _clear(result)
        if status == _COPY_IN:
            _send_lines(connection, pointer, lines)
    if error is not None:
        raise error


def _send_lines(connection: Any, pointer: int, lines: bytes) -> None:
    """Hand all lines to libpq, which keeps what the socket does not take yet."""
    while (taken := _put_data(pointer, lines, len(lines))) == 0:
        _send_all(connection, pointer)
    if taken < 0 or _put_end(pointer, None) < 0:
        raise _broken(pointer)
    _send_all(connection, pointer)


def _send_all(connection: Any, pointer: int) -> None:
    while left := _flush(pointer):
        if left < 0:
            raise _broken(pointer)
        wait_for(connection, write=True)
        # PostgreSQL may be waiting as well, for somebody to read what it has to say.
        if not _consume_input(pointer):
            raise _broken(pointer)


def _next_result(connection: Any, pointer: int) -> int | None:
    while _is_busy(pointer):
        wait_for(connection)
        if not _consume_input(pointer):
            raise _broken(pointer)
    return cast("int | None", _get_result(pointer))


def _broken(pointer: int) -> psycopg2.OperationalError:
    return psycopg2.OperationalError(_message_of_connection(pointer).decode(errors="replace"))


def _error_of(result: int) -> psycopg2.Error:
    """Return the error psycopg2 itself would raise."""
    code = (_field_of(result, _SQLSTATE) or b"").decode() or None
    message = _message_of(result).decode(errors="replace")
    try:
        kind = errors.lookup(code) if code else psycopg2.OperationalError
    except KeyError:
        kind = psycopg2.DatabaseError
    error = kind(message)
    error.__setstate__({"pgcode": code, "pgerror": message})
    return error
