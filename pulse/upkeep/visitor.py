"""`pulse visitor`: all that is stored of one visitor, shown or deleted."""

import sys
import time
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import click
from sqlalchemy import Connection

from pulse.config import load_config
from pulse.ingest import batch
from pulse.ingest.spool import Spool
from pulse.ingest.visitor import Identity
from pulse.reports.visitor_data import export_visitor
from pulse.rollup import erasure
from pulse.rollup.erasure import Erasure
from pulse.storage import schema
from pulse.storage.projects import VISITOR_IDS, get_project, get_secret
from pulse.upkeep.session import connected

ASK_EVERY_S = 0.5


@click.group()
def visitor() -> None:
    """One visitor's data, by the visitor_id that the site sends: export, delete."""


@visitor.command()
@click.argument("project_id", type=int)
@click.argument("visitor_id")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file; by default standard output.")
def export(project_id: int, visitor_id: str, output: Path | None) -> None:
    """Write all events and sessions of a visitor as JSON."""
    with connected() as connection:
        get_project(connection, project_id)
        found = export_visitor(connection, project_id, _hash(connection, project_id, visitor_id))
        with output.open("wb") if output else nullcontext(sys.stdout.buffer) as file:
            for piece in chain(found, [b"\n"]):
                file.write(piece)


@visitor.command()
@click.argument("project_id", type=int)
@click.argument("visitor_id")
@click.option("--wait", is_flag=True, help="Return when it is done.")
@click.confirmation_option(prompt="Delete all events and sessions of this visitor?")
def delete(project_id: int, visitor_id: str, wait: bool) -> None:
    """Have a visitor's events and sessions deleted by the background worker, and their days counted anew."""
    config = load_config()
    before_batch = max(batch.newest_id(), Spool(config.data_dir / "spool").newest())
    with connected(config) as connection:
        get_project(connection, project_id)
        hashed = _hash(connection, project_id, visitor_id)
        asked = erasure.request_erasure(connection, project_id, hashed, before_batch)
        plan = erasure.explain(asked, schema.first_kept_on(connection))
    click.echo("\n".join(plan))
    while wait and asked.finished_at is None:
        time.sleep(ASK_EVERY_S)
        with connected(config) as connection:
            asked = erasure.get_erasure(connection, project_id, asked.id)
    _show(asked)


@visitor.command()
@click.argument("project_id", type=int)
@click.argument("erasure_id", type=int)
def status(project_id: int, erasure_id: int) -> None:
    """Say how far a deletion is."""
    with connected() as connection:
        _show(erasure.get_erasure(connection, project_id, erasure_id))


def _hash(connection: Connection, project_id: int, visitor_id: str) -> int:
    return Identity({}, get_secret(connection, VISITOR_IDS)).named_visitor(project_id, visitor_id)


def _show(asked: Erasure) -> None:
    click.echo(f"Erasure {asked.id} is {asked.status}: {asked.events} events and {asked.sessions} sessions deleted.")
    if asked.failure:
        click.echo(f"Not counted anew: {asked.failure}")
    if asked.finished_at is None:
        click.echo(f"Ask again with: pulse visitor status {asked.project_id} {asked.id}")
