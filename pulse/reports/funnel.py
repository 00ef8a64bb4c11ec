"""Funnels: how many visitors take one step after another."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import OperationalError

from pulse.errors import Detail, Invalid, Unavailable
from pulse.reports.goals import MAX_WILDCARDS
from pulse.reports.overview import percentage
from pulse.reports.period import DateRange, EndDate, Period, StartDate
from pulse.storage.sql import load_queries

Q = load_queries("goals")

MIN_STEPS, MAX_STEPS = 2, 10
MAX_WINDOW_MINUTES = 90 * 24 * 60
# A funnel reads every event of its period: about 0.3 s a million on two cores.
TIMEOUT_MS = 9_000
_CANCELLED = "57014"


class FunnelStep(Struct, rename="camel", frozen=True):
    """A pageview of a path (`*` stands for any characters), or an event by its name or type."""

    type: Literal["page", "event"]
    value: Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00]+$")]


class FunnelRequest(Struct, rename="camel", frozen=True):
    """Steps in order, and the days to look at."""

    steps: Annotated[list[FunnelStep], Meta(min_length=MIN_STEPS, max_length=MAX_STEPS)]
    start_date: StartDate | None = None
    end_date: EndDate | None = None
    window_minutes: (
        Annotated[
            int,
            Meta(ge=1, le=MAX_WINDOW_MINUTES, description="Most time from the first step to the last; default: any"),
        ]
        | None
    ) = None


class FunnelStepResult(Struct, rename="camel", frozen=True):
    """Visitors who got as far as this step; percentages have two decimals."""

    step: int
    type: Literal["page", "event"]
    value: str
    visitors: int
    drop_off: int  # visitors of the step before who did not take this one
    drop_off_rate: float  # percent of the step before
    conversion_rate: float  # percent of the step before; of the first, 100
    total_conversion_rate: float  # percent of the first step


class FunnelReport(Struct, rename="camel", frozen=True):
    """A funnel's steps in order, and the percentage of the first step's visitors who took the last."""

    date_range: DateRange
    window_minutes: int | None
    steps: list[FunnelStepResult]
    conversion_rate: float


def funnel(
    connection: Connection, project_id: int, period: Period, request: FunnelRequest, timeout_ms: int = TIMEOUT_MS
) -> FunnelReport:
    """Count the visitors of each step: those who took the ones before it earlier, in order, within the window.

    Other events may lie between; one event is one step, even where it could be two. A visitor who begins several times
    counts as far as the best of these times led. Raises Invalid, or Unavailable when it takes longer than `timeout_ms`.
    """
    _check(request)
    connection.execute(Q.limit_funnel, {"timeout": f"{timeout_ms}ms"})
    try:
        reached = connection.execute(_statement(request), _binds(project_id, period, request)).one()
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) == _CANCELLED:
            raise Unavailable(
                f"The funnel was not done within {timeout_ms / 1000:g} s and was stopped; take a shorter period.",
                retry_after_s=10,
            ) from error
        raise
    steps = [_result(number, step, reached) for number, step in enumerate(request.steps, start=1)]
    return FunnelReport(period.date_range, request.window_minutes, steps, steps[-1].total_conversion_rate)


def _check(request: FunnelRequest) -> None:
    problems = [
        Detail(f"steps[{index}].value", f"must hold at most {MAX_WILDCARDS} wildcards (*)")
        for index, step in enumerate(request.steps)
        if step.type == "page" and step.value.count("*") > MAX_WILDCARDS
    ]
    problems += [
        Detail(f"steps[{index}].value", "can't be engagement, which only says how long a page was read")
        for index, step in enumerate(request.steps)
        if step.type == "event" and step.value == "engagement"
    ]
    if problems:
        raise Invalid("The funnel can't be counted.", details=problems)


def _statement(request: FunnelRequest) -> TextClause:
    """Put the statement together from its parts."""
    kinds = {"page": _part("funnel_page"), "event": _part("funnel_event")}
    conditions = [kinds[step.type].format(step=number) for number, step in enumerate(request.steps, start=1)]
    if request.window_minutes is None:
        return text(f"/* goals.funnel */ {_without_window(conditions)}")
    return text(f"/* goals.funnel */ {_with_window(conditions)}")


def _without_window(conditions: list[str]) -> str:
    """Each visitor's matching events become a word, in which regular expressions find the steps in order.

    About 60 % of the time of the windows below: one sort, which all cores take part in, and then one pass.
    """
    bits = " + ".join(f"CASE WHEN {condition} THEN {1 << bit} ELSE 0 END" for bit, condition in enumerate(conditions))
    matched = _matched(conditions, _part("funnel_letter").format(bits=bits))
    reached = ", ".join(_part("funnel_reached").format(step=number) for number in range(1, len(conditions) + 1))
    return f"WITH matched AS ({matched}), words AS ({_part('funnel_courses')}) SELECT {reached} FROM words"


def _with_window(conditions: list[str]) -> str:
    """One common table expression a step: when the visitor began, of the latest beginning that leads there."""
    numbers = range(1, len(conditions) + 1)
    columns = ", ".join(f"{condition} IS TRUE AS is_{n}" for n, condition in zip(numbers, conditions, strict=True))
    parts = [f"matched AS ({_matched(conditions, columns)})", f"step_1 AS ({_part('funnel_first')})"]
    parts += [f"step_{n} AS ({_part('funnel_next').format(step=n, before=n - 1)})" for n in numbers[1:]]
    flags = ", ".join(f"bool_or(begun_{n} IS NOT NULL) AS took_{n}" for n in numbers)
    counts = ", ".join(f"count(*) FILTER (WHERE took_{n}) AS visitors_{n}" for n in numbers)
    visitors = f"SELECT visitor, {flags} FROM step_{numbers[-1]} GROUP BY visitor"
    return f"WITH {', '.join(parts)} SELECT {counts} FROM ({visitors}) AS visitors"


def _matched(conditions: list[str], columns: str) -> str:
    return _part("funnel_start").format(columns=columns, any_flag=" OR ".join(conditions))


def _orders(steps: int) -> dict[str, str]:
    """Return a regular expression for each number of steps, over the letters of block `funnel_letter`."""
    classes = [
        "[" + "".join(chr(256 + bits) for bits in range(1, 1 << steps) if bits >> step & 1) + "]"
        for step in range(steps)
    ]
    return {f"order_{number}": ".*".join(classes[:number]) for number in range(1, steps + 1)}


def _part(name: str) -> str:
    """Return a block of sql/goals.sql without its label."""
    block: TextClause = getattr(Q, name)
    return block.text.partition("*/")[2].strip()


def _binds(project_id: int, period: Period, request: FunnelRequest) -> dict[str, Any]:
    values = {
        f"value_{number}": to_like(step.value) if step.type == "page" else step.value
        for number, step in enumerate(request.steps, start=1)
    }
    values |= (
        _orders(len(request.steps))
        if request.window_minutes is None
        else {"window": f"{request.window_minutes} minutes"}
    )
    return {"project_id": project_id, "starts_at": period.starts_at, "ends_at": period.ends_at, **values}


def to_like(pattern: str) -> str:
    """Return a pattern with `*` as one for LIKE, as the column path_like of table goals holds it."""
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%")


def _result(number: int, step: FunnelStep, reached: Any) -> FunnelStepResult:
    visitors = getattr(reached, f"visitors_{number}")
    before = getattr(reached, f"visitors_{max(number - 1, 1)}")
    return FunnelStepResult(
        step=number,
        type=step.type,
        value=step.value,
        visitors=visitors,
        drop_off=before - visitors,
        drop_off_rate=percentage(before - visitors, before),
        conversion_rate=percentage(visitors, before),
        total_conversion_rate=percentage(visitors, reached.visitors_1),
    )
