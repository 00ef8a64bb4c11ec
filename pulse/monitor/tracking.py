"""Times work that SQLAlchemy does not see as a query, under a name of its own."""

from contextlib import ContextDecorator
from time import perf_counter
from types import TracebackType

from pulse.monitor.recorder import recorder


class track_query(ContextDecorator):  # noqa: N801  reads as a function in `with` and as a decorator
    """Count what runs inside as one query called `name`: `with track_query("report"):`, or as a decorator.

    An exception counts as an error and goes on. Give rows with `tracked.rows = n`. Does nothing when
    ENABLE_QUERY_MONITORING is false.
    """

    def __init__(self, name: str) -> None:
        if not name or len(name) > 200:
            raise ValueError("a tracked query's name has 1 to 200 characters")
        self._name = name
        self.rows = 0
        self._started_at = 0.0

    def _recreate_cm(self) -> "track_query":
        # A decorated function may run in many greenlets at once, each with a start of its own.
        return track_query(self._name)

    def __enter__(self) -> "track_query":
        self._started_at = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if recorder.enabled:
            duration_ms = (perf_counter() - self._started_at) * 1000
            recorder.record_query(self._name, duration_ms, self.rows, failed=kind is not None, named=True)
