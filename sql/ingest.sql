-- name: store
-- One group of events whose ids the service made itself, and its batch row, in one statement: one round trip, one commit.
WITH batch AS (
    INSERT INTO ingest_batches (id, writer, events) VALUES (:batch_id, CAST(:writer AS uuid), :events)
)
INSERT INTO events (
    occurred_at, batch_id, visitor, session_key, id, project_id, engagement_ms, screen_width, screen_height,
    viewport_width, viewport_height, client_session, event_type, event_name, hostname, path, referrer, source, channel,
    utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city, device, browser,
    browser_version, os, os_version, language, timezone, custom_data
)
SELECT
    occurred_at, :batch_id, visitor, session_key, id, project_id, engagement_ms, screen_width, screen_height,
    viewport_width, viewport_height, client_session, event_type, event_name, hostname, path, referrer, source, channel,
    utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city, device, browser,
    browser_version, os, os_version, language, timezone, custom_data
FROM json_to_recordset(CAST(:rows AS json)) AS incoming (
    occurred_at timestamptz, visitor bigint, session_key bigint, id uuid, project_id integer, engagement_ms integer,
    screen_width integer, screen_height integer, viewport_width integer, viewport_height integer,
    client_session boolean, event_type text, event_name text, hostname text, path text, referrer text, source text,
    channel text, utm_source text, utm_medium text, utm_campaign text, utm_term text, utm_content text, country text,
    region text, city text, device text, browser text, browser_version text, os text, os_version text, language text,
    timezone text, custom_data jsonb
);

-- name: store_claiming
-- The same for groups with ids that clients chose: each id is claimed first, and only a claim of ours stores its event.
-- Claims live in weekly partitions. In the first ten minutes of a week an id is claimed in both weeks and the older one
-- decides, so two transactions on either side of the boundary still meet in one unique index; none runs that long.
WITH batch AS (
    INSERT INTO ingest_batches (id, writer, events) VALUES (:batch_id, CAST(:writer AS uuid), :events)
),
incoming AS MATERIALIZED (
    SELECT DISTINCT ON (project_id, id) *
    FROM json_to_recordset(CAST(:rows AS json)) AS incoming (
        occurred_at timestamptz, visitor bigint, session_key bigint, id uuid, project_id integer,
        engagement_ms integer, screen_width integer, screen_height integer, viewport_width integer,
        viewport_height integer, client_session boolean, event_type text, event_name text, hostname text, path text,
        referrer text, source text, channel text, utm_source text, utm_medium text, utm_campaign text, utm_term text,
        utm_content text, country text, region text, city text, device text, browser text, browser_version text,
        os text, os_version text, language text, timezone text, custom_data jsonb
    )
    ORDER BY project_id, id
),
chosen AS (
    SELECT project_id, id
    FROM json_to_recordset(CAST(:claims AS json)) AS c (project_id integer, id uuid)
),
week AS (
    SELECT DISTINCT CAST(date_trunc('week', at AT TIME ZONE 'UTC') AS date) AS starts_on
    FROM (VALUES (now()), (now() - interval '10 minutes')) AS clock (at)
),
claimed AS (
    INSERT INTO event_ids (project_id, id, claimed_in)
    SELECT project_id, id, starts_on
    FROM (SELECT DISTINCT project_id, id FROM chosen) AS ids
    CROSS JOIN week
    WHERE NOT EXISTS (
        SELECT FROM event_ids AS known WHERE known.project_id = ids.project_id AND known.id = ids.id
    )
    ORDER BY project_id, id, starts_on
    ON CONFLICT DO NOTHING
    RETURNING project_id, id, claimed_in
)
INSERT INTO events (
    occurred_at, batch_id, visitor, session_key, id, project_id, engagement_ms, screen_width, screen_height,
    viewport_width, viewport_height, client_session, event_type, event_name, hostname, path, referrer, source, channel,
    utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city, device, browser,
    browser_version, os, os_version, language, timezone, custom_data
)
SELECT
    occurred_at, :batch_id, visitor, session_key, id, project_id, engagement_ms, screen_width, screen_height,
    viewport_width, viewport_height, client_session, event_type, event_name, hostname, path, referrer, source, channel,
    utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city, device, browser,
    browser_version, os, os_version, language, timezone, custom_data
FROM incoming
WHERE (project_id, id) NOT IN (SELECT project_id, id FROM chosen)
   OR (project_id, id) IN (
       SELECT project_id, id FROM claimed WHERE claimed_in = (SELECT min(starts_on) FROM week)
   );

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

-- name: ping
-- Whether PostgreSQL is back and takes writes.
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only;
