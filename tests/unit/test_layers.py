"""The layers of the house: imports point down, and siblings do not know each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pulse

PACKAGE = Path(pulse.__file__).parent

# From the top: a part may import what stands in a row below its own. Parts of one row may import each other where
# the row says "together" and are strangers where it says "apart".
LAYERS: list[tuple[str, set[str]]] = [
    ("together", {"app", "cli", "supervisor", "load", "upkeep"}),
    ("apart", {"web"}),
    ("apart", {"jobs"}),
    ("apart", {"ingest", "rollup", "reports"}),
    ("apart", {"cache", "monitor"}),
    ("apart", {"storage"}),
    ("apart", {"logs", "config"}),
    ("apart", {"errors"}),
]
RANK = {part: rank for rank, (_, parts) in enumerate(LAYERS) for part in parts}
# The log set-up reads its settings; nothing else crosses a row of strangers.
ALLOWED_BESIDE = {("logs", "config")}


def read_imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """The line and full name of everything a module imports, at its top or inside its functions."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def part_of(name: str) -> str | None:
    """The part of the package that a full name lies in; None outside of it, and for the package itself."""
    words = name.split(".")
    return words[1] if words[0] == "pulse" and len(words) > 1 and not words[1].startswith("__") else None


def forbidden(importer: str, imported: str) -> bool:
    if importer == imported or (importer, imported) in ALLOWED_BESIDE:
        return False
    if RANK[importer] == RANK[imported]:
        return LAYERS[RANK[importer]][0] == "apart"
    return RANK[importer] > RANK[imported]


def find_faults(source: str, module: str, is_package: bool = False) -> list[str]:
    importer = part_of(module)
    if importer is None:
        return []
    return [
        f"{module}:{line} imports {name}"
        for line, name in read_imports(source, module, is_package)
        if (imported := part_of(name)) is not None and forbidden(importer, imported)
    ]


def test_every_part_has_a_place() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert parts - {"__init__"} <= set(RANK), "give the new part a row in LAYERS"


def test_imports_point_down() -> None:
    faults = []
    for path in sorted(PACKAGE.rglob("*.py")):
        words = ["pulse", *path.relative_to(PACKAGE).with_suffix("").parts]
        is_package = words[-1] == "__init__"
        module = ".".join(words[:-1] if is_package else words)
        faults += find_faults(path.read_text("utf-8"), module, is_package)
    assert faults == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pulse.storage.engine", "from pulse.cache import cache"),
        ("pulse.storage.engine", "import pulse.monitor.recorder"),
        ("pulse.reports.overview", "from pulse import rollup"),
        ("pulse.reports.overview", "from ..ingest import event"),
        ("pulse.cache.service", "def late():\n    from pulse.monitor import recorder"),
        ("pulse.config", "import pulse.logs"),
        ("pulse.errors", "from pulse.config import Config"),
        ("pulse.jobs", "if True:\n    from pulse.web.http import Api"),
    ],
)
def test_an_arrow_up_or_aside_is_found(module: str, source: str) -> None:
    assert len(find_faults(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pulse.cli", "from pulse.supervisor import Supervisor"),
        ("pulse.web.tracking", "from pulse.ingest import event\nfrom .http import Api\nfrom pulse import __version__"),
        ("pulse.logs", "from pulse.config import Config"),
        ("pulse.storage.pool", "import sqlalchemy, pulsar"),
    ],
)
def test_an_arrow_down_is_fine(module: str, source: str) -> None:
    assert find_faults(source, module) == []
