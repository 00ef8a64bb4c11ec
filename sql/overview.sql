-- name: totals
-- The period's day totals, and its hour totals where `hourly`; a look-up for each day, as the key leads with the day
-- and a plain range would walk every breakdown row between. LIMIT 1 keeps the planner from making a join of it.
SELECT found.day, CAST(NULL AS timestamptz) AS starts_at,
       pageviews, events, sessions, bounces, duration_ms, visitors
FROM generate_series(0, CAST(:days AS integer) - 1) AS step
CROSS JOIN LATERAL (
    SELECT * FROM summary_daily
    WHERE project_id = :project_id AND day = CAST(:start AS date) + step AND dimension = 'total' AND value = ''
    LIMIT 1
) AS found
UNION ALL
SELECT CAST(NULL AS date), starts_at, pageviews, events, sessions, bounces, duration_ms, visitors
FROM summary_hourly
WHERE :hourly AND project_id = :project_id
  AND starts_at >= CAST(:starts_at AS timestamptz) AND starts_at < CAST(:ends_at AS timestamptz);
