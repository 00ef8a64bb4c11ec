"""Exports over HTTP: streamed from a cursor in the server, in constant memory."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, islice

from flask import Blueprint, Response
from msgspec import Struct
from sqlalchemy import Connection

from pulse.errors import Unavailable
from pulse.reports import export
from pulse.reports.campaigns import CampaignRow
from pulse.reports.events import Event
from pulse.reports.export import AnalyticsExportQuery, CampaignsExportQuery, Chunks, DayRow, EventsExportQuery
from pulse.reports.period import Period
from pulse.storage.engine import ReplicaFailed
from pulse.web.campaigns import resolve_period
from pulse.web.http import Api
from pulse.web.service import service

log = logging.getLogger("pulse.web")
blueprint = Blueprint("exports", __name__)
api = Api(blueprint, "Exports")

# Each holds a database connection for as long as its client reads.
MAX_EXPORTS = 4
_slots = threading.BoundedSemaphore(MAX_EXPORTS)

_TYPES = {"csv": "text/csv; charset=utf-8; header=present", "json": "application/json"}


class Download:
    """The body of an export under way, which holds a connection and one of the slots until it is closed."""

    def __init__(self, name: str, read: Callable[[Connection], Iterator[bytes]]) -> None:
        """Take a slot and read up to the first rows. Raises Unavailable, and what reading raises."""
        self._name = name
        if not _slots.acquire(blocking=False):
            raise Unavailable(f"{MAX_EXPORTS} exports are under way here; try again later.", retry_after_s=30)
        with ExitStack() as held:
            held.callback(_slots.release)
            try:
                self._begin(read, primary=False)
            except ReplicaFailed:
                self._begin(read, primary=True)
            held.pop_all()

    def _begin(self, read: Callable[[Connection], Iterator[bytes]], *, primary: bool) -> None:
        with ExitStack() as held:
            data = read(held.enter_context(service().database.read(primary=primary)))
            # A failure is an answer of its own as long as nothing is sent: the first rows are in the second piece.
            self._data = chain([*islice(data, 2)], data)
            self._held = held.pop_all()
        self._held.callback(_slots.release)

    def __iter__(self) -> Iterator[bytes]:
        """Give out the bytes.

        What fails now can't be answered any more. The server must see it: it then cuts the connection, where a plain
        end would make half an export look whole.
        """
        try:
            yield from self._data
        except Exception as error:
            log.warning("the export %s broke off: %s", self._name, error)
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Give back connection and slot: after the last row, and when the server closes an answer nobody reads on."""
        self._held.close()


def _answer(
    what: str, project_id: int, period: Period, form: str, kind: type[Struct], read: Callable[[Connection], Chunks]
) -> Response:
    name = f"{what}-{project_id}-{period.start}-{period.end}.{form}"

    def encode(connection: Connection) -> Iterator[bytes]:
        return export.encode_csv(kind, read(connection)) if form == "csv" else export.encode_json(read(connection))

    return send(Download(name, encode), name, _TYPES[form])


def send(body: Download, name: str, content_type: str = _TYPES["json"]) -> Response:
    """Answer with a download, which is closed with the answer."""
    response = Response(iter(body), content_type=content_type)
    response.call_on_close(body.close)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@api(
    "GET", "/projects/<int:project_id>/analytics/export", "Download the headline figures, a row a day, as CSV or JSON",
    scope="read", query=AnalyticsExportQuery, answer=list[DayRow],
)  # fmt: skip
def export_analytics(project_id: int, query: AnalyticsExportQuery) -> Response:
    """Answer the days of a period."""
    chosen = resolve_period(project_id, query.start_date, query.end_date)
    return _answer(
        "analytics", project_id, chosen, query.format, DayRow,
        lambda connection: export.read_days(connection, project_id, chosen),
    )  # fmt: skip


@api(
    "GET", "/projects/<int:project_id>/events/export", "Download events, oldest first, as CSV or JSON",
    scope="read", query=EventsExportQuery, answer=list[Event],
)  # fmt: skip
def export_events(project_id: int, query: EventsExportQuery) -> Response:
    """Answer the events of a period that pass the filters."""
    chosen = resolve_period(project_id, query.start_date, query.end_date)
    return _answer(
        "events", project_id, chosen, query.format, Event,
        lambda connection: export.read_events(connection, project_id, chosen, query),
    )  # fmt: skip


@api(
    "GET", "/projects/<int:project_id>/campaigns/export", "Download all campaigns by source and medium, as CSV or JSON",
    scope="read", query=CampaignsExportQuery, answer=list[CampaignRow],
)  # fmt: skip
def export_campaigns(project_id: int, query: CampaignsExportQuery) -> Response:
    """Answer the campaigns of a period."""
    chosen = resolve_period(project_id, query.start_date, query.end_date)
    return _answer(
        "campaigns", project_id, chosen, query.format, CampaignRow,
        lambda connection: export.read_campaigns(connection, project_id, chosen),
    )  # fmt: skip
