"""What a check has found, in words."""

from typing import Literal

from msgspec import Struct


class Finding(Struct, frozen=True, omit_defaults=True):
    """One finding: `ok`, `advice` (works, could be better) or `wrong`; `action` says what to do."""

    area: str
    level: Literal["ok", "advice", "wrong"]
    message: str
    action: str | None = None


def ok(area: str, message: str) -> Finding:
    """All is well."""
    return Finding(area, "ok", message)


def advice(area: str, message: str, action: str) -> Finding:
    """It works, and could be better."""
    return Finding(area, "advice", message, action)


def wrong(area: str, message: str, action: str) -> Finding:
    """Something is lost, stands still, or will."""
    return Finding(area, "wrong", message, action)
