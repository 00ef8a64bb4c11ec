"""How work that nobody waits for gives way to requests on the same processors."""

import ctypes
import os
import platform
import struct
from contextlib import suppress
from pathlib import Path

NICENESS = 10
# The kernel's scheduler (EEVDF, Linux 6.6 and newer) lets a thread that wakes up interrupt one with a longer slice at
# once, and one with the usual slice only at the next tick, 4 ms later. A long slice costs the work itself nothing, and
# its share of a busy machine is the same as before: niceness alone decides that.
SLICE_NS = 100_000_000

_SYSCALLS = {"x86_64": 314, "aarch64": 274}  # sched_setattr(2), which glibc has no function for before 2.41
_ATTRIBUTES = struct.Struct("IIQiIQQQ")  # struct sched_attr, first version
_SCHED_OTHER = 0

_AUTOGROUP = "/proc/{}/autogroup"


def lower_priority(thread_id: int) -> None:
    """Let a thread, or a process of one thread, give way; 0 is the calling thread, and those that it starts later.

    Does what the system and its rights allow, and no more: the work gets done all the same.
    """
    niceness = NICENESS
    with suppress(OSError):  # another user's process, or one that is gone
        niceness = max(os.getpriority(os.PRIO_PROCESS, thread_id), NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread_id, niceness)
    number = _SYSCALLS.get(platform.machine()) if platform.system() == "Linux" else None
    if number is not None:
        attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, _SCHED_OTHER, 0, niceness, 0, SLICE_NS, 0, 0)
        # An older kernel refuses or ignores it.
        ctypes.CDLL(None).syscall(number, thread_id, ctypes.c_char_p(attributes), 0)
    _set_session_niceness(thread_id or os.getpid(), NICENESS)


class Standing:
    """The processes of work that nobody waits for: they give way to requests as long as the work keeps up."""

    def __init__(self) -> None:
        self._processes: dict[int, None] = {}  # in the order they came

    def add(self, process_id: int) -> None:
        """Let another process give way, as far as system and rights allow."""
        self._processes[process_id] = None
        lower_priority(process_id)

    def remove(self, process_id: int) -> None:
        """Forget a process that ends."""
        self._processes.pop(process_id, None)

    def give_way(self, gives_way: bool) -> None:
        """Take the usual share of a busy machine, or leave it to requests again; to be called time and again.

        Linux lets an ordinary user change ten sessions a second: what it refuses is done the next time.
        """
        for process_id in list(self._processes):
            _set_session_niceness(process_id, NICENESS if gives_way else 0)


def _set_session_niceness(process_id: int, niceness: int) -> None:
    """Set what a process counts against other sessions, if it has one to itself, as ours and PostgreSQL's have.

    Where Linux groups processes by session (sched(7), autogroup), a thread's niceness counts within its session alone.
    """
    path = Path(_AUTOGROUP.format(process_id))
    with suppress(OSError):  # no such kernel, not allowed, not now, or no such process any more
        if os.getsid(process_id) == process_id and int(path.read_text().split()[-1]) != niceness:
            path.write_text(str(niceness))
