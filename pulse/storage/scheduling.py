"""How work that nobody waits for gives way to requests on the same processors."""

import ctypes
import os
import platform
import struct
from contextlib import suppress

NICENESS = 10
# The kernel's scheduler (EEVDF, Linux 6.6 and newer) lets a thread that wakes up interrupt one with a longer slice at
# once, and one with the usual slice only at the next tick, 4 ms later. A long slice costs the work itself nothing, and
# its share of a busy machine is the same as before: niceness alone decides that.
SLICE_NS = 100_000_000

_SYSCALLS = {"x86_64": 314, "aarch64": 274}  # sched_setattr(2), which glibc has no function for before 2.41
_ATTRIBUTES = struct.Struct("IIQiIQQQ")  # struct sched_attr, first version
_SCHED_OTHER = 0


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
