"""Filters as SQL: conditions on the columns of sessions and events, with the values as parameters."""

from collections.abc import Iterable
from typing import Any

from pulse.errors import Detail, Invalid
from pulse.reports.filters import EVENT_DIMENSIONS, VISIT_DIMENSIONS, Filter, Filters

# Expressions over table events. An event has the attributes of its own that a visit takes from its first.
_EVENT_COLUMNS = {
    "page": "path",
    "event": "CASE WHEN event_type <> 'pageview' THEN coalesce(nullif(event_name, ''), event_type) END",
    "event_type": "event_type",
    "event_name": "event_name",
    "screen": "screen_width || 'x' || screen_height",
}
VISIT_COLUMNS = {name: name for name in VISIT_DIMENSIONS} | {"entry_page": "entry_path", "exit_page": "exit_path"}
_OF_VISITS_ALONE = ("entry_page", "exit_page")


def visit_conditions(filters: Filters) -> tuple[str, dict[str, Any]]:
    """Return what the filters ask of a row of sessions, as SQL and its parameters."""
    chosen = [one for one in filters if one.dimension in VISIT_DIMENSIONS]
    return _join(((one, VISIT_COLUMNS[one.dimension]) for one in chosen), "visit")


def event_conditions(filters: Filters) -> tuple[str, dict[str, Any]]:
    """Return what the filters ask of a row of events of a visit that passes the others."""
    chosen = [one for one in filters if one.dimension in EVENT_DIMENSIONS]
    return _join(((one, _EVENT_COLUMNS[one.dimension]) for one in chosen), "event")


def single_event_conditions(filters: Filters) -> tuple[str, dict[str, Any]]:
    """Return all that the filters ask of an event by itself, whatever visit it belongs to.

    Raises Invalid naming `filters` for what only a visit has.
    """
    for one in filters:
        if one.dimension in _OF_VISITS_ALONE:
            problem = f"{one.dimension} is of visits: single events can't be filtered by it; take page"
            raise Invalid(f"The filters can't be used: {problem}.", details=[Detail("filters", problem)])
    return _join(((one, _EVENT_COLUMNS.get(one.dimension, one.dimension)) for one in filters), "own")


def _join(chosen: Iterable[tuple[Filter, str]], prefix: str) -> tuple[str, dict[str, Any]]:
    conditions, binds = [], {}
    for number, (one, column) in enumerate(chosen):
        condition, values = _condition(one, f"({column})", f"{prefix}_{number}")
        conditions.append(condition)
        binds.update(values)
    return " AND ".join(conditions) or "true", binds


def _condition(one: Filter, column: str, name: str) -> tuple[str, dict[str, Any]]:
    if one.operator in ("==", "!="):
        found, binds = f"{column} = ANY (CAST(:{name} AS text[]))", {name: list(one.values)}
        if one.operator == "==" and one.missing not in one.values:
            return found, binds  # plain, so that the planner knows how many rows to expect
        is_any = f"coalesce({found}, {'true' if one.missing in one.values else 'false'})"
        return (is_any if one.operator == "==" else f"NOT {is_any}"), binds
    test = "strpos({}, :{}) > 0" if one.operator == "=@" else "starts_with({}, :{})"
    each = {f"{name}_{index}": value for index, value in enumerate(one.values)}
    return f"({' OR '.join(test.format(column, bind) for bind in each)})", dict(each)
