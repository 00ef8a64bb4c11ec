"""Where the service stands: alerts by four rules with hysteresis, and since when each target is met or missed.

One state for the whole service, kept in its folder of statistics over restarts.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from uuid import uuid4

import msgspec

from pulse.errors import NotFound
from pulse.monitor import files, peers, targets
from pulse.monitor.availability import Availability
from pulse.monitor.service import FIVE_MINUTES_S, ServiceStats, Window

log = logging.getLogger("pulse.alerts")

FILE_NAME = "alerts.json"
LEADS_FILE = "leads"
# An alert ends when its figure was good for this long; a figure that swings around the limit rings once.
CLEAR_AFTER_S = 60.0
HISTORY = 100


@dataclass(frozen=True, slots=True)
class Rule:
    """`limit` raises the alert, `clear` (a little on the good side of it) ends it; in percent."""

    name: str
    title: str
    measure: Callable[[Window], targets.Measured]
    limit: float
    clear: float
    min_samples: int
    window_s: int = 60

    @property
    def falls(self) -> bool:
        """Whether less is worse."""
        return self.clear > self.limit

    def is_broken(self, value: float) -> bool:
        """Whether the figure raises the alert."""
        return value < self.limit if self.falls else value > self.limit

    def is_good(self, value: float) -> bool:
        """Whether the figure may end it."""
        return value >= self.clear if self.falls else value <= self.clear

    @property
    def condition(self) -> str:
        """The rule as people write it."""
        return f"{'<' if self.falls else '>'} {self.limit:g} %"


RULES = (
    Rule("slowQueries", "slow queries", targets.slow_percent, 5.0, 4.0, targets.FEW),
    # A cache that has just begun misses everything once: a minute of it says nothing.
    Rule("cacheHits", "cache hits", targets.cache_hit_percent, 70.0, 75.0, targets.LOOK_UPS, window_s=FIVE_MINUTES_S),
    Rule("pool", "connections in use", targets.pool_peak_percent, 90.0, 80.0, targets.POOL_LOOKS),
    Rule("errors", "failed requests", targets.all_errors_percent, 1.0, 0.8, targets.FEW),
)


class RuleState(msgspec.Struct, rename="camel"):
    """Where one rule stands; times are epoch seconds."""

    firing: str | None = None
    value: float | None = None
    good_since: float | None = None


class Delivery(msgspec.Struct, rename="camel"):
    """One message to one receiver, until it was taken; one that is given up stays, so that it is seen."""

    channel: str
    kind: str
    attempts: int = 0
    next_at: float = 0.0
    error: str | None = None
    given_up: bool = False


class Alert(msgspec.Struct, rename="camel"):
    """One alert from its beginning to its end; `worst` is the worst figure in between."""

    id: str
    rule: str
    title: str
    condition: str
    started_at: float
    value: float
    worst: float
    ended_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None
    deliveries: list[Delivery] = msgspec.field(default_factory=list)

    @property
    def message(self) -> str:
        """The alert in one line."""
        return f"{self.title}: {self.value:.2f}% ({self.condition})"


class TargetState(msgspec.Struct, rename="camel"):
    """What a target's status over five minutes is, and since when, in epoch seconds."""

    status: str
    since: float


class State(msgspec.Struct, rename="camel"):
    """All rules, the alerts newest first, the targets by id, and the availability when it was last counted."""

    rules: dict[str, RuleState] = msgspec.field(default_factory=dict)
    alerts: list[Alert] = msgspec.field(default_factory=list)
    evaluated_at: float = 0.0
    targets: dict[str, TargetState] = msgspec.field(default_factory=dict)
    availability: Availability | None = None

    def active(self) -> list[Alert]:
        """The alerts that have not ended."""
        return [alert for alert in self.alerts if alert.ended_at is None]

    def find(self, alert_id: str) -> Alert:
        """An alert by its id. Raises NotFound."""
        for alert in self.alerts:
            if alert.id == alert_id:
                return alert
        raise NotFound("No alert with this id is remembered.")


def evaluate(state: State, stats: ServiceStats, channels: tuple[str, ...] = ()) -> None:
    """Bring the state up to date with the figures of the last minutes."""
    now = stats.at
    for rule in RULES:
        value, samples = rule.measure(stats.window(rule.window_s))
        seen = state.rules.setdefault(rule.name, RuleState())
        seen.value = value if samples >= rule.min_samples else None
        alert = next((a for a in state.alerts if a.id == seen.firing), None)
        if alert is None:
            seen.firing = None
            if seen.value is not None and rule.is_broken(seen.value):
                _begin(state, seen, rule, now, channels)
        else:
            _follow(seen, alert, rule, now, channels)
    for found in targets.evaluate(stats):
        before = state.targets.get(found.id)
        if before is None or before.status != found.status:
            state.targets[found.id] = TargetState(found.status, now)
    state.evaluated_at = now


