-- Visits and their events as columns: read from the facts, and kept for past days in day_segments. {braces} take parts
-- and conditions, whose values stay parameters.

-- name: visits_between
-- Part of `read`: the visits that began in a time span.
SELECT * FROM sessions
WHERE project_id = :project_id
  AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
  AND events > 0 AND {visit_conditions}

-- name: visits_of_keys
-- Part of `read`: the visits of some keys, each key's of a time span of its own.
SELECT found.*
FROM unnest(CAST(:keys AS bigint[]), CAST(:lows AS timestamptz[]), CAST(:highs AS timestamptz[])) AS k (key, low, high)
CROSS JOIN LATERAL (
    SELECT * FROM sessions
    WHERE project_id = :project_id AND session_key = k.key AND started_at >= k.low AND started_at < k.high
      AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
      AND events > 0 AND {visit_conditions}
    OFFSET 0
) AS found

-- name: events_between
-- Part of `read`: the events of all visits, in one pass over the span they lie in.
SELECT number, entry_id, id, path, event_type, event_name, screen_width, screen_height
FROM visits
JOIN (
    SELECT * FROM events
    WHERE project_id = :project_id AND occurred_at >= CAST(:starts_at AS timestamptz)
      AND occurred_at <= (SELECT max(ended_at) FROM visits) AND event_type <> 'engagement'
      AND batch_id NOT IN (SELECT id FROM ingest_batches WHERE folded_at IS NULL) AND {event_conditions}
) AS passing ON passing.session_key = visits.session_key AND occurred_at BETWEEN visits.started_at AND ended_at

-- name: events_of_each
-- Part of `read`: the events of few visits, looked for one visit after the other.
SELECT number, entry_id, id, path, event_type, event_name, screen_width, screen_height
FROM visits
CROSS JOIN LATERAL (
    SELECT * FROM events
    WHERE project_id = :project_id AND occurred_at BETWEEN visits.started_at AND visits.ended_at
      AND events.session_key = visits.session_key AND event_type <> 'engagement'
      AND batch_id NOT IN (SELECT id FROM ingest_batches WHERE folded_at IS NULL) AND {event_conditions}
    OFFSET 0
) AS passing

-- name: read
-- One row of JSON arrays, columns of the visits in order of their beginning and columns of their events in any order. Events that wait for the fold are left to it, as their visits are.
WITH visits AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY started_at, session_key) - 1 AS number, session_key, visitor, started_at, ended_at,
           pageviews, events, entry_id, {attributes}
    FROM ({visits}) AS found
)
SELECT of_visits.*, of_events.*
FROM (
    SELECT {visit_arrays}
    FROM (SELECT *, CAST(floor(date_part('epoch', started_at - CAST(:starts_at AS timestamptz)) / 60) AS integer) AS minute,
                 CAST(round(date_part('epoch', ended_at - started_at) * 1000) AS bigint) AS duration_ms
          FROM visits ORDER BY number) AS ordered
) AS of_visits
CROSS JOIN (
    SELECT {event_arrays}
    FROM (SELECT number, CAST(id IS NOT DISTINCT FROM entry_id AS integer) AS is_entry, path, event_type, event_name,
                 screen_width || 'x' || screen_height AS screen
          FROM ({events}) AS hits) AS hits
) AS of_events;

-- name: find
-- The packed days that begin in a time span, without what they hold.
SELECT starts_at, ends_at, visits, hits, loose
FROM day_segments
WHERE project_id = :project_id AND packed_at IS NOT NULL
  AND starts_at >= CAST(:starts_at AS timestamptz) AND starts_at < CAST(:ends_at AS timestamptz)
ORDER BY starts_at;

-- name: load
-- Some columns of some days.
SELECT starts_at, {columns}
FROM day_segments
WHERE project_id = :project_id AND packed_at IS NOT NULL AND starts_at = ANY (CAST(:days AS timestamptz[]))
ORDER BY starts_at;

