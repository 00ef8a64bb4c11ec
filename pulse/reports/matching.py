"""Filters tried on values: the same conditions as `conditions` writes in SQL."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from pulse.reports.filters import Filter


def matches(one: Filter, value: str | None) -> bool:
    """Tell whether a value (None where it is missing) passes a filter."""
    if one.operator in ("==", "!="):
        found = one.missing in one.values if value is None else value in one.values
        return found == (one.operator == "==")
    if value is None:
        return False
    return any(part in value if one.operator == "=@" else value.startswith(part) for part in one.values)


def passing(one: Filter, values: Iterable[str | None]) -> NDArray[np.bool_]:
    """Tell of each value whether it passes."""
    return np.fromiter((matches(one, value) for value in values), np.bool_)


# A value of each dimension of events, from the columns that hold it; the kind of an event is its type and name.
EVENT_VALUES: dict[str, tuple[str, Callable[..., str | None]]] = {
    "page": ("path", lambda path: path),
    "event": ("kind", lambda kind: None if kind[0] == "pageview" else kind[1] or kind[0]),
    "event_type": ("kind", lambda kind: kind[0]),
    "event_name": ("kind", lambda kind: kind[1]),
    "screen": ("screen", lambda screen: screen),
}
