"""A command's connection to the database of the settings."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from pulse.config import Config, load_config
from pulse.storage.engine import Database, build_engine


@contextmanager
def connected(config: Config | None = None, statement_timeout_ms: int = 30_000) -> Iterator[Connection]:
    """A transaction on the primary, for one command. Raises Unavailable when PostgreSQL can't be reached."""
    from pulse.app import database_url

    config = config or load_config()
    engine = build_engine(
        config, database_url(config), application_name="pulse-cli", statement_timeout_ms=statement_timeout_ms
    )
    database = Database(engine)
    try:
        with database.begin() as connection:
            yield connection
    finally:
        database.dispose()
