-- name: limit_time
-- Of each statement until the end of the transaction: nothing finds events by visitor but reading a project's.
SELECT set_config('statement_timeout', '120000', true);

-- name: first_and_last
-- The instants between which a project has events; null without any.
SELECT (SELECT min(occurred_at) FROM events WHERE project_id = :project_id) AS first_at,
       (SELECT max(occurred_at) FROM events WHERE project_id = :project_id) AS last_at;

-- name: events
-- A visitor's events of a span, oldest first.
SELECT id, occurred_at, event_type, event_name, hostname, path, referrer, source, channel,
       utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city,
       device, browser, browser_version, os, os_version, language, timezone,
       screen_width, screen_height, viewport_width, viewport_height, engagement_ms,
       visitor, session_key, CAST(custom_data AS text) AS custom_data
FROM events
WHERE project_id = :project_id
  AND occurred_at >= CAST(:starts_at AS timestamptz) AND occurred_at < CAST(:ends_at AS timestamptz)
  AND visitor = :visitor
ORDER BY occurred_at, id;

-- name: sessions
-- A visitor's sessions that began in a span, oldest first.
SELECT session_key, started_at, ended_at, client_session, pageviews, events, entry_path, exit_path, hostname, referrer,
       source, channel, utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city, device,
       browser, os, language
FROM sessions
WHERE project_id = :project_id AND visitor = :visitor
  AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
ORDER BY started_at, session_key;
