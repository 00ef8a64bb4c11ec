"""What the rollup no longer needs: old real-time slots, and batches folded long ago."""

from datetime import timedelta

from sqlalchemy import Engine

from pulse.rollup.fold import LIVE_KEEP
from pulse.storage.sql import load_queries

Q = load_queries("fold")

# A writer that retries after a lost answer asks for its batch within minutes; the rest is for people who look.
BATCHES_KEEP = timedelta(days=14)
CHUNK = 10_000


def prune_live(engine: Engine) -> int:
    """Delete real-time slots older than LIVE_KEEP; return how many rows."""
    with engine.begin() as connection:
        return connection.execute(Q.prune_live, {"keep": LIVE_KEEP}).rowcount


def prune_batches(engine: Engine) -> int:
    """Delete batches that were folded more than BATCHES_KEEP ago, in short transactions; return how many."""
    deleted = 0
    while True:
        with engine.begin() as connection:
            gone = connection.execute(Q.prune_batches, {"keep": BATCHES_KEEP, "chunk": CHUNK}).rowcount
        deleted += gone
        if gone < CHUNK:
            return deleted