-- name: visits_of_days
-- About how many visits each of some days has, for a choice between ways of counting.
SELECT day, sessions
FROM summary_daily
WHERE project_id = :project_id AND day = ANY (CAST(:days AS date[])) AND dimension = 'total' AND value = '';

-- name: projects
-- The projects that are busy enough for packs, with the first of their days that raw events are kept of.
SELECT project_id, timezone, min(day) AS first_day
FROM summary_daily
JOIN projects ON projects.id = project_id
WHERE dimension = 'total' AND value = '' AND day >= CAST(:kept_since AS date)
GROUP BY project_id, timezone
HAVING max(sessions) >= :visits
ORDER BY project_id;

-- name: packs
-- Every pack there is, and whether it is to be made anew: much has changed since, or little long ago, or it was begun and given up.
SELECT project_id, starts_at, ends_at,
       CASE WHEN packed_at IS NULL THEN begun_at < now() - CAST(:patience AS interval)
            ELSE cardinality(loose) > :many OR loose <> '{}' AND packed_at < now() - CAST(:rest AS interval) END AS is_due
FROM day_segments;

-- name: begin
-- From the commit on, what changes in the day is noted in the row; called with the fold's lock, so that nothing is under way. Nothing happens for a project that is gone.
INSERT INTO day_segments (project_id, starts_at, ends_at)
SELECT id, CAST(:starts_at AS timestamptz), CAST(:ends_at AS timestamptz) FROM projects
WHERE id = :project_id FOR KEY SHARE
RETURNING begun_at;

-- name: finish
-- The pack is there, unless its row was deleted meanwhile.
UPDATE day_segments SET packed_at = now(), visits = :visits, hits = :hits, {assignments}
WHERE project_id = :project_id AND starts_at = CAST(:starts_at AS timestamptz)
  AND begun_at = CAST(:begun_at AS timestamptz) AND packed_at IS NULL;

-- name: loosen
-- Sessions that began in packed days and changed. A day is under 48 hours long, which bounds the rows looked at.
UPDATE day_segments AS kept
SET loose = ARRAY(SELECT DISTINCT unnest(kept.loose || found.keys))
FROM (
    SELECT s.project_id, s.starts_at, array_agg(DISTINCT session_key) AS keys
    FROM unnest(CAST(:project_ids AS integer[]), CAST(:session_keys AS bigint[]), CAST(:starts AS bigint[]))
         AS t (project_id, session_key, started_us)
    CROSS JOIN LATERAL (SELECT to_timestamp(started_us / 1000000.0) AS started_at) AS clock
    JOIN day_segments AS s ON s.project_id = t.project_id AND s.starts_at <= started_at
                          AND s.starts_at > started_at - interval '2 days' AND s.ends_at > started_at
    GROUP BY s.project_id, s.starts_at
) AS found
WHERE kept.project_id = found.project_id AND kept.starts_at = found.starts_at AND NOT kept.loose @> found.keys;

-- name: forget
-- The packs that hold some sessions of a project, or held them before they moved to another day.
DELETE FROM day_segments AS s
USING unnest(CAST(:session_keys AS bigint[]), CAST(:starts AS bigint[])) AS t (session_key, started_us)
WHERE s.project_id = :project_id
  AND (session_key = ANY (loose)
       OR to_timestamp(started_us / 1000000.0) >= starts_at AND to_timestamp(started_us / 1000000.0) < ends_at);

-- name: forget_day
-- One pack.
DELETE FROM day_segments WHERE project_id = :project_id AND starts_at = CAST(:starts_at AS timestamptz);

-- name: forget_project
-- All packs of a project.
DELETE FROM day_segments WHERE project_id = :project_id;

-- name: forget_before
-- Packs that begin before raw events are kept.
DELETE FROM day_segments WHERE starts_at < CAST(:day AS timestamptz);
