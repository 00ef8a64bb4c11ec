-- name: request_rebuild
-- Days of some projects to count anew; the same wish, still waiting, is not doubled.
INSERT INTO rebuilds (project_id, first_day, last_day)
SELECT id, :first_day, :last_day FROM projects p
WHERE id = ANY (CAST(:project_ids AS integer[])) AND NOT EXISTS (
    SELECT FROM rebuilds r
    WHERE r.project_id = p.id AND r.first_day = :first_day AND r.last_day = :last_day AND r.started_at IS NULL
);

-- name: list_rebuilds
-- The newest rebuilds.
SELECT id, project_id, first_day, last_day, requested_at, started_at, finished_at, events, failure
FROM rebuilds ORDER BY id DESC LIMIT :limit;

-- name: waiting_rebuilds
-- Those of some projects and days that are asked for or under way.
SELECT id, project_id, first_day, last_day, requested_at, started_at, finished_at, events, failure
FROM rebuilds
WHERE finished_at IS NULL AND project_id = ANY (CAST(:project_ids AS integer[]))
  AND first_day = :first_day AND last_day = :last_day
ORDER BY id;

-- name: begin_rebuild
-- The oldest that is not done; one that was begun by a worker that died is begun again.
UPDATE rebuilds SET started_at = now()
WHERE id = (SELECT min(id) FROM rebuilds WHERE finished_at IS NULL)
RETURNING id, project_id, first_day, last_day;

-- name: end_rebuild
-- What came of it.
UPDATE rebuilds SET finished_at = now(), events = :events, failure = :failure WHERE id = :id;

-- name: prune_rebuilds
-- Those done long ago.
DELETE FROM rebuilds WHERE finished_at < now() - INTERVAL '30 days';

-- name: partition_sizes
-- Rows (as last estimated), bytes with indexes, and when statistics were last gathered, of every partition of ours.
SELECT child.relname AS name, CAST(greatest(child.reltuples, 0) AS bigint) AS rows,
       pg_total_relation_size(child.oid) AS bytes,
       greatest(stat.last_analyze, stat.last_autoanalyze) AS analyzed_at,
       coalesce(stat.n_dead_tup, 0) AS dead_rows
FROM pg_inherits
JOIN pg_class parent ON parent.oid = inhparent
JOIN pg_class child ON child.oid = inhrelid
LEFT JOIN pg_stat_all_tables stat ON stat.relid = child.oid
WHERE parent.relname IN ('events', 'sessions', 'event_ids') AND parent.relkind = 'p';

-- name: autovacuum_workers
-- The processes in which PostgreSQL tidies up by itself at present.
SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker';
