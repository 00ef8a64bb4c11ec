"""Histograms with logarithmic buckets: small, mergeable, and exact about counts."""

from math import ceil, log2

import msgspec

# Each bucket ends 2^(1/8) = 1.09 times later than the one before: a quantile is off by 4.5 % at the most.
BUCKETS_PER_DOUBLING = 8
_LEAST = 2.0**-10  # about a microsecond when the values are milliseconds; less counts as this
_LOWEST = ceil(log2(_LEAST) * BUCKETS_PER_DOUBLING)
_MOST = 2.0**50


def bucket_of(value: float) -> int:
    """Number of the bucket that holds `value`: bucket i holds what is over 2^((i-1)/8) and up to 2^(i/8)."""
    if value > _LEAST:
        return ceil(log2(value) * BUCKETS_PER_DOUBLING) if value < _MOST else 50 * BUCKETS_PER_DOUBLING
    return _LOWEST


def upper_edge(bucket: int) -> float:
    """The greatest value that a bucket holds."""
    return float(2.0 ** (bucket / BUCKETS_PER_DOUBLING))


class Histogram(msgspec.Struct, array_like=True):
    """How often which sizes came; values in whatever unit the name of the histogram says, mostly milliseconds."""

    count: int = 0
    total: float = 0.0
    max: float = 0.0
    buckets: dict[int, int] = msgspec.field(default_factory=dict)

    def add(self, value: float) -> None:
        """Count one value (0.4 µs)."""
        self.add_known(value, bucket_of(value))

    def add_known(self, value: float, bucket: int) -> None:
        """Count one value whose bucket is known already."""
        self.count += 1
        self.total += value
        if value > self.max:
            self.max = value
        try:
            self.buckets[bucket] += 1
        except KeyError:
            self.buckets[bucket] = 1

    def merge(self, other: "Histogram") -> None:
        """Add another histogram's values to this one."""
        self.count += other.count
        self.total += other.total
        self.max = max(self.max, other.max)
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def copy(self) -> "Histogram":
        """An independent copy."""
        return Histogram(self.count, self.total, self.max, dict(self.buckets))

    @property
    def mean(self) -> float:
        """The average, exact; 0 without values."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, part: float) -> float:
        """The value that `part` (0 to 1) of all values don't exceed, within 4.5 %; 0 without values."""
        rank, seen = part * self.count, 0
        for bucket in sorted(self.buckets):
            here = self.buckets[bucket]
            if seen + here >= rank:
                low = upper_edge(bucket - 1)
                inside = (rank - seen) / here if here else 0.0
                return min(low + (upper_edge(bucket) - low) * inside, self.max)
            seen += here
        return self.max

    def count_up_to(self, value: float) -> int:
        """How many values were at most `value`; exact at powers of two and the other bucket edges."""
        last = bucket_of(value)
        return sum(count for bucket, count in self.buckets.items() if bucket <= last)
