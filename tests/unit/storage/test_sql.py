"""Named blocks: what becomes of a file of statements."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulse.storage import sql

FILES = sorted(path.stem for path in sql.SQL_DIR.glob("*.sql"))


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of statements of the test's own."""
    monkeypatch.setattr(sql, "SQL_DIR", tmp_path)
    sql.load_queries.cache_clear()
    yield tmp_path
    sql.load_queries.cache_clear()


def test_each_block_is_an_attribute_with_its_label(folder: Path) -> None:
    blocks = "-- name: one\n-- The first.\nSELECT 1;\n\n-- name: two\n-- The second.\nSELECT :x;\n"
    (folder / "shop.sql").write_text(blocks)
    found = sql.load_queries("shop")
    assert found.names() == ["one", "two"]
    assert str(found.one) == "/* shop.one */ SELECT 1"
    assert found.two.compile().params == {"x": None}


def test_what_a_function_does_stands_in_the_label(folder: Path) -> None:
    (folder / "does.sql").write_text("-- name: keep\n-- Keeps.\n-- does: INSERT INTO a, b\nSELECT keep(:row);\n")
    assert str(sql.load_queries("does").keep) == "/* does.keep: INSERT INTO a, b */ SELECT keep(:row)"


def test_comments_are_stripped_and_their_colons_are_no_binds(folder: Path) -> None:
    (folder / "shop.sql").write_text(
        "-- name: one\n-- Ratio of a:b.\nSELECT /* of :this\nand :that */ :real -- and :other\nFROM t;\n"
    )
    statement = sql.load_queries("shop").one
    assert statement.compile().params == {"real": None}
    assert "this" not in str(statement) and "other" not in str(statement) and "Ratio" not in str(statement)


@pytest.mark.parametrize(
    "literal", ["'HH24:MI:SS'", "'it''s :not a bind'", '"odd:name"', "'-- no comment :a'", "'/* nor :this */'"]
)
def test_literals_arrive_as_they_are_written(folder: Path, literal: str) -> None:
    (folder / "shop.sql").write_text(f"-- name: one\n-- Prose.\nSELECT {literal}, :real;\n")
    compiled = sql.load_queries("shop").one.compile()
    assert compiled.params == {"real": None}
    assert literal in str(compiled)


def test_a_cast_is_no_bind(folder: Path) -> None:
    (folder / "shop.sql").write_text("-- name: one\n-- Prose.\nSELECT now()::date;\n")
    assert sql.load_queries("shop").one.compile().params == {}


def test_two_blocks_of_one_name_are_refused(folder: Path) -> None:
    (folder / "shop.sql").write_text("-- name: one\n-- A.\nSELECT 1;\n-- name: one\n-- B.\nSELECT 2;\n")
    with pytest.raises(ValueError, match="two blocks named 'one'"):
        sql.load_queries("shop")


def test_an_unknown_block_is_named(folder: Path) -> None:
    (folder / "shop.sql").write_text("-- name: one\n-- A.\nSELECT 1;\n")
    with pytest.raises(AttributeError, match=r"sql/shop\.sql has no block named 'tow'"):
        sql.load_queries("shop").tow  # noqa: B018
    with pytest.raises(FileNotFoundError):
        sql.load_queries("shoppe")


@pytest.mark.parametrize("module", FILES)
def test_every_file_loads(module: str) -> None:
    found = sql.load_queries(module)
    assert found.names()
    for name in found.names():
        statement = str(getattr(found, name))
        assert re.match(rf"/\* {module}\.{name}(: [A-Z]+ \w+ [\w, ]+)? \*/ \S[^;]{{8}}", statement)


@pytest.mark.parametrize("module", FILES)
def test_every_block_says_what_it_is(module: str) -> None:
    lines = (sql.SQL_DIR / f"{module}.sql").read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("-- name: "):
            prose = lines[number + 1]
            assert re.match(r"-- \S+ \S+", prose) and not prose.startswith("-- name:"), f"{module}.sql:{number + 2}"
