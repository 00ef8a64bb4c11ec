"""Named SQL blocks: each module's statements live in `sql/<module>.sql`.

A block is a line `-- name: block_name`, a line of prose as a comment, and one statement with `:binds`.
"""

import re
from functools import cache
from pathlib import Path

from sqlalchemy import TextClause, text

SQL_DIR = Path(__file__).resolve().parents[2] / "sql"

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
# A quoted string, a quoted identifier, a line comment or a block comment: what `text()` must not look into.
_OPAQUE = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)


class Queries:
    """The statements of one file as attributes, ready to execute."""

    def __init__(self, module: str, blocks: dict[str, TextClause]) -> None:
        self._module = module
        self._blocks = blocks

    def __getattr__(self, name: str) -> TextClause:
        try:
            return self._blocks[name]
        except KeyError:
            raise AttributeError(f"sql/{self._module}.sql has no block named {name!r}") from None

    def names(self) -> list[str]:
        """Return the block names in file order."""
        return list(self._blocks)


def clean(statement: str) -> str:
    """Strip comments and escape colons in literals.

    SQLAlchemy's `text()` takes `:name` inside comments and string literals for a bind.
    """

    def replace(match: re.Match[str]) -> str:
        found = match.group()
        return " " if found.startswith(("--", "/*")) else found.replace(":", "\\:")

    return _OPAQUE.sub(replace, statement).strip().rstrip(";").strip()


@cache
def load_queries(module: str) -> Queries:
    """Load `sql/<module>.sql`; each statement starts with a `/* module.block */` label that the monitor reads.

    Raises FileNotFoundError for an unknown module and ValueError for two blocks of one name.
    """
    parts = _NAME.split((SQL_DIR / f"{module}.sql").read_text(encoding="utf-8"))
    blocks: dict[str, TextClause] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in blocks:
            raise ValueError(f"sql/{module}.sql has two blocks named {name!r}")
        blocks[name] = text(f"/* {module}.{name} */ {clean(body)}")
    return Queries(module, blocks)
