-- Past weeks and months added up. `{length}` is put in: week or month, which is also the name of the table's column.

-- name: find
-- Spans that ended before `settled_on`, have days and are not added up yet, newest first: those are asked for most.
SELECT days.project_id, days.starts_on
FROM (SELECT DISTINCT project_id, CAST(date_trunc('{length}', day) AS date) AS starts_on
      FROM summary_daily WHERE dimension = 'total' AND value = '' AND day < CAST(:settled_on AS date)) AS days
LEFT JOIN {table} AS found ON found.project_id = days.project_id AND found.{length} = days.starts_on
                          AND dimension = 'total' AND value = ''
WHERE days.starts_on + interval '1 {length}' <= CAST(:settled_on AS date) AND found.project_id IS NULL
ORDER BY days.starts_on DESC, days.project_id
LIMIT :limit;

-- name: read
-- The span's day rows added up, with their sketches as one bytea and the lengths beside it.
SELECT dimension, value, CAST(sum(pageviews) AS bigint) AS pageviews, CAST(sum(events) AS bigint) AS events,
       CAST(sum(sessions) AS bigint) AS sessions, CAST(sum(bounces) AS bigint) AS bounces,
       CAST(sum(duration_ms) AS bigint) AS duration_ms,
       string_agg(visitors, CAST('' AS bytea)) AS sketches, array_agg(length(visitors)) AS lengths
FROM summary_daily
WHERE project_id = :project_id
  AND day >= CAST(:starts_on AS date) AND day < CAST(:starts_on AS date) + interval '1 {length}'
GROUP BY dimension, value;

-- name: write
-- Sketches come as hexadecimal text; a span that is there already stays.
INSERT INTO {table}
    (project_id, {length}, dimension, value, pageviews, events, sessions, bounces, duration_ms, visitors)
SELECT :project_id, CAST(:starts_on AS date), dimension, value, pageviews, events, sessions, bounces, duration_ms,
       decode(visitors, 'hex')
FROM json_to_recordset(CAST(:rows AS json)) AS row (dimension text, value text, pageviews bigint, events bigint,
                                                    sessions bigint, bounces bigint, duration_ms bigint, visitors text)
ON CONFLICT DO NOTHING;

-- name: find_of_days
-- The spans of some days, where they are added up.
SELECT project_id, day, found.starts_on
FROM unnest(CAST(:project_ids AS integer[]), CAST(:days AS date[])) AS changed (project_id, day)
CROSS JOIN LATERAL (
    SELECT {length} AS starts_on FROM {table} AS s
    WHERE s.project_id = changed.project_id AND s.{length} = CAST(date_trunc('{length}', changed.day) AS date)
      AND dimension = 'total' AND value = ''
    LIMIT 1
) AS found;

-- name: read_sketches
-- The sketches that exist for some keys.
SELECT k.project_id, k.day, k.dimension, k.value, s.visitors
FROM json_to_recordset(CAST(:keys AS json)) AS k (project_id integer, day date, dimension text, value text)
CROSS JOIN LATERAL (
    SELECT visitors FROM {table}
    WHERE project_id = k.project_id AND {length} = k.day AND dimension = k.dimension AND value = k.value
    OFFSET 0
) s;

-- name: add
-- What late events change, in spans that are added up; as add_daily of the fold.
INSERT INTO {table} AS s
    (project_id, {length}, dimension, value, pageviews, events, sessions, bounces, duration_ms, visitors)
SELECT project_id, day, dimension, value, pageviews, events, sessions, bounces, duration_ms, visitors
FROM fold_stage WHERE kind = left('{length}', 1)
ON CONFLICT (project_id, {length}, dimension, value) DO UPDATE SET
    pageviews = s.pageviews + excluded.pageviews,
    events = s.events + excluded.events,
    sessions = s.sessions + excluded.sessions,
    bounces = s.bounces + excluded.bounces,
    duration_ms = s.duration_ms + excluded.duration_ms,
    visitors = CASE WHEN excluded.visitors = '' THEN s.visitors ELSE excluded.visitors END;

-- name: forget_between
-- Spans of the days that a rebuild counts anew.
DELETE FROM {table}
WHERE project_id = :project_id
  AND {length} BETWEEN date_trunc('{length}', CAST(:first_day AS date)) AND CAST(:last_day AS date);

-- name: remove
-- All of a deleted project.
DELETE FROM {table} WHERE project_id = :project_id;
