"""`pulse doctor`: what is wrong with this installation, each with what to do."""

import sys
from collections.abc import Iterator

import click
import msgspec
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from pulse.config import Config, load_config
from pulse.errors import ConfigError
from pulse.storage import embedded
from pulse.storage.engine import build_engine
from pulse.storage.schema import schema_version
from pulse.upkeep import check_database, check_machine
from pulse.upkeep.finding import Finding, wrong

_SIGNS = {"ok": "[green]✓[/]", "advice": "[yellow]![/]", "wrong": "[red]✗[/]"}
TIMEOUT_MS = 10_000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines: healthy, and findings.")
@click.option("--network", is_flag=True, help="Also see whether the receivers of alerts can be reached.")
def doctor(as_json: bool, network: bool) -> None:
    """Say what is wrong with this installation and what to do; exit with 1 if anything is."""
    try:
        findings = list(examine(load_config(), network=network))
    except ConfigError as error:
        lines = str(error).splitlines()
        findings = [_bad_setting(line) for line in lines[1:] or lines]
    healthy = all(found.level != "wrong" for found in findings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"healthy": healthy, "findings": findings})).decode())
    else:
        _show(findings, healthy)
    sys.exit(0 if healthy else 1)


def _bad_setting(line: str) -> Finding:
    return wrong("settings", line.removeprefix("  - "), "See docs/CONFIGURATION.md.")


def _show(findings: list[Finding], healthy: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for found in findings:
        console.print(f"{_SIGNS[found.level]} {found.area}: ", end="")
        console.print(found.message, markup=False)
        if found.action:
            console.print(f"    {found.action}", markup=False)
    console.print("Nothing is wrong." if healthy else f"{sum(f.level == 'wrong' for f in findings)} things are wrong.")


def examine(config: Config, *, network: bool = False) -> Iterator[Finding]:
    """Give out the findings of every check; one that can't be made is a finding itself."""
    yield from check_machine.check_settings(config)
    yield from check_machine.check_disk(config)
    yield from check_machine.check_spool(config)
    yield from check_machine.check_processes(config)
    yield from check_machine.check_redis(config)
    yield from _examine_database(config)
    if network:
        yield from check_machine.check_network(config)


def _examine_database(config: Config) -> Iterator[Finding]:
    try:
        url = _find_url(config)
    except ConfigError as error:
        yield wrong("PostgreSQL", f"{error}.", "pulse serve")
        return
    engine = _engine(config, url)
    try:
        with engine.connect() as connection:
            yield from check_database.check_server(connection, config)
            yield from check_database.check_schema(connection, config)
            if schema_version(connection):
                yield from check_database.check_work(connection)
        if config.database_replica_url is not None:
            replica = _engine(config, config.database_replica_url)
            yield from check_database.check_replica(engine, replica)
            replica.dispose()
    except DBAPIError as error:
        yield wrong("PostgreSQL", f"It can't be asked: {str(error.orig).strip()}",
                    "Start it, and check DATABASE_URL." if config.database_url else "pulse serve")  # fmt: skip
    finally:
        engine.dispose()


def _find_url(config: Config) -> str:
    """Return the URL. Raises ConfigError while the embedded server does not run."""
    if config.database_url is not None:
        return config.database_url
    server = embedded.locate(config.data_dir)
    if not (server.data_dir / "PG_VERSION").exists() or not embedded.is_running(server):
        raise ConfigError("The embedded PostgreSQL does not run")
    return server.url


def _engine(config: Config, url: str) -> Engine:
    return build_engine(config, url, application_name="pulse-doctor", statement_timeout_ms=TIMEOUT_MS)
