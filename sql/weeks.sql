-- name: find_weeks
-- Weeks that ended before `settled_on`, have days and are not added up yet, newest first: those are asked for most.
SELECT days.project_id, days.week
FROM (SELECT DISTINCT project_id, CAST(date_trunc('week', day) AS date) AS week
      FROM summary_daily WHERE dimension = 'total' AND value = '' AND day < CAST(:settled_on AS date)) AS days
LEFT JOIN summary_weekly ON summary_weekly.project_id = days.project_id AND summary_weekly.week = days.week
                        AND dimension = 'total' AND value = ''
WHERE days.week + 7 <= CAST(:settled_on AS date) AND summary_weekly.project_id IS NULL
ORDER BY days.week DESC, days.project_id
LIMIT :limit;

-- name: read_week
-- The week's day rows added up, with their sketches as one bytea and the lengths beside it.
SELECT dimension, value, CAST(sum(pageviews) AS bigint) AS pageviews, CAST(sum(events) AS bigint) AS events,
       CAST(sum(sessions) AS bigint) AS sessions, CAST(sum(bounces) AS bigint) AS bounces,
       CAST(sum(duration_ms) AS bigint) AS duration_ms,
       string_agg(visitors, CAST('' AS bytea)) AS sketches, array_agg(length(visitors)) AS lengths
FROM summary_daily
WHERE project_id = :project_id AND day BETWEEN CAST(:week AS date) AND CAST(:week AS date) + 6
GROUP BY dimension, value;

-- name: write_week
-- Sketches come as hexadecimal text; a week that is there already stays.
INSERT INTO summary_weekly
    (project_id, week, dimension, value, pageviews, events, sessions, bounces, duration_ms, visitors)
SELECT :project_id, CAST(:week AS date), dimension, value, pageviews, events, sessions, bounces, duration_ms,
       decode(visitors, 'hex')
FROM json_to_recordset(CAST(:rows AS json)) AS row (dimension text, value text, pageviews bigint, events bigint,
                                                    sessions bigint, bounces bigint, duration_ms bigint, visitors text)
ON CONFLICT DO NOTHING;

-- name: forget_weeks
-- Weeks of which a day has changed.
DELETE FROM summary_weekly
USING unnest(CAST(:project_ids AS integer[]), CAST(:weeks AS date[])) AS changed (project_id, week)
WHERE summary_weekly.project_id = changed.project_id AND summary_weekly.week = changed.week;

-- name: forget_span
-- Weeks of the days that a rebuild counts anew.
DELETE FROM summary_weekly
WHERE project_id = :project_id AND week BETWEEN CAST(:first_day AS date) - 6 AND CAST(:last_day AS date);