def _begin(state: State, seen: RuleState, rule: Rule, now: float, channels: tuple[str, ...]) -> None:
    assert seen.value is not None
    alert = Alert(uuid4().hex, rule.name, rule.title, rule.condition, now, seen.value, seen.value)
    alert.deliveries = [Delivery(channel, "started") for channel in channels]
    seen.firing, seen.good_since = alert.id, None
    state.alerts.insert(0, alert)
    del state.alerts[HISTORY:]
    log.warning("Alert: %s", alert.message)


def _follow(seen: RuleState, alert: Alert, rule: Rule, now: float, channels: tuple[str, ...]) -> None:
    if seen.value is not None:
        alert.value = seen.value
        alert.worst = min(alert.worst, seen.value) if rule.falls else max(alert.worst, seen.value)
        if not rule.is_good(seen.value):
            seen.good_since = None
            return
    if seen.good_since is None:
        seen.good_since = now
    if now - seen.good_since >= CLEAR_AFTER_S:
        alert.ended_at, seen.firing, seen.good_since = now, None, None
        alert.deliveries += [Delivery(channel, "ended") for channel in channels]
        log.warning("Alert over: %s", alert.message)


def load(folder: Path) -> State:
    """Read the state; a missing or damaged file is an empty one."""
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError):
        return State()


def change(folder: Path, edit: Callable[[State], None]) -> State:
    """Edit the state, one process at a time, and keep it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.locked(folder, "alerts.lock"):
        state = load(folder)
        edit(state)
        draft = folder / f"{FILE_NAME}.draft"
        draft.write_bytes(msgspec.json.encode(state))
        draft.replace(folder / FILE_NAME)
    return state


def check(folder: Path, stats: ServiceStats, channels: tuple[str, ...] = ()) -> State:
    """Evaluate the rules; any process may do it, and all see the same alerts.

    Where another node leads it alone does it: what it found comes by `exchange`.
    """
    if not leads(folder) and any(peer.leads for peer in peers.list_peers(folder)):
        return load(folder)

    def edit(state: State) -> None:
        if stats.at > state.evaluated_at or state.evaluated_at > time() + 5:
            evaluate(state, stats, channels)

    return change(folder, edit)


def acknowledge(folder: Path, alert_id: str, name: str) -> Alert:
    """Note who has seen an alert. Raises NotFound."""

    def edit(state: State) -> None:
        alert = state.find(alert_id)
        if alert.acknowledged_at is None:
            alert.acknowledged_at, alert.acknowledged_by = time(), name

    return change(folder, edit).find(alert_id)


def note_availability(folder: Path, found: Availability) -> None:
    """Keep the availability that was counted last."""

    def edit(state: State) -> None:
        state.availability = found

    change(folder, edit)


def note_leading(folder: Path) -> None:
    """Note that this node's background worker leads, for the seconds to come."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / LEADS_FILE).touch()


def leads(folder: Path) -> bool:
    """Whether this node's background worker leads."""
    try:
        return time() - (folder / LEADS_FILE).stat().st_mtime < peers.SILENT_S
    except OSError:
        return False


def encode_state(folder: Path) -> bytes:
    """The state for other nodes."""
    return msgspec.json.encode(load(folder))


def exchange(folder: Path, leading: bool, others: list[tuple[bool, bytes]]) -> None:
    """Take over the leader's state, and everybody's acknowledgements; `others`: whether each leads, and its state."""
    known: list[tuple[bool, State]] = []
    for other_leads, data in others:
        with suppress(msgspec.MsgspecError):
            known.append((other_leads, msgspec.json.decode(data, type=State)))
    leader = next((state for other_leads, state in known if other_leads), None)
    if not known or (leader is None and not leading):
        return

    def edit(state: State) -> None:
        acknowledged = _acknowledgements([state, *(other for _, other in known)])
        if leader is not None and not leading:
            for name in ("rules", "alerts", "evaluated_at", "targets", "availability"):
                setattr(state, name, getattr(leader, name))
        for alert in state.alerts:
            if alert.acknowledged_at is None and alert.id in acknowledged:
                alert.acknowledged_at, alert.acknowledged_by = acknowledged[alert.id]

    change(folder, edit)


def _acknowledgements(states: list[State]) -> dict[str, tuple[float, str | None]]:
    found: dict[str, tuple[float, str | None]] = {}
    for state in states:
        for alert in state.alerts:
            if alert.acknowledged_at is not None and alert.acknowledged_at < found.get(alert.id, (float("inf"),))[0]:
                found[alert.id] = alert.acknowledged_at, alert.acknowledged_by
    return found
