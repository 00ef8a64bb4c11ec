-- name: store
-- One group of events and its batch row in one round trip, one commit; migration 005_store_events.sql says how.
-- does: INSERT INTO events, event_ids, ingest_batches
SELECT store_events(
    :batch_id, CAST(:writer AS uuid), :events, CAST(:plain AS json), CAST(:claiming AS json)
);

-- name: copy_events
-- Rows of the group just named, as lines; follows `store` in the same transaction.
COPY events (
    batch_id, occurred_at, visitor, session_key, id, project_id, client_session, event_type, channel, device,
    engagement_ms, screen_width, screen_height, viewport_width, viewport_height, event_name, hostname, path,
    referrer, source, utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city, browser,
    browser_version, os, os_version, language, timezone, custom_data
) FROM STDIN (FORMAT csv, NULL 'null', ESCAPE '\');

-- name: is_stored
-- Whether a group whose answer was lost had been committed after all.
SELECT count(*) FROM ingest_batches WHERE id = :batch_id AND writer = CAST(:writer AS uuid);

-- name: count_drops
-- Events that were answered but not stored, by reason.
INSERT INTO ingest_drops (project_id, day, reason, events)
SELECT project_id, day, reason, events
FROM json_to_recordset(CAST(:drops AS json)) AS d (project_id integer, day date, reason text, events bigint)
JOIN projects ON projects.id = d.project_id
ORDER BY project_id, day, reason
ON CONFLICT (project_id, day, reason) DO UPDATE SET events = ingest_drops.events + excluded.events;

-- name: probe
-- Fails while PostgreSQL is away, takes no writes, or somebody has locked the events; stores nothing.
INSERT INTO events SELECT * FROM events WHERE false;
