"""The statements of one process: figures by statement, the recent runs, the slowest runs."""

import heapq
from collections import deque

from pulse.monitor.snapshot import QueryRun, RouteUse, StatementFigures
from pulse.monitor.statement import Statement, parse

MAX_STATEMENTS = 500
# Texts are learned by identity of the string; a caller that writes values into its SQL makes ever new ones.
MAX_TEXTS = 2_000
MAX_CHARS = 1_000_000
MAX_ROUTES = 200
# Of all statements together: one takes 150 bytes.
MAX_USES = 30_000
RECENT = 100
SLOWEST = 50
REPEATED_OVER = 10
OTHER = "(other)"
NO_ROUTE = "(background)"

Run = tuple[float, float, StatementFigures, str | None, int]


class QueryTable:
    """Not thread-safe: the recorder's lock is held by every caller."""

    def __init__(self) -> None:
        self._by_text: dict[str, StatementFigures] = {}
        self._figures: dict[tuple[str, str], StatementFigures] = {}
        self._recent: deque[Run] = deque(maxlen=RECENT)
        self._slowest: list[tuple[float, int, Run]] = []
        self._order = 0
        self._sent: set[str] = set()
        self._chars = 0
        self._uses = 0

    def find(self, raw: str) -> StatementFigures:
        """The figures of a statement, which is parsed when it comes for the first time."""
        try:
            return self._by_text[raw]
        except KeyError:
            return self._learn(raw, parse(raw))

    def find_named(self, name: str) -> StatementFigures:
        """The figures of something that is known by its name alone."""
        try:
            return self._by_text[name]
        except KeyError:
            return self._learn(name, Statement(name, name, "TRACKED", ()))

    def _learn(self, raw: str, known: Statement) -> StatementFigures:
        key = (known.name, known.text)
        figures = self._figures.get(key)
        if figures is None:
            if len(self._figures) >= MAX_STATEMENTS:
                known, key = Statement(OTHER, OTHER, "OTHER", ()), (OTHER, OTHER)
            figures = self._figures.setdefault(key, StatementFigures(known.name, known.text, known.type, known.tables))
        self._chars += len(raw)
        if len(self._by_text) >= MAX_TEXTS or self._chars > MAX_CHARS:
            self._by_text.clear()
            self._chars = len(raw)
        self._by_text[raw] = figures
        return figures

    def use_of(self, figures: StatementFigures, route: str | None) -> RouteUse:
        """The use of a statement by a route."""
        route = route or NO_ROUTE
        try:
            return figures.routes[route]
        except KeyError:
            self._uses += 1
            is_room = len(figures.routes) < MAX_ROUTES and self._uses <= MAX_USES
            return figures.routes.setdefault(route if is_room else OTHER, RouteUse())

    def keep_recent(self, run: Run) -> None:
        """Remember a run among the recent ones."""
        self._recent.append(run)

    def keep_slow(self, run: Run) -> None:
        """Remember a run if it is among the slowest ones."""
        self._order += 1  # runs of equal length are compared by it, never by what they hold
        entry = (run[0], self._order, run)
        if len(self._slowest) < SLOWEST:
            heapq.heappush(self._slowest, entry)
        else:
            heapq.heappushpop(self._slowest, entry)

    def keep_sent(self, figures: StatementFigures, sent: str | None) -> None:
        """Keep how a slow statement was sent, where its plan needs it: one text of each name, as all are published."""
        if sent is not None and figures.name not in self._sent:
            figures.sent = sent
            self._sent.add(figures.name)

    def statements(self) -> list[StatementFigures]:
        """Every statement's figures, alive: to be encoded or copied under the lock."""
        return [found for found in self._figures.values() if found.times.count or found.errors]

    def recent(self, places: dict[int, int]) -> list[QueryRun]:
        """The recent runs, newest first; `places` says where the figures of an id() are in the snapshot."""
        return [_describe(run, places) for run in reversed(self._recent)]

    def slowest(self, places: dict[int, int]) -> list[QueryRun]:
        """The slowest runs over the threshold, slowest first."""
        return [_describe(run, places) for _, _, run in sorted(self._slowest, reverse=True)]


def _describe(run: Run, places: dict[int, int]) -> QueryRun:
    duration_ms, at, figures, route, rows = run
    return QueryRun(duration_ms, at, places.get(id(figures), -1), route, rows)
