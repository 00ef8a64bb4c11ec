"""The local spool: batches accepted while PostgreSQL is away, one synced file each, replayed in order.

A file is renamed into place after its bytes are on the disk, so a crash leaves whole files and `.tmp` leftovers that
were never acknowledged. Replaying twice is harmless: a batch is stored once (see `batch.store`). Several processes
write into one folder, each file under a name of its own; one replays at a time, under a lock.
"""

import fcntl
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from pulse.errors import Unavailable
from pulse.ingest.batch import Batch

log = logging.getLogger("pulse.spool")

MAX_BYTES = 1 << 30
_MAGIC = b"PULSE1\n"


class Spool:
    """A folder of batches waiting for PostgreSQL; at most `max_bytes` of them."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def append(self, batch: Batch) -> None:
        """Return once the batch is on the disk (one fsync of the file and one of the folder, 1 to 10 ms).

        Raises Unavailable when the spool or the disk is full, or can't be written.
        """
        body = msgspec.msgpack.encode(batch)
        name = f"{batch.id:020d}-{batch.writer}"
        temporary, final = self.folder / f"{name}.tmp", self.folder / f"{name}.batch"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.size_bytes() + len(body) > self.max_bytes:
                raise Unavailable("The database is away and the spool is full.", retry_after_s=30)
            with temporary.open("wb") as file:
                file.write(_MAGIC + zlib.crc32(body).to_bytes(4, "big") + body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(final)
            self._sync_folder()
        except OSError as error:
            for leftover in (temporary, final):
                with suppress(OSError):
                    leftover.unlink()
            log.error("the spool can't be written: %s", error)
            raise Unavailable("The database is away and the spool can't be written.", retry_after_s=30) from error

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
        for path in self.folder.glob("*.batch"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # replayed meanwhile
                continue
        return total

    def replay(self, store: Callable[[Batch], None]) -> int:
        """Store and remove the batches in order; return how many. Stops at the first error `store` raises.

        A damaged file is kept aside under `.bad` and reported; it costs no other. Returns 0 while another process
        replays.
        """
        if not self.pending():
            return 0
        replayed = 0
        with self._exclusively() as granted:
            for path in self.pending() if granted else []:
                batch = self._read(path)
                if batch is None:
                    path.rename(path.with_suffix(".bad"))
                    continue
                store(batch)
                path.unlink()
                replayed += 1
        return replayed

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
        data = path.read_bytes()
        body = data[len(_MAGIC) + 4 :]
        if data[: len(_MAGIC)] == _MAGIC and zlib.crc32(body).to_bytes(4, "big") == data[len(_MAGIC) :][:4]:
            try:
                return msgspec.msgpack.decode(body, type=Batch)
            except msgspec.MsgspecError:
                pass
        log.error("spool file %s is damaged; it is kept aside as .bad", path.name)
        return None


def _batch_id(path: Path) -> int:
    number = path.name.partition("-")[0]
    return int(number) if number.isdecimal() else 0  # no file of ours: older than all, until it is set aside
