"""Several nodes as one service: each writes what its processes did to PostgreSQL and reads what the others wrote.

A node is one service on one data folder. One process of each node does it, on a connection of its own, so that a full
pool does not silence it. Alone it writes a row of a hundred bytes every five seconds; with others its figures (about
300 kB with every statement in use) every two.
"""

import fcntl
import logging
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pulse.config import Config
from pulse.monitor import alerts, files, history, peers, release, shared
from pulse.monitor.board import Board, number
from pulse.monitor.peers import Peer
from pulse.monitor.service import NodeFigures, freeze
from pulse.monitor.snapshot import encode
from pulse.storage.engine import build_engine
from pulse.storage.sql import load_queries

log = logging.getLogger("pulse.monitor")
Q = load_queries("nodes")

TOGETHER_EVERY_S = 2.0
ALONE_EVERY_S = 5.0
TIMEOUT_MS = 5_000
LOCK_FILE = "nodes.lock"
JOINED_FILE = "joined"


def name_of(config: Config) -> str:
    """How a node is shown."""
    return f"{socket.gethostname()}:{config.port}"


class Exchange:
    """One process's part in it: it waits until it holds the node's lock, then exchanges until it ends."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._engine = engine
        self._folder = files.folder_of(config.data_dir)
        self._name = name_of(config)
        self._id = ""
        self._lock: int | None = None
        self._noted_start = False
        self._troubled = False
        self._stop = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        """Exchange in the background until the process ends."""
        threading.Thread(target=self._run, name="monitor-nodes", daemon=True).start()

    def stop(self) -> None:
        """End the exchange and its connection."""
        self._stop.set()
        self._ended.wait(2.0)

    def _run(self) -> None:
        peers.name_node(self._folder, self._name)
        pause_s = TOGETHER_EVERY_S
        while not self._stop.wait(pause_s):
            try:
                if self._take_lock():
                    pause_s = TOGETHER_EVERY_S if self.exchange() else ALONE_EVERY_S
                self._troubled = False
            except (DBAPIError, PoolTimeoutError, OSError) as error:
                if not self._troubled:
                    reason = str(getattr(error, "orig", error)).strip()
                    log.warning("the figures can't be exchanged with other nodes: %s", reason)
                self._troubled = True
                pause_s = ALONE_EVERY_S
            except Exception:
                log.exception("the exchange of figures with other nodes failed")
                pause_s = ALONE_EVERY_S
        if self._lock is not None:
            os.close(self._lock)
        self._engine.dispose()
        self._ended.set()

    def _take_lock(self) -> bool:
        if self._lock is not None:
            return True
        descriptor = os.open(self._folder / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        self._id = peers.node_id(self._folder)
        return True

    def exchange(self) -> int:
        """Read what the others wrote, write what this node did; return how many others there are."""
        self._id = self._id or peers.node_id(self._folder)
        leads = alerts.leads(self._folder)
        with self._engine.begin() as connection:
            others = connection.execute(Q.others, {"id": self._id, "silent_s": peers.SILENT_S}).all()
            generation = self._follow(others)
            if not self._noted_start:
                self._note_start(connection)
            said = {"id": self._id, "name": self._name, "leads": leads, "generation": generation}
            connection.execute(Q.note, {**said, **self._own(bool(others))})
        self._noted_start = True
        known = [Peer(row.id, row.name, row.leads) for row in others]
        peers.write(self._folder, known, {row.id: bytes(row.figures) for row in others if row.figures is not None})
        alerts.exchange(self._folder, leads, [(row.leads, bytes(row.standing)) for row in others if row.standing])
        return len(others)

    def _follow(self, others: Sequence[Row[Any]]) -> int:
        """Follow the others' resets; return this node's generation."""
        board = Board(self._folder)
        joined = self._folder / JOINED_FILE
        if others:
            # Who has just started takes over what the others have, or it would reset them all.
            board.follow(max(row.generation for row in others), joining=not joined.exists())
        joined.touch()
        return number(board.read())

    def _own(self, wanted: bool) -> dict[str, bytes | None]:
        if not wanted:
            return {"figures": None, "standing": None}
        stats = shared.collect(alone=True)
        figures = NodeFigures(self._name, freeze(stats, []), stats.processes)
        return {"figures": encode(figures), "standing": alerts.encode_state(self._folder)}

    def _note_start(self, connection: Connection) -> None:
        connection.execute(Q.forget_silent)
        with suppress(OSError):
            started_at = (self._folder / files.STARTED).stat().st_mtime
            history.note_start(connection, started_at, self._name, release.VERSION, release.read_commit())


_exchange: Exchange | None = None


def start(config: Config, url: str) -> None:
    """Take part in the exchange with the other nodes on this database; call it after the fork."""
    global _exchange
    if _exchange is not None:
        _exchange.stop()
    engine = build_engine(config, url, application_name="pulse-monitor", statement_timeout_ms=TIMEOUT_MS)
    _exchange = Exchange(config, engine)
    _exchange.start()


def stop() -> None:
    """Take part no longer."""
    global _exchange
    if _exchange is not None:
        _exchange.stop()
        _exchange = None


def _forget_parent() -> None:
    global _exchange
    _exchange = None


os.register_at_fork(after_in_child=_forget_parent)
