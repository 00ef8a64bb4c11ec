"""Writes tiny MMDB files (MaxMind DB file format 2.0, IPv4, 24-bit records) to test lookups with."""

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

_INTEGERS = {"build_epoch": 9, "node_count": 6}  # the reader wants 64, 32 and for the others 16 bits
_MARKER = b"\xab\xcd\xefMaxMind.com"


def _control(kind: int, size: int) -> bytes:
    assert size < 285
    low, extra = (size, b"") if size < 29 else (29, bytes([size - 29]))
    return bytes([kind << 5 | low]) + extra if kind < 8 else bytes([low, kind - 7]) + extra


def _encode(value: Any, key: str = "") -> bytes:
    if isinstance(value, str):
        data = value.encode()
        return _control(2, len(data)) + data
    if isinstance(value, int):
        data = value.to_bytes(8, "big").lstrip(b"\0")
        return _control(_INTEGERS.get(key, 5), len(data)) + data
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(_encode, value))
    return _control(7, len(value)) + b"".join(_encode(key) + _encode(item, key) for key, item in value.items())


def write_mmdb(path: Path, records: dict[str, Any]) -> Path:
    """Write a database of network → record."""
    data, offsets = b"", {}
    nodes: list[list[Any]] = [[None, None]]
    for network, record in records.items():
        offsets[network] = len(data)
        data += _encode(record)
        block = IPv4Network(network)
        node = 0
        for depth in range(block.prefixlen):
            bit = int(block.network_address) >> (31 - depth) & 1
            if depth == block.prefixlen - 1:
                nodes[node][bit] = ("data", network)
            else:
                if nodes[node][bit] is None:
                    nodes.append([None, None])
                    nodes[node][bit] = len(nodes) - 1
                node = nodes[node][bit]
    tree = b""
    for left_right in nodes:
        for target in left_right:
            if target is None:
                number = len(nodes)
            else:
                number = len(nodes) + 16 + offsets[target[1]] if isinstance(target, tuple) else target
            tree += number.to_bytes(3, "big")
    metadata = {
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1_700_000_000,
        "database_type": "Test", "description": {"en": "Test"}, "ip_version": 4, "languages": ["en"],
        "node_count": len(nodes), "record_size": 24,
    }
    path.write_bytes(tree + bytes(16) + data + _MARKER + _encode(metadata))
    return path
