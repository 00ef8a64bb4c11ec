-- name: next_removal
-- A deleted project that still has rows somewhere.
SELECT project_id FROM removals ORDER BY requested_at LIMIT 1;

-- name: remove_events
-- A piece of its events; short transactions let ingestion and the fold go on.
DELETE FROM events WHERE (tableoid, ctid) IN (
    SELECT tableoid, ctid FROM events WHERE project_id = :project_id LIMIT :rows
);

-- name: remove_sessions
-- A piece of its sessions.
DELETE FROM sessions WHERE (tableoid, ctid) IN (
    SELECT tableoid, ctid FROM sessions WHERE project_id = :project_id LIMIT :rows
);

-- name: remove_event_ids
-- A piece of its clients' event ids.
DELETE FROM event_ids WHERE (tableoid, ctid) IN (
    SELECT tableoid, ctid FROM event_ids WHERE project_id = :project_id LIMIT :rows
);

-- name: remove_daily
-- A piece of its daily summaries.
DELETE FROM summary_daily WHERE ctid IN (
    SELECT ctid FROM summary_daily WHERE project_id = :project_id LIMIT :rows
);

-- name: remove_hourly
-- Its hourly summaries.
DELETE FROM summary_hourly WHERE project_id = :project_id;

-- name: remove_live
-- Its real-time slots.
DELETE FROM summary_live WHERE project_id = :project_id;

-- name: remove_drops
-- Its counts of events that were not stored.
DELETE FROM ingest_drops WHERE project_id = :project_id;

-- name: finish_removal
-- Nothing is left of it.
DELETE FROM removals WHERE project_id = :project_id;
