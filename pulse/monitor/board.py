"""The number on the board: a small file that every process maps, which tells them all at once to begin again."""

import fcntl
import mmap
import os
import struct
from pathlib import Path

FILE_NAME = "generation"
_SIZE = 8


class Board:
    """The generation of the service's figures. Without a folder it is this process's own."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path: Path | None = None
        if folder is None:
            self.page: mmap.mmap = mmap.mmap(-1, _SIZE)
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / FILE_NAME
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_size < _SIZE:
                os.ftruncate(descriptor, _SIZE)
            self.page = mmap.mmap(descriptor, _SIZE)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # mmap keeps a duplicate, and with it the lock
            os.close(descriptor)

    def read(self) -> bytes:
        """The generation as it stands, to be compared (0.1 µs)."""
        return self.page[:_SIZE]

    def bump(self) -> None:
        """Tell every process to begin again."""
        if self._path is None:
            self._write()
            return
        with self._path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._write()

    def follow(self, generation: int, *, joining: bool = False) -> None:
        """Take over the generation of other nodes: a higher one, or any when this node has just joined them."""
        current = number(self.read())
        if self._path is not None and (generation > current or (joining and generation != current)):
            with self._path.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self.page[:_SIZE] = struct.pack("<Q", generation)

    def _write(self) -> None:
        self.page[:_SIZE] = struct.pack("<Q", number(self.read()) + 1)


def number(generation: bytes) -> int:
    """The generation as a number."""
    return int(struct.unpack("<Q", generation)[0])
