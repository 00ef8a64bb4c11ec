-- Days of made-up events for measurements, put in beside the running service.

-- name: begin
-- Many days at once, each project's day by one process; folds and rebuilds, which lock as fold.begin_fold does, wait. Settings as there, without time limits.
SELECT set_config('lock_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true),
       set_config('enable_seqscan', 'off', true), set_config('datestyle', 'ISO', true),
       set_config('timezone', 'UTC', true), pg_advisory_xact_lock_shared(7204461150981872);

-- name: batches_of
-- What one set of days has put in.
SELECT id FROM ingest_batches WHERE writer = CAST(:writer AS uuid);

-- name: days_with_events
-- Days that are not empty.
SELECT project_id, day FROM summary_daily
WHERE project_id = ANY (CAST(:project_ids AS integer[])) AND dimension = 'total' AND value = '' AND events > 0
  AND day BETWEEN CAST(:first_day AS date) AND CAST(:last_day AS date)
ORDER BY project_id, day;
