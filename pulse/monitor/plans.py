"""The plan of a named statement, made by PostgreSQL without running it and without anybody's parameters."""

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from time import time

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql import psycopg2
from sqlalchemy.exc import DBAPIError

from pulse.errors import NotFound
from pulse.monitor import files
from pulse.monitor.service import ServiceStats
from pulse.storage.sql import load_queries

# Plans change with statistics, slowly; planning a large statement costs PostgreSQL some milliseconds.
KEEP_S = 3600.0
FILE_NAME = "plans.json"
MAX_PLANS = 500
# Made in one round by the background worker: a service that has just become slow has other work.
MOST_AT_ONCE = 5
MAX_TEXT = 16_000
_GAP = re.compile(r"\{\w+\}")
_BIND = re.compile(r"%\((\w+)\)s")
_NAME = re.compile(r"([a-z_]{1,60})\.([a-z0-9_]{1,60})")
_STAGE = re.compile(r"\s*(?:/\*.*?\*/\s*)?create\s+temporary\s+table\s+(?:if\s+not\s+exists\s+)?(\w+)", re.I | re.S)
_PLANNED = re.compile(r"\s*(?:/\*.*?\*/\s*)?(?:select|insert|update|delete|merge|with|values)\b", re.I | re.S)


class Plan(msgspec.Struct, rename="camel", frozen=True):
    """A statement's text with its plan, line by line; or `problem`, why PostgreSQL makes none."""

    name: str
    statement: str
    plan: list[str]
    problem: str | None = None


class _Kept(msgspec.Struct):
    made_at: float
    plan: Plan


class PlanBook:
    """Plans made so far, each for an hour; all processes of a node write and read the same book."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def known(self) -> dict[str, Plan]:
        """The plans that are not too old, by the name of the statement."""
        return {name: kept.plan for name, kept in self._read().items() if 0 <= time() - kept.made_at < KEEP_S}

    def find(self, connection: Connection, name: str, sent: str | None = None) -> Plan:
        """The plan of the block `module.block`, or of it as it was `sent`. Raises NotFound for any other name."""
        block = find_block(name)
        plan = self.known().get(name)
        if plan is not None:
            return plan
        if sent is None and _GAP.search(block):
            return Plan(name, block, [], "It is put together for each request; it has a plan once a run was slow.")
        plan = explain(connection, name, block if sent is None else _number_binds(sent))
        self._add(plan)
        return plan

    def make_missing(self, engine: Engine, slow: Mapping[str, str | None]) -> int:
        """Make the plans that nobody has asked for yet, of at most MOST_AT_ONCE statements; return of how many."""
        known = self.known()
        missing = [name for name in slow if name not in known][:MOST_AT_ONCE]
        if missing:
            with engine.begin() as connection:
                for name in missing:
                    self.find(connection, name, slow[name])
        return len(missing)

    def _read(self) -> dict[str, _Kept]:
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode((self._folder / FILE_NAME).read_bytes(), type=dict[str, _Kept])
        return {}

    def _add(self, plan: Plan) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with files.locked(self._folder, "plans.lock"):
            book = self._read() if len(self._read()) < MAX_PLANS else {}
            book[plan.name] = _Kept(time(), plan)
            draft = self._folder / f"{FILE_NAME}.draft"
            draft.write_bytes(msgspec.json.encode(book))
            draft.replace(self._folder / FILE_NAME)


def list_slow(stats: ServiceStats) -> dict[str, str | None]:
    """The named statements that were slow since the last reset, most slow runs first, with how they were sent."""
    names: dict[str, str | None] = {}
    for found in sorted((found for found in stats.statements if found.slow), key=lambda found: -found.slow):
        with suppress(NotFound):
            find_block(found.name)
            names[found.name] = names.get(found.name) or found.sent
    return names


@lru_cache(maxsize=MAX_PLANS)
def _has_gaps(name: str) -> bool:
    try:
        return _GAP.search(find_block(name)) is not None
    except NotFound:
        return False


def text_to_plan(name: str, sent: str) -> str | None:
    """What is kept of a slow statement for its plan: a block with gaps has none by itself.

    Of other statements nothing is: the block will do, and a text of no block of ours may have values written into it.
    """
    return sent if len(sent) <= MAX_TEXT and _has_gaps(name) else None


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
    return _number_binds(str(getattr(queries, match[2]).compile(dialect=psycopg2.dialect())))


def _number_binds(text: str) -> str:
    numbers: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found[1], len(numbers) + 1)}"

    return _BIND.sub(numbered, text).replace("%%", "%")


def explain(connection: Connection, name: str, statement: str) -> Plan:
    """Ask for the plan that fits any parameters (PostgreSQL 16 and newer); nothing is run, not even a SELECT.

    A temporary table that the statement's own session has is made for the moment, empty.
    """
    if not _PLANNED.match(statement):
        return Plan(name, statement, [], "Statements of this type have no plan.")
    stages = _find_stages(name, statement)
    try:
        with connection.begin_nested() as savepoint:
            cursor = connection.connection.cursor()
            for table in stages:
                cursor.execute(stages[table])
            # Without parameters psycopg2 sends the text as it is.
            cursor.execute(f"/* monitor.explain */ EXPLAIN (GENERIC_PLAN, VERBOSE FALSE) {statement}")
            lines = [row[0] for row in cursor.fetchall()]
            savepoint.rollback()
            return Plan(name, statement, lines)
    except (DBAPIError, connection.dialect.loaded_dbapi.Error) as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        if stages:
            reason = f"It works on {' and '.join(stages)}, temporary, which can't be made here: {reason}"
        return Plan(name, statement, [], reason)


def _find_stages(name: str, statement: str) -> dict[str, str]:
    """The temporary tables that a statement of a module works on, with the blocks of that module which make them."""
    queries = load_queries(name.partition(".")[0])
    found = {}
    for block in queries.names():
        made = _STAGE.match(str(getattr(queries, block)))
        if made is not None and re.search(rf"\b{made[1]}\b", statement):
            found[made[1]] = _number_binds(str(getattr(queries, block).compile(dialect=psycopg2.dialect())))
    return found
