-- name: page
-- Events newest first, from the cursor on. At most `scan` events are looked through for a filter's matches: a rare
-- match in ten million events would otherwise take seconds (about 1 µs an event looked at).
SELECT id, occurred_at, event_type, event_name, hostname, path, referrer, source, channel,
       utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city,
       device, browser, browser_version, os, os_version, language, timezone,
       screen_width, screen_height, viewport_width, viewport_height, engagement_ms,
       visitor, session_key, CAST(custom_data AS text) AS custom_data
FROM (
    SELECT * FROM events
    WHERE project_id = :project_id
      AND occurred_at >= CAST(:starts_at AS timestamptz) AND occurred_at < CAST(:ends_at AS timestamptz)
      AND (occurred_at, id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid))
    ORDER BY occurred_at DESC, id DESC
    LIMIT :scan
) AS looked_at
WHERE (CAST(:event_type AS text) IS NULL OR event_type = :event_type)
  AND (CAST(:event_name AS text) IS NULL OR event_name = :event_name)
  AND (CAST(:path AS text) IS NULL OR path = :path)
  AND (CAST(:country AS text) IS NULL OR country = :country)
  AND {conditions}
ORDER BY occurred_at DESC, id DESC
LIMIT :limit;

-- name: last_looked_at
-- The last of the `scan` events looked through, where there are so many.
SELECT occurred_at, id FROM events
WHERE project_id = :project_id
  AND occurred_at >= CAST(:starts_at AS timestamptz) AND occurred_at < CAST(:ends_at AS timestamptz)
  AND (occurred_at, id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid))
ORDER BY occurred_at DESC, id DESC
OFFSET CAST(:scan AS bigint) - 1 LIMIT 1;
