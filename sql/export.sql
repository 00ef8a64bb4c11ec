-- name: days
-- Every day of a period in order, those without an event included.
SELECT CAST(:start AS date) + step AS day, coalesce(pageviews, 0) AS pageviews, coalesce(events, 0) AS events,
       coalesce(sessions, 0) AS sessions, coalesce(bounces, 0) AS bounces, coalesce(duration_ms, 0) AS duration_ms,
       coalesce(visitors, CAST('' AS bytea)) AS visitors
FROM generate_series(0, CAST(:days AS integer) - 1) AS step
LEFT JOIN summary_daily ON project_id = :project_id AND summary_daily.day = CAST(:start AS date) + step
                       AND dimension = 'total' AND value = ''
ORDER BY step;

-- name: events
-- The events of a period that pass the filters, oldest first: in the order of the key, so that nothing is sorted and the
-- first row comes at once, however many follow.
SELECT id, occurred_at, event_type, event_name, hostname, path, referrer, source, channel,
       utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city,
       device, browser, browser_version, os, os_version, language, timezone,
       screen_width, screen_height, viewport_width, viewport_height, engagement_ms,
       visitor, session_key, CAST(custom_data AS text) AS custom_data
FROM events
WHERE project_id = :project_id
  AND occurred_at >= CAST(:starts_at AS timestamptz) AND occurred_at < CAST(:ends_at AS timestamptz)
  AND (CAST(:event_type AS text) IS NULL OR event_type = :event_type)
  AND (CAST(:event_name AS text) IS NULL OR event_name = :event_name)
  AND (CAST(:path AS text) IS NULL OR path = :path)
  AND (CAST(:country AS text) IS NULL OR country = :country)
  AND {conditions}
ORDER BY occurred_at, id;
