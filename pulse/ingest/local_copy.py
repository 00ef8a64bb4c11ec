"""What a node keeps of the database on its own disk, so that it takes events while PostgreSQL is away.

A web worker knows the keys it has seen; one that starts during an outage would know nothing, and refuse every event
until PostgreSQL is back. So the node's background worker writes all valid keys (hashes, as in the database), the
projects, and the visitors' salts and secrets to a file by which web workers go when PostgreSQL does not answer. It is
one more place that holds the salts of today and yesterday: for its owner's eyes, like the embedded database beside it,
and written anew when a day's salt is due to go.
"""

import hashlib
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self, TypeVar

import msgspec
from sqlalchemy import URL, Connection, Engine

from pulse.ingest.visitor import BRIDGED, Identity, make_salts
from pulse.monitor.board import Board
from pulse.storage import projects, schema
from pulse.storage.projects import ApiKey, Project

log = logging.getLogger("pulse.ingest")

T = TypeVar("T")

FILE_NAME = "local-copy"
# A key made or revoked through this node is in it after a second, one by other nodes or `pulse key` after this time.
EVERY_S = 10.0
_BOARD = "remembered"
_CHECK_BYTES = 4


class Copy(msgspec.Struct, frozen=True):
    """The database's part in taking events, and in reading reports from the cache. `keys` are by their hash."""

    database: bytes
    day: date
    schema: int
    administrators: int
    cookie_secret: bytes
    visitor_secret: bytes
    salts: dict[date, bytes]
    keys: dict[bytes, ApiKey]
    projects: dict[int, Project]

    @classmethod
    def of(cls, connection: Connection, database: bytes, now: datetime) -> Self:
        """Read it, and make the salts that are missing (4 ms with 1,000 keys, 70 ms with 20,000)."""
        return cls(
            database,
            now.astimezone(UTC).date(),
            schema.schema_version(connection),
            projects.count_administrators(connection),
            projects.get_secret(connection, projects.COOKIES),
            projects.get_secret(connection, projects.VISITOR_IDS),
            make_salts(connection, now),
            projects.list_valid_keys(connection),
            {project.id: project for project in projects.list_projects(connection)},
        )

    def identity(self) -> Identity:
        """Make visitors' hashes as workers that asked PostgreSQL do."""
        return Identity(self.salts, self.visitor_secret)

    def find_key(self, text: str) -> ApiKey | None:
        """Return the key that was valid when PostgreSQL was last asked."""
        return self.keys.get(projects.hash_key(text))


class LocalCopy:
    """The file of a node; `url` is the database's, of whose copies others are none."""

    def __init__(self, data_dir: Path, url: URL) -> None:
        self._path = data_dir / FILE_NAME
        self._database = _fingerprint(url)
        self._seen: tuple[int, int] | None = None
        self._copy: Copy | None = None

    def read(self) -> Copy | None:
        """Return the copy; None without one that this release and this database can go by. Cheap when asked again."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if self._seen != (found.st_ino, found.st_mtime_ns):
                    self._copy = self._decode(file.read())
                    self._seen = found.st_ino, found.st_mtime_ns
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("the local copy can't be read: %s", error)
            return None
        # Salts are not derived for longer; and who knows which keys were revoked meanwhile.
        is_old = self._copy is not None and datetime.now(UTC).date() - self._copy.day > BRIDGED
        return None if is_old else self._copy

    def _decode(self, data: bytes) -> Copy | None:
        body = data[_CHECK_BYTES:]
        if _check(body) != data[:_CHECK_BYTES]:
            return None
        try:
            copy = msgspec.msgpack.decode(body, type=Copy)
        except (msgspec.MsgspecError, ValueError):
            return None  # of another release
        is_ours = copy.database == self._database and copy.schema == len(schema.list_migrations())
        return copy if is_ours else None

    def read_from(self, connection: Connection, now: datetime | None = None) -> Copy:
        """Return what the database has to copy."""
        return Copy.of(connection, self._database, now or datetime.now(UTC))

    def write(self, body: bytes) -> None:
        """Replace the file by an encoded copy, whole or not at all. Raises OSError."""
        temporary = self._path.with_suffix(".tmp")
        with suppress(FileNotFoundError):
            temporary.unlink()
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(_check(body) + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._path)

    def is_there(self) -> bool:
        """Tell whether there is a file, whatever is in it."""
        return self._path.exists()


class Keeper:
    """Brings the copy up to date; for the one background worker of a node."""

    def __init__(self, engine: Engine, copy: LocalCopy, board: Board) -> None:
        self._engine = engine
        self._copy = copy
        self._board = board
        self._generation = b""
        self._written = b""
        self._is_troubled = False
        self._due = 0.0

    def keep(self) -> None:
        """Write what is new, if anything; asks the database at once after a change made through this node."""
        generation, now = self._board.read(), time.monotonic()
        if generation == self._generation and now < self._due:
            return
        with self._engine.begin() as connection:
            data = msgspec.msgpack.encode(self._copy.read_from(connection))
        self._generation, self._due = generation, now + EVERY_S
        if data != self._written or not self._copy.is_there():
            try:
                self._copy.write(data)
            except OSError as error:
                if not self._is_troubled:
                    log.error("the local copy can't be written: %s", error)
                self._is_troubled = True
                return
            self._written, self._is_troubled = data, False


def ask_within(ask: Callable[[], T], for_s: float | None) -> T:
    """Return what `ask` returns, which goes on beside when it takes longer.

    Raises what it raises, TimeoutError after `for_s` seconds; None is without limit.
    """
    if for_s is None:
        return ask()
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=run, name="ask-within", daemon=True).start()
    return answer.result(for_s)


def changes_board(data_dir: Path) -> Board:
    """Return the number that a change of keys, projects or goals made through this node adds one to."""
    return Board(data_dir / _BOARD)


def _check(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(_CHECK_BYTES, "big")


def _fingerprint(url: URL) -> bytes:
    """Tell databases apart without a secret: who asks, and under which password, may change."""
    host = url.query.get("host", url.host)
    port = url.query.get("port", url.port or 5432)
    return hashlib.sha256(f"{host}\n{port}\n{url.query.get('dbname', url.database)}".encode()).digest()
