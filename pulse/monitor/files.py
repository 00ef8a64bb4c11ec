"""The folder in which the processes of a service show each other their figures."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time, time_ns

import msgspec

from pulse.monitor import peers
from pulse.monitor.board import FILE_NAME, Board, number
from pulse.monitor.service import ServiceStats, add_up, freeze
from pulse.monitor.snapshot import Snapshot, encode, snapshot_decoder

DEPARTED = "departed.stats"
STARTED = "started"
# What outlives a restart of the service: where it stands, and which node it is.
_LASTING = frozenset({FILE_NAME, "alerts.json", peers.ID_FILE})
MAX_FILE_BYTES = 16 * 2**20
_FOLDED_KEPT = 200


def folder_of(data_dir: Path) -> Path:
    """Where the figures of the service with this data folder are."""
    return data_dir / "stats"


class OwnFile:
    """This process's file: `<pid>-<start>.stats`, with a locked `.alive` beside it that the kernel frees at its end.

    A lock, unlike a process number, is never taken over by another process and holds across containers.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.name = f"{os.getpid()}-{time_ns() // 1000}"
        self._folder = folder
        self._path = folder / f"{self.name}.stats"
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        self._alive: int | None = os.open(folder / f"{self.name}.alive", flags, 0o600)
        fcntl.flock(self._alive, fcntl.LOCK_EX)

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file at once, so that no reader finds half of it."""
        self.write_encoded(encode(snapshot))

    def write_encoded(self, snapshot: bytes) -> None:
        """The same with a Snapshot that is encoded already."""
        _replace(self._path, snapshot)

    def close(self) -> None:
        """Leave the figures to be folded into those of ended processes; a forked child lets go of its parent's."""
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(data)
    draft.replace(path)


@contextmanager
def locked(folder: Path, name: str = "fold.lock") -> Iterator[None]:
    """One process at a time; waits for the others (a few milliseconds)."""
    descriptor = os.open(folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_service(
    folder: Path, generation: int, own: Snapshot | None = None, own_name: str = "", *, alone: bool = False
) -> ServiceStats:
    """Add up all processes: `own` as it is now, the others as they last published; folds those that have ended.

    What other nodes said last is in it, unless `alone`.
    """
    with locked(folder):
        departed = _fold_ended(folder, generation)
        living = [_read(path) for path in _paths(folder) if path.stem != own_name]
    found = [s for s in [departed, *living] if s is not None and s.generation == generation]
    if own is not None and own.generation == generation:
        found.append(own)
    others = [] if alone else [other for other in peers.read(folder) if other.figures.generation == generation]
    stats = add_up(found, time(), peers.node_name(folder), others)
    stats.generation = generation
    with suppress(OSError):
        stats.service_started_at = (folder / STARTED).stat().st_mtime
    return stats


def fold_ended(folder: Path, generation: int) -> None:
    """Add the figures of ended processes to `departed.stats` and remove their files."""
    # Every process asks every few seconds; those figures, decoded, are megabytes.
    if not any(_has_ended(path) for path in _paths(folder)):
        return
    with locked(folder):
        _fold_ended(folder, generation)


def clear(folder: Path) -> None:
    """Forget every figure, for a new start of the service; a process left over from the last one begins again."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder):
        Board(folder).bump()
        for path in folder.iterdir():
            living = path.suffix in {".alive", ".stats", ".draft"} and path.stem != "departed" and not _has_ended(path)
            if path.name not in _LASTING and path.suffix != ".lock" and not living:
                path.unlink(missing_ok=True)
        (folder / STARTED).touch()


def current_generation(folder: Path) -> int:
    """The generation on the folder's board."""
    return number(Board(folder).read())


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.stats") if path.name != DEPARTED)


def _has_ended(path: Path) -> bool:
    try:
        descriptor = os.open(path.with_suffix(".alive"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who looks at the same time looks through it
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _read(path: Path) -> Snapshot | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        return snapshot_decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


def _fold_ended(folder: Path, generation: int) -> Snapshot | None:
    departed = _read(folder / DEPARTED)
    if departed is not None and departed.generation != generation:
        departed = None
    ended = [path for path in _paths(folder) if _has_ended(path)]
    if not ended:
        return departed
    folded = list(departed.folded) if departed else []
    snapshots = [departed] if departed else []
    for path in ended:
        snapshot = _read(path)
        # In the list already: whoever folded it was killed before it could remove the file.
        if snapshot is not None and snapshot.generation == generation and path.stem not in folded:
            snapshot.pid = 0
            snapshots.append(snapshot)
        if path.stem not in folded:
            folded.append(path.stem)
    if snapshots:
        departed = freeze(add_up(snapshots, time()), folded[-_FOLDED_KEPT:])
        _replace(folder / DEPARTED, encode(departed))
    for path in ended:
        for name in (path, path.with_suffix(".alive"), path.with_suffix(".draft")):
            name.unlink(missing_ok=True)
    return departed
