"""What a SQL statement is: its name, its text without values, its type and its tables."""

import re
from dataclasses import dataclass

MAX_TEXT = 2_000

# A block's name, and what the function it calls does: `/* ingest.store: INSERT INTO events, event_ids */`.
_LABEL = re.compile(r"\s*/\*\s*([\w.-]+)\s*(?::\s*(\w+)\s+(?:INTO|FROM)\s+([\w, ]+?)\s*)?\*/", re.IGNORECASE)
# What a value looks like: strings (with backslashes only after an E), dollar-quoted text, numbers, binds of either
# spelling. PostgreSQL shows running statements cut short, so a string may lack its end.
_STRING = (
    r"\b[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)|(?:\b[xXbBnN]|\b[uU]&)?'(?:[^']|'')*(?:'|\Z)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)"
)
# Read in one pass: a comment mark in a string is text, and so is a quotation mark in a comment or a quoted name.
_OPAQUE = re.compile(
    rf"(?P<name>\"[^\"]*\")|(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))|(?P<string>{_STRING})",
    re.DOTALL,
)
_BIND = re.compile(r"%\(\w+\)s|%s|\$\d+")
_NUMBER = re.compile(r"(?<![\w.\"])-?(?:0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w\"])", re.IGNORECASE)
_LIST = re.compile(r"\?(?:(?:::\w+(?:\[\])?)?\s*,\s*\?(?:::\w+(?:\[\])?)?)+")
_ROWS = re.compile(r"\(\?\)(?:\s*,\s*\(\?\))+")

_CTE = re.compile(
    r"(?:\bwith\s+(?:recursive\s+)?|\)\s*,\s*)(\w+)\s*(?:\([^()]*\)\s*)?as\s+(?:not\s+)?(?:materialized\s+)?\(",
    re.IGNORECASE,
)
# FROM also stands inside functions and after IS DISTINCT; UPDATE after FOR, DO and ON: none of those names a table.
_NOT_TABLES = re.compile(
    r"\b(?:extract|substring|trim|overlay|position)\s*\([^()]*\)|\bis\s+(?:not\s+)?distinct\s+from\b"
    r"|\bfor\s+(?:no\s+key\s+)?update(?:\s+of\s+\w+)?|\bdo\s+update\b|\bon\s+(?:update|delete)\b",
    re.IGNORECASE,
)
_TABLE = re.compile(
    r"\b(?:from|join|into|update|truncate(?:\s+table)?|copy|table(?:\s+if\s+(?:not\s+)?exists)?)"
    r"\s+(?:only\s+|lateral\s+)?\"?([a-z_][\w$]*)\"?(?:\s*\.\s*\"?([a-z_][\w$]*)\"?)?(?!\w)(?!\s*[.(])",
    re.IGNORECASE,
)
_INSERT = re.compile(r"\binsert\s+into\s+\"?([a-z_][\w$]*)\"?(?:\s*\.\s*\"?([a-z_][\w$]*)\"?)?", re.IGNORECASE)
# A parenthesis after a name makes it a function's elsewhere; here it opens the columns.
_CREATE = re.compile(
    r"\bcreate\s+(?:temp(?:orary)?\s+|unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?"
    r"\"?([a-z_][\w$]*)\"?(?:\s*\.\s*\"?([a-z_][\w$]*)\"?)?",
    re.IGNORECASE,
)
_SAVEPOINT = re.compile(r"\bsa_savepoint_\d+\b")  # SQLAlchemy counts them
_KEYWORDS = frozenset({"if", "select", "lateral", "only", "set", "values", "unnest", "rows", "where"})
_VERB = re.compile(r"\b(insert|update|delete|merge|select|values)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One kind of statement. `name` is its named block, or the first words of its text; `tables` are sorted."""

    name: str
    text: str
    type: str
    tables: tuple[str, ...]


def parse(raw: str) -> Statement:
    """Describe a statement; takes 50 to 200 µs, so it is done once for each text."""
    label = _LABEL.match(raw)
    text = normalise(raw)
    bare = _NOT_TABLES.sub(" ", text)
    name = label[1] if label else (text if len(text) <= 80 else text[:79] + "…")
    if label and label[2]:
        return Statement(name, text[:MAX_TEXT], label[2].upper(), tuple(sorted(re.findall(r"\w+", label[3].lower()))))
    return Statement(name, text[:MAX_TEXT], _type_of(bare), _tables_of(bare))


def normalise(raw: str) -> str:
    """Return the text on one line, without comments, every value and bind as `?`, and lists of them as one."""
    text = _OPAQUE.sub(lambda match: match["name"] or (" " if match["comment"] else "?"), raw)
    text = _NUMBER.sub("?", _BIND.sub("?", _SAVEPOINT.sub("sa_savepoint", text))).replace("%%", "%")
    text = " ".join(text.split())
    return _ROWS.sub("(?)", _LIST.sub("?", text))


def _type_of(text: str) -> str:
    first = text[:40].split(" ", 1)[0].strip("(;").upper()
    if first != "WITH":
        return first if first.isalpha() else "OTHER"
    depth, at = 0, 0
    # The verb of a WITH is the first one outside all parentheses.
    for match in re.finditer(r"[()]|" + _VERB.pattern, text, re.IGNORECASE):
        at = match.start()
        if text[at] == "(":
            depth += 1
        elif text[at] == ")":
            depth -= 1
        elif depth == 0:
            return match.group().upper()
    return "WITH"


def _tables_of(text: str) -> tuple[str, ...]:
    ours = {match[1].lower() for match in _CTE.finditer(text)} if re.search(r"\bwith\b", text, re.IGNORECASE) else set()
    found = [match[2] or match[1] for pattern in (_TABLE, _INSERT, _CREATE) for match in pattern.finditer(text)]
    return tuple(sorted({name.lower() for name in found} - ours - _KEYWORDS))
