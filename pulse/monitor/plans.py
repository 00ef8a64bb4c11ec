"""The plan of a named statement, made by PostgreSQL without running it and without anybody's parameters."""

import re
import threading
import time

import msgspec
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import psycopg2
from sqlalchemy.exc import DBAPIError

from pulse.errors import NotFound
from pulse.storage.sql import load_queries

# Plans change with statistics, slowly; planning a large statement costs PostgreSQL some milliseconds.
KEEP_S = 3600.0
MAX_PLANS = 500
_NAME = re.compile(r"([a-z_]{1,60})\.([a-z0-9_]{1,60})")
_PLANNED = re.compile(r"\s*(?:/\*.*?\*/\s*)?(?:select|insert|update|delete|merge|with|values)\b", re.I | re.S)


class Plan(msgspec.Struct, rename="camel", frozen=True):
    """A statement's text with its plan, line by line; or `problem`, why PostgreSQL makes none."""

    name: str
    statement: str
    plan: list[str]
    problem: str | None = None


class PlanBook:
    """Plans made so far, each for an hour."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plans: dict[str, tuple[float, Plan]] = {}

    def find(self, connection: Connection, name: str) -> Plan:
        """The plan of the block `module.block`. Raises NotFound for a name that is not a block of ours."""
        statement = find_block(name)
        with self._lock:
            made_at, plan = self._plans.get(name, (float("-inf"), None))
        if plan is None or time.monotonic() - made_at > KEEP_S:
            plan = explain(connection, name, statement)
            with self._lock:
                if len(self._plans) >= MAX_PLANS:
                    self._plans.clear()
                self._plans[name] = (time.monotonic(), plan)
        return plan


def find_block(name: str) -> str:
    """The statement of a block with `$1`, `$2`, … for its binds. Raises NotFound."""
    match = _NAME.fullmatch(name)
    unknown = NotFound("There is no named statement like this; plans are made of those alone.")
    if match is None:
        raise unknown
    try:
        queries = load_queries(match[1])
    except FileNotFoundError:
        raise unknown from None
    if match[2] not in queries.names():
        raise unknown
    compiled = str(getattr(queries, match[2]).compile(dialect=psycopg2.dialect()))
    numbers: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found[1], len(numbers) + 1)}"

    return re.sub(r"%\((\w+)\)s", numbered, compiled).replace("%%", "%")


def explain(connection: Connection, name: str, statement: str) -> Plan:
    """Ask for the plan that fits any parameters (PostgreSQL 16 and newer); nothing is run, not even a SELECT."""
    if not _PLANNED.match(statement):
        return Plan(name, statement, [], "Statements of this type have no plan.")
    try:
        with connection.begin_nested():
            cursor = connection.connection.cursor()
            # Without parameters psycopg2 sends the text as it is.
            cursor.execute(f"/* monitor.explain */ EXPLAIN (GENERIC_PLAN, VERBOSE FALSE) {statement}")
            return Plan(name, statement, [row[0] for row in cursor.fetchall()])
    except DBAPIError as error:
        return Plan(name, statement, [], str(error.orig).strip().splitlines()[0])
    except connection.dialect.loaded_dbapi.Error as error:
        return Plan(name, statement, [], str(error).strip().splitlines()[0])
