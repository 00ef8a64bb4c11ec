"""A statement is known by its label, and its values are nowhere in what is kept of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.monitor.statement import normalise, parse


def test_the_label_is_the_name() -> None:
    found = parse("/* overview.totals */ SELECT a FROM summary_daily WHERE day >= %(start)s")
    assert (found.name, found.type, found.tables) == ("overview.totals", "SELECT", ("summary_daily",))
    assert found.text == "SELECT a FROM summary_daily WHERE day >= ?"


def test_the_label_says_what_a_function_does() -> None:
    found = parse("/* ingest.store: INSERT INTO events, event_ids */ SELECT store_events(%(rows)s)")
    assert (found.name, found.type, found.tables) == ("ingest.store", "INSERT", ("event_ids", "events"))
    assert found.text == "SELECT store_events(?)"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("SELECT 'it''s', 12, -1.5e3, x1 FROM t2", "SELECT ?, x1 FROM t2"),
        ("SELECT a -- it's a comment\nFROM t WHERE b = 'secret'", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a /* it's */ FROM \"it's\" WHERE b = 'secret'", "SELECT a FROM \"it's\" WHERE b = ?"),
        ("SELECT '-- no comment', b FROM t", "SELECT ?, b FROM t"),
        ("SELECT E'a\\'secret' , $$secret ' $$, $x$ secret $x$", "SELECT ?"),
        ("SELECT 'a\\', 'secret'", "SELECT ?"),
        ("SELECT a FROM t WHERE b = 'cut sho", "SELECT a FROM t WHERE b = ?"),
        ("SELECT a FROM t WHERE id IN (1, 2, 3)", "SELECT a FROM t WHERE id IN (?)"),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_12", "ROLLBACK TO SAVEPOINT sa_savepoint"),
        ("INSERT INTO t (a, b) VALUES (%s, %s), (%s, %s)", "INSERT INTO t (a, b) VALUES (?)"),
        ("SELECT a FROM t WHERE b = $1::text AND c LIKE '100%%'", "SELECT a FROM t WHERE b = ?::text AND c LIKE ?"),
    ],
)
def test_values_become_question_marks(raw: str, text: str) -> None:
    assert normalise(raw) == text


@given(st.text(alphabet="abc'\\-/*\"$ ;", max_size=30))
def test_no_literal_gives_itself_away(inside: str) -> None:
    quoted = "'" + inside.replace("'", "''") + "XSECRETX'"
    assert "XSECRETX" not in normalise(f"SELECT a FROM t WHERE b = {quoted} AND c = 1")


@pytest.mark.parametrize(
    ("raw", "kind", "tables"),
    [
        ("INSERT INTO events SELECT * FROM staging", "INSERT", ("events", "staging")),
        ("UPDATE a SET x = 1 FROM b WHERE a.id = b.id", "UPDATE", ("a", "b")),
        ("DELETE FROM only_me", "DELETE", ("only_me",)),
        ("WITH x AS (SELECT 1 FROM foo), y AS (DELETE FROM bar) INSERT INTO baz SELECT * FROM x", "INSERT",
         ("bar", "baz", "foo")),
        ("WITH RECURSIVE t(n) AS (SELECT 1) SELECT n FROM t", "SELECT", ()),
        ("SELECT extract(epoch FROM happened) FROM events JOIN LATERAL unnest(a) x ON true", "SELECT", ("events",)),
        ("SELECT a IS DISTINCT FROM b FROM public.events", "SELECT", ("events",)),
        ("SELECT id FROM ingest_batches FOR UPDATE SKIP LOCKED", "SELECT", ("ingest_batches",)),
        ("INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET x = 1", "INSERT", ("t",)),
        ("SELECT * FROM json_to_recordset(%(rows)s) AS r(a int)", "SELECT", ()),
        ("SET LOCAL statement_timeout = 0", "SET", ()),
        ("CREATE TEMP TABLE IF NOT EXISTS fold_stage (a int)", "CREATE", ("fold_stage",)),
        ("CREATE TABLE s.copies (a int)", "CREATE", ("copies",)),
        ("SELECT a FROM pg_catalog.generate_series(1, 2) AS r(a)", "SELECT", ()),
    ],
)  # fmt: skip
def test_type_and_tables(raw: str, kind: str, tables: tuple[str, ...]) -> None:
    found = parse(raw)
    assert (found.type, found.tables) == (kind, tables)


@given(st.text(max_size=200))
def test_no_text_is_too_strange(raw: str) -> None:
    assert len(parse(raw).text) <= 2000
