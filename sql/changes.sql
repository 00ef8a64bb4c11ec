-- Past days whose summaries have changed: answers about them that the caches keep are out of date.

-- name: lock
-- Held until the commit, so that changes come into sight in the order of their times; the last lock that a transaction takes.
SELECT pg_advisory_xact_lock(7204461150981876);

-- name: note
-- Days that change with this transaction; a range that has changed before gets its new time.
INSERT INTO day_changes (project_id, first_day, last_day, changed_at)
SELECT DISTINCT project_id, first_day, last_day, clock_timestamp()
FROM unnest(CAST(:project_ids AS integer[]), CAST(:first_days AS date[]), CAST(:last_days AS date[]))
     AS changed (project_id, first_day, last_day)
ON CONFLICT (project_id, first_day, last_day) DO UPDATE SET changed_at = excluded.changed_at;

-- name: read
-- A project's changed days with their times in seconds since 1970.
SELECT first_day, last_day, date_part('epoch', changed_at) AS changed_at
FROM day_changes WHERE project_id = :project_id;

-- name: read_of
-- The same of several projects.
SELECT project_id, first_day, last_day, date_part('epoch', changed_at) AS changed_at
FROM day_changes WHERE project_id = ANY (:project_ids);

-- name: prune
-- Changes before which no answer can be kept any more.
DELETE FROM day_changes WHERE changed_at < now() - CAST(:keep AS interval);
