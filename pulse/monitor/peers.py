"""What a node knows of the others: files in its folder, written by `pulse.monitor.nodes`, read by all its processes."""

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import time
from uuid import uuid4

import msgspec

from pulse.monitor.service import NodeFigures

ID_FILE = "node"
NAME_FILE = "node-name"
ROLL_FILE = "nodes.json"
# A node that has said nothing for so long is taken for gone.
SILENT_S = 15.0

_decoder = msgspec.msgpack.Decoder(NodeFigures)


class Peer(msgspec.Struct):
    """Another node on the same database, and whether its background worker leads."""

    id: str
    name: str
    leads: bool


def node_id(folder: Path) -> str:
    """The id of the service on this folder, made once and kept; the same for all its processes."""
    path = folder / ID_FILE
    with suppress(FileExistsError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f"{ID_FILE}.{os.getpid()}.draft"
        draft.write_text(uuid4().hex)
        try:
            os.link(draft, path)  # whole or not at all, and never over another's
        finally:
            draft.unlink()
    return path.read_text()


@cache
def _read_name(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return socket.gethostname()


def node_name(folder: Path) -> str:
    """How this node is shown: the host's name and the port."""
    return _read_name(folder / NAME_FILE)


def name_node(folder: Path, name: str) -> None:
    """Set the name that all processes of this node show."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / NAME_FILE).write_text(name)
    _read_name.cache_clear()


def write(folder: Path, others: list[Peer], figures: dict[str, bytes]) -> None:
    """Keep what the other nodes said, and forget those that said nothing."""
    for peer_id, data in figures.items():
        _replace(folder / f"{peer_id}.peer", data)
    for path in folder.glob("*.peer"):
        if path.stem not in figures:
            path.unlink(missing_ok=True)
    _replace(folder / ROLL_FILE, msgspec.json.encode(others))


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_name(path.name + ".draft")
    draft.write_bytes(data)
    draft.replace(path)


def _is_fresh(path: Path) -> bool:
    return time() - path.stat().st_mtime < SILENT_S


def read(folder: Path) -> list[NodeFigures]:
    """The figures of the other nodes, as they last published them."""
    found = []
    for path in sorted(folder.glob("*.peer")):
        with suppress(OSError, msgspec.MsgspecError):
            if _is_fresh(path):
                found.append(_decoder.decode(path.read_bytes()))
    return found


def list_peers(folder: Path) -> list[Peer]:
    """The other nodes that are alive."""
    with suppress(OSError, msgspec.MsgspecError):
        path = folder / ROLL_FILE
        if _is_fresh(path):
            return msgspec.json.decode(path.read_bytes(), type=list[Peer])
    return []
