-- Days of made-up events for measurements, put in beside the running service.

-- name: begin
-- Many days at once, each project's day by one process; folds and rebuilds, which lock as fold.begin_fold does, wait. Settings as there, without time limits.
SELECT set_config('lock_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true),
       set_config('enable_seqscan', 'off', true), set_config('datestyle', 'ISO', true),
       set_config('timezone', 'UTC', true), pg_advisory_xact_lock_shared(7204461150981872);

-- name: lock_day
-- One set at a time adds to a day, for sketches are merged outside the database.
SELECT pg_advisory_xact_lock(:project_id, CAST(:day AS date) - DATE '1970-01-01');

-- name: lock_spans
-- One day at a time adds to a project's weeks and months, where they are there already. 0 is no day that is filled.
SELECT pg_advisory_xact_lock(:project_id, 0);

-- name: has_events
-- Whether anything happened in a time span.
SELECT EXISTS (
    SELECT FROM events
    WHERE project_id = :project_id
      AND occurred_at >= to_timestamp(:starts_ms / 1000.0) AND occurred_at < to_timestamp(:ends_ms / 1000.0)
);

-- name: batches_of
-- What one set of days has put in.
SELECT id FROM ingest_batches WHERE writer = CAST(:writer AS uuid);

-- name: days_with_events
-- Days that are not empty.
SELECT project_id, day FROM summary_daily
WHERE project_id = ANY (CAST(:project_ids AS integer[])) AND dimension = 'total' AND value = '' AND events > 0
  AND day BETWEEN CAST(:first_day AS date) AND CAST(:last_day AS date)
ORDER BY project_id, day;

-- name: tables
-- What is to be done for every table, largest first; of a partitioned table all partitions are analysed with it.
SELECT CASE WHEN relkind = 'p' THEN 'ANALYZE ' WHEN relispartition THEN 'VACUUM ' ELSE 'VACUUM (ANALYZE) ' END
       || CAST(CAST(oid AS regclass) AS text)
FROM pg_class
WHERE relkind IN ('r', 'p') AND relnamespace = CAST('public' AS regnamespace)
ORDER BY relkind DESC, pg_relation_size(oid) DESC;
