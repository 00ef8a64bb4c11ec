"""The room in the spool: how much of it is taken, and by whose events.

The name of a spool file tells the bytes of its projects (`…_<project>x<bytes>.batch`). So the shares are known after a
restart and of what other processes write, for a look at the folder.
"""

import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pulse.storage import beside

MAX_BYTES = 1 << 30
# A project may have this many times as much waiting as there is room left: alone it gets three quarters of the spool;
# floods of two get 3/7 each, and leave 1/7 to all others.
FAIR_SHARE = 3
# The projects with the most bytes in a file are named: whoever is not among them has at most a ninth of it.
_NAMED_PROJECTS = 8
# The folder is looked through this often at most, and for a twentieth of the time: 100,000 files take 0.4 s.
_LOOK_EVERY_S = 0.5


class Room:
    """What is taken of `max_bytes` in a folder, as far as is known of what other processes add and replay."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._held_bytes = 0
        self._held_of: Counter[int] = Counter()
        self._look_at = 0.0

    def held_bytes(self) -> int:
        """Return the bytes of what waits."""
        if time.monotonic() >= self._look_at:
            started_at = time.monotonic()
            self._held_bytes, self._held_of = beside.run(_measure, self.folder)
            now = time.monotonic()
            self._look_at = now + max(_LOOK_EVERY_S, (now - started_at) * 20)
        return self._held_bytes

    def has(self, size_bytes: int) -> bool:
        """Tell whether so much can be added."""
        return self.held_bytes() + size_bytes <= self.max_bytes

    def full_for(self, sizes: Mapping[int, int]) -> set[int]:
        """Return those projects whose share is full, of all that would add so many bytes each."""
        left = self.max_bytes - self.held_bytes()
        return {project for project, size in sizes.items() if self._held_of[project] + size > left * FAIR_SHARE}

    def take(self, size_bytes: int, sizes: Mapping[int, int]) -> None:
        """Count a file that was added, with its bytes by project."""
        self._held_bytes += size_bytes
        self._held_of.update(dict(largest(sizes)))


def largest(sizes: Mapping[int, int]) -> list[tuple[int, int]]:
    """Return the projects that are named in a file's name, with their bytes."""
    return Counter(sizes).most_common(_NAMED_PROJECTS)


def name_of(sizes: Mapping[int, int]) -> str:
    """Return the part of a file's name that tells its bytes by project."""
    return "".join(f"_{project_id}x{size}" for project_id, size in largest(sizes))


def _measure(folder: Path) -> tuple[int, Counter[int]]:
    total, of_projects = 0, Counter[int]()
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".batch"):
                with suppress(FileNotFoundError):  # replayed meanwhile
                    total += entry.stat().st_size
                    for share in entry.name.removesuffix(".batch").split("_")[1:]:
                        project_id, _, size = share.partition("x")
                        if project_id.isdecimal() and size.isdecimal():
                            of_projects[int(project_id)] += int(size)
    return total, of_projects
