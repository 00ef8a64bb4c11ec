"""Named SQL blocks: each module's statements live in `sql/<module>.sql`.

A block is a line `-- name: block_name`, a line of prose as a comment, and one statement with `:binds`. A block that
calls a function may say what the function does, as the text does not: `-- does: INSERT INTO one, another`.
"""

import re
from functools import cache
from pathlib import Path

from sqlalchemy import TextClause, text

SQL_DIR = Path(__file__).resolve().parents[2] / "sql"

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_DOES = re.compile(r"^-- does: (.+?)\s*$", re.MULTILINE)
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

    What a block says it does stands in the label: `/* module.block: INSERT INTO one, another */`.

    Raises FileNotFoundError for an unknown module and ValueError for two blocks of one name.
    """
    parts = _NAME.split((SQL_DIR / f"{module}.sql").read_text(encoding="utf-8"))
    blocks: dict[str, TextClause] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in blocks:
            raise ValueError(f"sql/{module}.sql has two blocks named {name!r}")
        does = _DOES.search(body)
        label = f"{module}.{name}: {does[1]}" if does else f"{module}.{name}"
        blocks[name] = text(f"/* {label} */ {clean(body)}")
    return Queries(module, blocks)
