"""Work that waits for the disk, done beside gevent's event loop instead of in it."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from gevent import get_hub, monkey

P = ParamSpec("P")
T = TypeVar("T")


def run(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns, or raise what it raises; in a process with gevent other greenlets go on meanwhile.

    It must touch no socket, lock or queue of greenlets.
    """
    if not monkey.is_module_patched("threading"):
        return work(*args, **kwargs)
    result: T = get_hub().threadpool.apply(work, args, kwargs)
    return result
