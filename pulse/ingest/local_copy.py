"""What a node keeps of the database on its own disk, so that it takes events while PostgreSQL is away.

A web worker knows the keys it has seen; one that starts during an outage would know nothing, and refuse every event
until PostgreSQL is back. So the node's background worker writes all valid keys (hashes, as in the database), the
projects, and the visitors' salts and secrets to a file that web workers read only when PostgreSQL does not answer. It
is one more place that holds the salts of today and yesterday: for its owner's eyes, like the embedded database beside
it, and written anew when a day's salt is due to go.
"""

import hashlib
import logging
import os
import time
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

import msgspec
from sqlalchemy import URL, Connection, Engine

from pulse.ingest.visitor import Identity, read_salts, read_secret
from pulse.monitor.board import Board
from pulse.storage import projects, schema
from pulse.storage.projects import ApiKey, Project

log = logging.getLogger("pulse.ingest")

FILE_NAME = "local-copy"
# A key made or revoked through this node is in it after a second, one by other nodes or `pulse key` after this time.
EVERY_S = 10.0
_BOARD = "remembered"


class Copy(msgspec.Struct, frozen=True):
    """The database's part in taking events, and in reading reports from the cache. `keys` are by their hash."""

    database: bytes
    schema: int
    administrators: int
    cookie_secret: bytes
    visitor_secret: bytes
    salts: dict[date, bytes]
    keys: dict[bytes, ApiKey]
    projects: dict[int, Project]

    @classmethod
    def of(cls, connection: Connection, database: bytes, now: datetime) -> Self:
        """Read it, 1 ms and 10 ms more for each 1,000 keys."""
        return cls(
            database,
            schema.schema_version(connection),
            projects.count_administrators(connection),
            projects.get_secret(connection, projects.COOKIES),
            read_secret(connection),
            read_salts(connection, now),
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
        return self._copy

    def _decode(self, data: bytes) -> Copy | None:
        try:
            copy = msgspec.msgpack.decode(data, type=Copy)
        except msgspec.MsgspecError:
            return None  # of another release
        is_ours = copy.database == self._database and copy.schema == len(schema.list_migrations())
        return copy if is_ours else None

    def read_from(self, connection: Connection, now: datetime | None = None) -> Copy:
        """Return what the database has to copy."""
        return Copy.of(connection, self._database, now or datetime.now(UTC))

    def write(self, data: bytes) -> None:
        """Replace the file by an encoded copy, whole or not at all."""
        temporary = self._path.with_suffix(".tmp")
        with suppress(FileNotFoundError):
            temporary.unlink()
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
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
        self._due = 0.0

    def keep(self) -> None:
        """Write what is new, if anything; asks the database at once after a change made through this node."""
        generation, now = self._board.read(), time.monotonic()
        if generation == self._generation and now < self._due:
            return
        with self._engine.begin() as connection:
            data = msgspec.msgpack.encode(self._copy.read_from(connection))
        if data != self._written or not self._copy.is_there():
            self._copy.write(data)
            self._written = data
        self._generation, self._due = generation, now + EVERY_S


def changes_board(data_dir: Path) -> Board:
    """Return the number that a change of keys, projects or goals made through this node adds one to."""
    return Board(data_dir / _BOARD)


def _fingerprint(url: URL) -> bytes:
    """Tell databases apart without a secret: who asks, and under which password, may change."""
    place = URL.create("postgresql", host=url.host, port=url.port, database=url.database, query=url.query)
    return hashlib.sha256(str(place).encode()).digest()
