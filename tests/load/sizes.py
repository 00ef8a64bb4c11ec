"""What the rows of each table and the entries of each index take on disk, as the service itself wrote them."""

import contextlib
import time
from pathlib import Path

import psycopg2

from pulse.storage import embedded
from tests.load.figures import Figures

# Of fewer rows, half-empty pages would be most of what is seen.
LEAST_ROWS = 1_000
FOLD_TIMEOUT_S = 30
# Partitions and their indexes count as the table and the index they are parts of.
_SIZES = """
WITH parts AS (
    SELECT oid, relname, relkind, coalesce(inhparent, oid) AS whole
    FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid
    WHERE relnamespace = CAST('public' AS regnamespace)
)
SELECT CAST(CAST(whole AS regclass) AS text), CAST(CAST(whole AS regclass) AS text), sum(pg_table_size(oid))
FROM parts WHERE relkind = 'r' GROUP BY whole
UNION ALL
SELECT CAST(CAST(tables.whole AS regclass) AS text), CAST(CAST(indexes.whole AS regclass) AS text),
       sum(pg_relation_size(indexes.oid))
FROM pg_index JOIN parts AS tables ON tables.oid = indrelid JOIN parts AS indexes ON indexes.oid = indexrelid
WHERE indexes.relkind = 'i' GROUP BY tables.whole, indexes.whole
ORDER BY 1, 2
"""


def measure_sizes(data_dir: Path) -> Figures:
    """Return bytes a row of the table for each table and index, and the table's rows for 1,000 events.

    Waits until all events are folded; tables of fewer than LEAST_ROWS rows are left out.
    """
    server = embedded.locate(data_dir)
    session = psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="pulse")
    session.autocommit = True
    figures: Figures = {}
    with contextlib.closing(session), session.cursor() as cursor:
        deadline = time.monotonic() + FOLD_TIMEOUT_S
        while _count(cursor, "ingest_batches WHERE folded_at IS NULL") and time.monotonic() < deadline:
            time.sleep(0.2)
        cursor.execute(_SIZES)
        sizes = cursor.fetchall()
        rows = {table: _count(cursor, table) for table in dict.fromkeys(table for table, *_ in sizes)}
        for table, name, size in sizes:
            if rows[table] >= LEAST_ROWS:
                line = f"on disk, {table}" if name == table else f"on disk, {table}, index {name}"
                figures[f"{line}: bytes a row"] = round(float(size) / rows[table], 1)
                figures[f"{line}: rows for 1,000 events"] = round(1e3 * rows[table] / rows["events"], 1)
    return figures


def _count(cursor: psycopg2.extensions.cursor, table: str) -> int:
    cursor.execute(f"SELECT count(*) FROM {table}")
    return int(cursor.fetchone()[0])
