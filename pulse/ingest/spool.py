"""The local spool: batches accepted while PostgreSQL is away, one synced file each, replayed in order.

A file is renamed into place after its bytes are on the disk, so a crash leaves whole files and `.tmp` leftovers that
were never acknowledged. Replaying twice is harmless: a batch is stored once (see `batch.store`). Several processes
write into one folder, each file under a name of its own; one replays at a time, under a lock.

What can't be replayed is kept in the folder for somebody to look at: a damaged file as `.bad`; as `.refused` one with
events that PostgreSQL does not take, after all others in it were stored.
"""

import fcntl
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from sqlalchemy.exc import DBAPIError

from pulse.errors import Unavailable
from pulse.ingest.batch import Batch, first_line, is_row_fault, split
from pulse.monitor import recorder

log = logging.getLogger("pulse.spool")

MAX_BYTES = 1 << 30
_MAGIC = b"PULSE1\n"
# The folder is looked through this often at most, and for a twentieth of the time: 100,000 files take 0.3 s.
_LOOK_EVERY_S = 0.5
REPLAY_FOR_S = 5.0


class Spool:
    """A folder of batches waiting for PostgreSQL; at most `max_bytes` of them."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._held_bytes = 0
        self._look_at = 0.0

    def append(self, batch: Batch) -> None:
        """Return once the batch is on the disk (one fsync of the file and one of the folder, 1 to 10 ms).

        Raises Unavailable when the spool or the disk is full, or can't be written.
        """
        body = msgspec.msgpack.encode(batch)
        data = _MAGIC + zlib.crc32(body).to_bytes(4, "big") + body
        name = f"{batch.id:020d}-{batch.writer}"
        temporary, final = self.folder / f"{name}.tmp", self.folder / f"{name}.batch"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.held_bytes() + len(data) > self.max_bytes:
                raise Unavailable("The database is away and the spool is full.", retry_after_s=30)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(final)
            self._sync_folder()
            self._held_bytes += len(data)
        except OSError as error:
            for leftover in (temporary, final):
                with suppress(OSError):
                    leftover.unlink()
            log.error("the spool can't be written: %s", error)
            raise Unavailable("The database is away and the spool can't be written.", retry_after_s=30) from error

    def held_bytes(self) -> int:
        """Return the bytes of what waits, as far as is known of what other processes add and replay."""
        if time.monotonic() >= self._look_at:
            started_at = time.monotonic()
            self._held_bytes = self.size_bytes()
            now = time.monotonic()
            self._look_at = now + max(_LOOK_EVERY_S, (now - started_at) * 20)
        return self._held_bytes

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def pending(self) -> list[Path]:
        """Return the files to replay, oldest batch first."""
        return sorted(self.folder.glob("*.batch"))

    def newest(self) -> int:
        """Return the greatest batch id that waits, 0 when nothing does."""
        return max((_batch_id(path) for path in self.pending()), default=0)

    def holds(self, up_to: int) -> bool:
        """Tell whether a batch of an id up to `up_to` still waits."""
        return any(_batch_id(path) <= up_to for path in self.pending())

    def size_bytes(self) -> int:
        """Return the bytes of what waits."""
        total = 0
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(".batch"):
                    with suppress(FileNotFoundError):  # replayed meanwhile
                        total += entry.stat().st_size
        return total

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
        return replayed

    def _replay_one(self, path: Path, batch: Batch, store: Callable[[Batch], None]) -> None:
        refused = 0
        try:
            store(batch)
            path.unlink()
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
            path.unlink()

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
        """Return the batch of a file, or keep the file aside."""
        try:
            data = path.read_bytes()
        except OSError as error:  # a sector that can't be read
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
