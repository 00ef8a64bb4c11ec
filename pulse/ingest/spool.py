"""The local spool: batches accepted while PostgreSQL is away, one synced file each, replayed in order.

A file is renamed into place after its bytes are on the disk, so a crash leaves whole files and `.tmp` leftovers that
were never acknowledged. Replaying twice is harmless: a batch is stored once (see `batch.store`). Several processes
write into one folder, each file under a name of its own; one replays at a time, under a lock.

What can't be replayed is kept in the folder for somebody to look at: a damaged file as `.bad`; as `.refused` one with
events that PostgreSQL does not take, after all others in it were stored.
"""

import errno
import fcntl
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from sqlalchemy.exc import DBAPIError

from pulse.errors import Unavailable
from pulse.ingest.batch import Batch, first_line, is_row_fault, split
from pulse.ingest.room import MAX_BYTES, Room, name_of
from pulse.monitor import recorder
from pulse.storage import beside

log = logging.getLogger("pulse.spool")

_MAGIC = b"PULSE1\n"
# A shortage of the process's own says nothing about the file: it is read another time.
_NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# What a crash left half written; a process still at it finds its file gone, and acknowledges nothing.
_LEFT_AFTER_S = 3600.0
REPLAY_FOR_S = 5.0


class Spool:
    """A folder of batches waiting for PostgreSQL; at most `max_bytes` of them."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.room = Room(folder, max_bytes)

    def append(self, batch: Batch, sizes: Mapping[int, int]) -> None:
        """Return once the batch is on the disk (one fsync of the file and one of the folder, 1 to 10 ms).

        `sizes` are its bytes by project. Other greenlets go on meanwhile. Raises Unavailable when the spool or the disk
        is full, or can't be written.
        """
        body = msgspec.msgpack.encode(batch)
        data = _MAGIC + zlib.crc32(body).to_bytes(4, "big") + body
        if not self.room.has(len(data)):
            raise Unavailable("The database is away and the spool is full.", retry_after_s=30)
        error = beside.run(self._write, f"{batch.id:020d}-{batch.writer}{name_of(sizes)}", data)
        if error is not None:
            log.error("the spool can't be written: %s", error)
            raise Unavailable("The database is away and the spool can't be written.", retry_after_s=30) from error
        self.room.take(len(data), sizes)

    def _write(self, name: str, data: bytes) -> OSError | None:
        temporary, final = self.folder / f"{name}.tmp", self.folder / f"{name}.batch"
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                _sync_folder(self.folder.parent)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(final)
            _sync_folder(self.folder)
        except OSError as error:  # returned: what is raised beside the event loop is printed there as well
            for leftover in (temporary, final):
                with suppress(OSError):
                    leftover.unlink()
            return error
        return None

    def pending(self) -> list[Path]:
        """Return the files to replay, oldest batch first."""
        return sorted(self.folder.glob("*.batch"))

    def newest(self) -> int:
        """Return the greatest batch id that waits, 0 when nothing does."""
        return max((_batch_id(path) for path in self.pending()), default=0)

    def holds(self, up_to: int) -> bool:
        """Tell whether a batch of an id up to `up_to` still waits."""
        return any(_batch_id(path) <= up_to for path in self.pending())

    def replay(self, store: Callable[[Batch], None], for_s: float = REPLAY_FOR_S) -> int:
        """Store and remove the batches in order, for so long at most; return how many files.

        Stops at the first error that `store` raises, unless PostgreSQL refuses the rows themselves: then each is stored
        by itself. Returns 0 while another process replays.
        """
        if not self.pending():
            return 0
        replayed = 0
        until = time.monotonic() + for_s
        with self._exclusively() as granted:
            for path in self.pending() if granted else []:
                batch = self._read(path)
                if batch is not None:
                    self._replay_one(path, batch, store)
                    replayed += 1
                if time.monotonic() >= until:
                    break
            if granted:
                self._tidy()
        return replayed

    def _tidy(self) -> None:
        """Remove what crashes left, and let no power failure bring back what was removed: batches are known 14 days."""
        for path in self.folder.glob("*.tmp"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _LEFT_AFTER_S:
                    path.unlink()
        _sync_folder(self.folder)

    def _replay_one(self, path: Path, batch: Batch, store: Callable[[Batch], None]) -> None:
        refused = 0
        try:
            store(batch)
            path.unlink(missing_ok=True)  # another node with the same folder, where its lock does not reach
            return
        except DBAPIError as error:
            if not is_row_fault(error):
                raise
        # A crash in between doubles nothing, even if all of the batch could be stored next time: events keep their ids.
        for part in split(batch):
            try:
                store(part)
            except DBAPIError as error:
                if not is_row_fault(error):
                    raise
                refused += 1
                log.error("an event of spool file %s is refused: %s", path.name, first_line(error))
        if refused:
            recorder.count("spool_refused_events", refused)
            path.rename(path.with_suffix(".refused"))
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def _exclusively(self) -> Iterator[bool]:
        with (self.folder / "replay.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _read(self, path: Path) -> Batch | None:
        """Return the batch of a file; None where the file is kept aside or left for another time."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # see _replay_one
            return None
        except PermissionError as error:  # somebody has to give it back to us; those behind it do not wait for that
            log.error("spool file %s can't be read: %s", path.name, error)
            return None
        except OSError as error:  # a sector that can't be read
            if error.errno in _NOT_THE_FILE:
                raise
            log.error("spool file %s: %s", path.name, error)
            data = b""
        body = data[len(_MAGIC) + 4 :]
        if data[: len(_MAGIC)] == _MAGIC and zlib.crc32(body).to_bytes(4, "big") == data[len(_MAGIC) :][:4]:
            try:
                return msgspec.msgpack.decode(body, type=Batch)
            except msgspec.MsgspecError:
                pass
        log.error("spool file %s is damaged; it is kept aside as .bad", path.name)
        recorder.count("spool_damaged_files")
        path.rename(path.with_suffix(".bad"))
        return None


def _batch_id(path: Path) -> int:
    number = path.name.partition("-")[0]
    return int(number) if number.isdecimal() else 0  # no file of ours: older than all, until it is set aside


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
