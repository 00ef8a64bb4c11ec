"""The figures of one process as plain data, and how two of them add up."""

from typing import Any

import msgspec

from pulse.monitor.histogram import Histogram


class Slice(msgspec.Struct, array_like=True):
    """What happened from `starts_at` (epoch seconds) on, for 10 seconds or a minute."""

    starts_at: int
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    histograms: dict[str, Histogram] = msgspec.field(default_factory=dict)

    def merge(self, other: "Slice") -> None:
        """Add what happened elsewhere, or later."""
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for name, histogram in other.histograms.items():
            mine = self.histograms.get(name)
            if mine is None:
                self.histograms[name] = histogram.copy()
            else:
                mine.merge(histogram)

    @property
    def is_empty(self) -> bool:
        """Nothing happened."""
        return not self.counts and not self.histograms


class RouteUse(msgspec.Struct, array_like=True):
    """One statement's use by one route; times in milliseconds."""

    calls: int = 0
    total_ms: float = 0.0
    slow: int = 0

    def merge(self, other: "RouteUse") -> None:
        """Add another process's use."""
        self.calls += other.calls
        self.total_ms += other.total_ms
        self.slow += other.slow


class StatementFigures(msgspec.Struct, array_like=True):
    """One statement since the last reset. `repeated`: requests that ran it more than REPEATED_OVER times.

    `sent`: the text with its binds, of a slow one whose block has gaps to fill; `plans.text_to_plan` says which.
    """

    name: str
    text: str
    type: str
    tables: tuple[str, ...]
    rows: int = 0
    errors: int = 0
    slow: int = 0
    repeated: int = 0
    times: Histogram = msgspec.field(default_factory=Histogram)
    routes: dict[str, RouteUse] = msgspec.field(default_factory=dict)
    sent: str | None = None

    def merge(self, other: "StatementFigures") -> None:
        """Add another process's figures of the same statement."""
        self.sent = self.sent or other.sent
        self.rows += other.rows
        self.errors += other.errors
        self.slow += other.slow
        self.repeated += other.repeated
        self.times.merge(other.times)
        for route, use in other.routes.items():
            self.routes.setdefault(route, RouteUse()).merge(use)


class QueryRun(msgspec.Struct, array_like=True):
    """One run of a statement: never its parameters. `at` is epoch seconds.

    Published runs point at their statement in the snapshot: a hundred copies of long texts would be 150 KB, twice a
    second. `name` and `text` are filled in by who reads.
    """

    duration_ms: float
    at: float
    statement: int
    route: str | None
    rows: int
    name: str = ""
    text: str = ""


class CacheSide(msgspec.Struct, array_like=True):
    """Which side a process's cache went over to (`redis` or `memory`), when (ISO 8601) and why."""

    state: str
    at: str
    reason: str


class Snapshot(msgspec.Struct):
    """Everything one process publishes; `slices` (10 s) and `minutes` are encoded Slices, oldest first."""

    pid: int
    started_at: float
    role: str
    generation: int
    since: float
    published_at: float
    statements: list[StatementFigures]
    counts: dict[str, int]
    histograms: dict[str, Histogram]
    recent: list[QueryRun]
    slowest: list[QueryRun]
    slices: list[msgspec.Raw]
    minutes: list[msgspec.Raw]
    gauges: dict[str, float] = msgspec.field(default_factory=dict)
    pools: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    memory: dict[str, int] = msgspec.field(default_factory=dict)
    folded: list[str] = msgspec.field(default_factory=list)
    cache_sides: list[CacheSide] = msgspec.field(default_factory=list)


encoder = msgspec.msgpack.Encoder()
snapshot_decoder = msgspec.msgpack.Decoder(Snapshot)
slice_decoder = msgspec.msgpack.Decoder(Slice)


def encode(value: Any) -> bytes:
    """Encode a snapshot or a slice as MessagePack."""
    return encoder.encode(value)


def encode_kept(value: Any) -> bytes:
    """The same to be kept: msgspec's own result holds on to the room it grew into, two to three times its size."""
    return bytes(memoryview(encoder.encode(value)))


def merge_slices(into: dict[int, Slice], encoded: list[msgspec.Raw], not_before: float) -> None:
    """Add encoded slices to those of the same start, leaving out older ones."""
    for raw in encoded:
        found = slice_decoder.decode(raw)
        if found.starts_at >= not_before:
            mine = into.setdefault(found.starts_at, Slice(found.starts_at))
            mine.merge(found)


def encode_slices(slices: dict[int, Slice]) -> list[msgspec.Raw]:
    """The reverse of merge_slices, oldest first."""
    return [msgspec.Raw(encoder.encode(slices[start])) for start in sorted(slices)]
