"""The `pulse` command."""

import getpass
import signal
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from pulse import __version__
from pulse.config import Config, load_config
from pulse.errors import ConfigError, PulseError, Unavailable
from pulse.load.bench_data.command import bench_data
from pulse.load.commands import demo, load_compare, load_test
from pulse.logs import set_up_logging
from pulse.storage import projects
from pulse.storage.engine import build_engine
from pulse.upkeep.doctor import doctor
from pulse.upkeep.session import connected
from pulse.upkeep.visitor import visitor

console = Console(highlight=False)


class _Group(click.Group):
    """Shows our own errors as one message, without a stack trace."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise click.ClickException(str(error)) from error
        except DBAPIError as error:
            raise click.ClickException(f"The database can't be used: {str(error.orig).strip()}") from error
        except (ConfigError, PulseError) as error:
            text = str(error)
            if isinstance(error, PulseError) and error.details:
                text += "".join(f"\n  {detail.field}: {detail.message}" for detail in error.details)
            raise click.ClickException(text) from error


@click.group(cls=_Group)
@click.version_option(__version__)
def main() -> None:
    """Self-hosted web analytics that shows its own performance."""


@main.command()
def serve() -> None:
    """Start everything: database, web workers, background worker. Ctrl-C stops it."""
    from pulse.ingest import geo
    from pulse.supervisor import Supervisor

    config = load_config()
    if config.geoip_database is not None:
        geo.open_file(config.geoip_database).close()  # named here, once, rather than by each web worker that dies of it
    set_up_logging(config)
    supervisor = Supervisor(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop_soon)
    with supervisor.alone():
        try:
            with console.status("Preparing the database …"):
                supervisor.prepare_database(may_go_without=True)
            if config.env == "production" and not supervisor.is_without_database:
                _require_administrator(config)
            with console.status("Starting the workers …"):
                supervisor.start()
            _welcome(config, is_without_database=supervisor.is_without_database)
            supervisor.watch()
        finally:
            with console.status("Stopping …"):
                supervisor.stop()
            console.print("Stopped.")


def _require_administrator(config: Config) -> None:
    with connected(config) as connection:
        if projects.count_administrators(connection) == 0:
            raise ConfigError(projects.NO_ADMINISTRATOR)


def _welcome(config: Config, *, is_without_database: bool) -> None:
    from pulse.supervisor import base_url

    url = base_url(config)
    known: list[projects.Project] | None = None
    has_key = False
    try:
        if not is_without_database:
            with connected(config) as connection:
                known = projects.list_projects(connection)
                has_key = projects.find_key(connection, projects.DEVELOPMENT_KEY) is not None
    except Unavailable:  # it went away again; what runs already will find it when it is back
        pass
    table = Table.grid(padding=(0, 2))
    for label, path in (("Dashboard", "/"), ("Performance", "/performance"), ("API", "/docs")):
        table.add_row(label, f"{url}{path}")
    if config.is_development:
        table.add_row("Demo site", f"{url}/demo")
    for project in (known or [])[:5]:
        table.add_row(f"Project {project.id}", project.name)
    if config.is_development and has_key:
        table.add_row("Key", f"{projects.DEVELOPMENT_KEY} (ingest and read; development only)")
    console.print()
    console.print(f"[bold green]Analytics-Pulse {__version__} is up.[/] Ctrl-C stops it.")
    console.print(table)
    if known is None:
        console.print("\n[bold yellow]PostgreSQL can't be used.[/] Events are kept in the spool until it can.")
    if config.is_development and has_key:
        console.print("\nSend an event:\n")
        body = '{"type": "pageview", "url": "https://example.com/hello"}'
        # Printed raw, on one line of its own, so that it can be pasted.
        print(
            f"curl -X POST {url}/api/v1/track/event -H 'X-API-Key: {projects.DEVELOPMENT_KEY}'"
            f" -H 'Content-Type: application/json' -d '{body}'\n",
            flush=True,
        )
    elif known == []:
        console.print("\nMake a project and its keys:  pulse project create NAME --timezone Europe/Berlin\n")


@main.command()
def worker() -> None:
    """Run the background work: folding, partitions, upkeep. One leads, others stand by."""
    from pulse.app import database_url
    from pulse.ingest.spool import Spool
    from pulse.jobs import Worker
    from pulse.monitor import nodes, recorder, shared

    config = load_config()
    set_up_logging(config)
    url = database_url(config)
    engine = build_engine(config, url, application_name="pulse-worker", statement_timeout_ms=120_000)
    recorder.install(engine, config)
    spool = Spool(config.data_dir / "spool")
    shared.register_gauges(lambda: {"spool_bytes": float(spool.room.held_bytes())})
    shared.start_publishing(config, role="worker")
    nodes.start(config, url)
    Worker(engine, config).run()


@main.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    from pulse.supervisor import Supervisor

    applied = Supervisor(load_config()).prepare_database()
    console.print("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")


@main.group()
def project() -> None:
    """Projects: list, create, delete."""


@project.command("list")
def list_projects() -> None:
    """List the projects."""
    table = Table("id", "name", "domain", "time zone", "created")
    with connected() as connection:
        for found in projects.list_projects(connection):
            table.add_row(str(found.id), found.name, found.domain or "", found.timezone, f"{found.created_at:%Y-%m-%d}")
    console.print(table)


@project.command("create")
@click.argument("name")
@click.option("--timezone", default="UTC", show_default=True, help="IANA time zone whose days reports count.")
@click.option("--domain", help="The site's domain.")
def create_project(name: str, timezone: str, domain: str | None) -> None:
    """Make a project with a key for its pages and one for its reports."""
    with connected() as connection:
        made = projects.create_project(connection, name, timezone, domain)
        _, ingest = projects.create_key(connection, made.id, "pages", ["ingest"])
        _, read = projects.create_key(connection, made.id, "reports", ["read"])
    console.print(f"Project {made.id} ({made.name}), days in {made.timezone}")
    console.print(f"  ingest key  {ingest}   may be published in pages")
    console.print(f"  read key    {read}   shows this project's reports; shown this once")


@project.command("delete")
@click.argument("project_id", type=int)
@click.confirmation_option(prompt="Delete the project, its keys and its events?")
def delete_project(project_id: int) -> None:
    """Delete a project."""
    with connected() as connection:
        projects.delete_project(connection, project_id)
    console.print(f"Project {project_id} is deleted.")


@main.group()
def key() -> None:
    """API keys: list, create, revoke."""


@key.command("list")
@click.option("--project", "project_id", type=int, help="The project; without it the administrator keys.")
def list_keys(project_id: int | None) -> None:
    """List keys; their text is never shown again."""
    table = Table("id", "name", "scopes", "begins with", "created", "revoked")
    with connected() as connection:
        for found in projects.list_keys(connection, project_id):
            revoked = f"{found.revoked_at:%Y-%m-%d}" if found.revoked_at else ""
            created = f"{found.created_at:%Y-%m-%d}"
            table.add_row(str(found.id), found.name, ", ".join(found.scopes), found.key_prefix, created, revoked)
    console.print(table)


@key.command("create")
@click.option("--project", "project_id", type=int, help="The project the key is for.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(["ingest", "read"]), help="May be given twice.")
@click.option("--admin", is_flag=True, help="An administrator key, for every project and the performance API.")
@click.option("--name", default="cli", show_default=True, help="What the key is for.")
def create_key(project_id: int | None, scopes: tuple[str, ...], admin: bool, name: str) -> None:
    """Make a key and show it, this once."""
    if admin == (project_id is not None):
        raise click.UsageError("Give either --project with --scope, or --admin.")
    with connected() as connection:
        _, text = projects.create_key(connection, project_id, name, ["admin"] if admin else list(scopes) or ["read"])
    click.echo(text)


@key.command("revoke")
@click.argument("key_id", type=int)
@click.option("--project", "project_id", type=int, help="The project; without it an administrator key.")
def revoke_key(key_id: int, project_id: int | None) -> None:
    """Make a key invalid."""
    with connected() as connection:
        projects.revoke_key(connection, project_id, key_id)
    console.print(f"Key {key_id} is revoked.")


@main.group()
def user() -> None:
    """Dashboard logins."""


@user.command("create")
@click.argument("email")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def create_user(email: str, password_stdin: bool) -> None:
    """Make a login, or give an existing one a new password."""
    password = sys.stdin.readline().rstrip("\n") if password_stdin else getpass.getpass("Password: ")
    with connected() as connection:
        made = projects.create_user(connection, email, password)
    console.print(f"{made.email} can log in.")


for command in (bench_data, demo, load_test, load_compare, visitor, doctor):
    main.add_command(command)


if __name__ == "__main__":
    main()
