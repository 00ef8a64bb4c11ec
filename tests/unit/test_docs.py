"""The documentation keeps up with the code: settings, endpoints, tables, make targets and links."""

import dataclasses
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from pulse import __version__, web
from pulse.config import Config
from pulse.storage.schema import list_migrations
from pulse.web.http import Endpoint
from pulse.web.openapi import build_document

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|href|srcset)=\"([^\"]+)\"")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def sections(text: str, level: str = "###") -> dict[str, str]:
    """The text under each heading of a level, up to the next heading of that level or a higher one."""
    found = {}
    for part in re.split(rf"^{level} ", text, flags=re.MULTILINE)[1:]:
        title, _, rest = part.partition("\n")
        found[title.strip().strip("`")] = re.split(rf"^#{{1,{len(level)}}} ", rest, flags=re.MULTILINE)[0]
    return found


# --- Settings ---------------------------------------------------------------------------------------------------------


def settings_table() -> dict[str, tuple[str, str]]:
    """The default and unit of each setting, as docs/CONFIGURATION.md has them."""
    row = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \| ([^|]*) \| [^|]+ \|$", re.MULTILINE)
    rows = row.findall(read("docs/CONFIGURATION.md"))
    return {name: (default.strip().strip("`"), unit.strip()) for name, default, unit in rows}


def shown(spec: dataclasses.Field) -> str:
    """A default in words."""
    if spec.name == "web_concurrency":
        return "number of cores"
    if spec.default is None or spec.default == ():
        return "unset"
    return str(spec.default).lower() if isinstance(spec.default, bool) else str(spec.default)


@pytest.mark.parametrize("spec", dataclasses.fields(Config), ids=lambda spec: spec.metadata["variable"])
def test_every_setting_is_documented_with_its_default(spec: dataclasses.Field) -> None:
    assert settings_table().get(spec.metadata["variable"]) == (shown(spec), spec.metadata["unit"])


def test_no_setting_is_documented_that_does_not_exist() -> None:
    assert set(settings_table()) == {spec.metadata["variable"] for spec in dataclasses.fields(Config)}


# --- Endpoints --------------------------------------------------------------------------------------------------------


def list_endpoints() -> list[Endpoint]:
    """The endpoints of every module of pulse.web."""
    found: list[Endpoint] = []
    for module in pkgutil.iter_modules(web.__path__):
        loaded = importlib.import_module(f"pulse.web.{module.name}")
        found += getattr(getattr(loaded, "api", None), "endpoints", [])
        found += getattr(loaded, "ENDPOINTS", [])
    return found


def list_operations(document: dict) -> list[str]:
    """Method and path of each operation, as docs/API.md writes them: without the prefix, ids unnamed."""
    return [
        f"{method.upper()} {re.sub(r'{[a-z_]+}', '{}', path.removeprefix('/api/v1'))}"
        for path, operations in document["paths"].items()
        for method in operations
    ]


OPERATIONS = list_operations(build_document(list_endpoints()))


def documented() -> dict[str, str]:
    """The section of each operation in docs/API.md."""
    return {
        re.sub(r"{[A-Za-z_]+}", "{}", title): text
        for title, text in sections(read("docs/API.md")).items()
        if re.match(r"(GET|POST|PUT|PATCH|DELETE) /", title)
    }


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_endpoint_is_documented_with_a_request_and_an_answer(operation: str) -> None:
    section = documented().get(operation)
    assert section is not None, f"docs/API.md has no section '### {operation}'"
    kinds = dict(_FENCE.findall(section))
    assert "curl " in kinds.get("sh", ""), "the section shows no curl"
    assert kinds.keys() & {"json", "text", "csv"}, "the section shows no answer"
    path = operation.split()[1]
    pattern = re.escape(path).replace(r"\{\}", r"[\w.%-]+")
    assert re.search(rf"/api/v1{pattern}(?=[\s'\"?]|$)", kinds["sh"]), f"the curl does not ask {path}"
    method = operation.split()[0]
    assert method == "GET" or f"-X {method}" in kinds["sh"] or (method == "POST" and "-d " in kinds["sh"])


def test_no_endpoint_is_documented_that_does_not_exist() -> None:
    known = {*OPERATIONS, "GET /metrics", "GET /openapi.json"}
    assert set(documented()) <= known


def test_every_query_parameter_is_documented() -> None:
    document = build_document(list_endpoints())
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            (name,) = list_operations({"paths": {path: {method: operation}}})
            section = documented().get(name, "")
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query":
                    assert f"`{parameter['name']}`" in section, f"{name}: {parameter['name']}"


def test_what_is_documented_is_served(client: FlaskClient) -> None:
    served = client.get("/api/v1/openapi.json").get_json()
    assert set(list_operations(served)) == set(OPERATIONS), "a blueprint is not registered in pulse/app.py"


# --- Tables -----------------------------------------------------------------------------------------------------------


def list_columns() -> dict[str, set[str]]:
    """The columns of each table that the migrations make."""
    tables: dict[str, set[str]] = {}
    for migration in list_migrations():
        for name, body in re.findall(r"^CREATE TABLE (\w+) \((.*?)^\)", migration.sql, re.MULTILINE | re.DOTALL):
            tables[name] = set(re.findall(r"^    ([a-z_]+) +[a-z]", body, re.MULTILINE))
        for name, column in re.findall(r"^ALTER TABLE (\w+) ADD COLUMN (\w+)", migration.sql, re.MULTILINE):
            tables[name].add(column)
    return tables


@pytest.mark.parametrize("table", list_columns())
def test_every_table_is_documented_with_its_columns(table: str) -> None:
    section = sections(read("docs/SCHEMA.md")).get(table)
    assert section is not None, f"docs/SCHEMA.md has no section '### {table}'"
    named = set(re.findall(r"`(\w+)`", section))
    assert list_columns()[table] - named == set()


def test_no_table_is_documented_that_does_not_exist() -> None:
    assert set(sections(read("docs/SCHEMA.md"))) == {*list_columns(), "schema_migrations"}


def test_every_index_is_said_what_for() -> None:
    indexes: dict[str, None] = {}
    for migration in list_migrations():
        for verb, name in re.findall(r"^(CREATE (?:UNIQUE )?INDEX|DROP INDEX) (\w+)", migration.sql, re.MULTILINE):
            if verb == "DROP INDEX":
                del indexes[name]
            else:
                indexes[name] = None
    (section,) = re.findall(r"^## Indexes\n(.*?)^## ", read("docs/SCHEMA.md"), re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+)`", section))
    assert indexes
    assert set(indexes) - named == set()


# --- The rest ---------------------------------------------------------------------------------------------------------


def test_every_make_target_is_named() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE)
    text = read("README.md") + read("CONTRIBUTING.md")
    assert targets
    assert [target for target in targets if f"make {target}" not in text] == []


def slugs(text: str) -> set[str]:
    """The anchors a page has: its headings as the forge writes them."""
    plain = _FENCE.sub("", text)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(plain)}


def links(text: str) -> Iterator[str]:
    for match in _LINK.finditer(_FENCE.sub("", text)):
        target = match[1] or match[2]
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    for target in links(text):
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in slugs(found.read_text("utf-8")), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_json_that_is_shown_is_json(path: Path) -> None:
    for kind, text in _FENCE.findall(path.read_text("utf-8")):
        if kind == "json":
            json.loads(text)


def test_the_changelog_knows_this_version() -> None:
    assert f"## {__version__}" in read("CHANGELOG.md")
