-- Folding committed batches into sessions and summaries. Blocks marked "wire" are run as COPY (…) TO STDOUT.

-- name: begin_fold
-- One folder or rebuild at a time, for sketches are merged outside the database; waits as long as the statement may run. All that a fold looks up it finds by key: a young partition without statistics must not be scanned instead.
SELECT set_config('lock_timeout', '0', true), set_config('enable_seqscan', 'off', true),
       pg_advisory_xact_lock(7204461150981872);

-- name: begin_rebuild
-- A rebuild reads months at once: no time limits, and in a separate statement, for they count from the next one on.
SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true);

-- name: claim_batches
-- The oldest unfolded batches up to a number of events, at least one batch.
WITH waiting AS (
    SELECT id, sum(events) OVER (ORDER BY id) AS events_so_far, row_number() OVER (ORDER BY id) AS place
    FROM (
        SELECT id, events FROM ingest_batches WHERE folded_at IS NULL ORDER BY id LIMIT :max_batches
    ) oldest
)
SELECT id, events, extract(epoch FROM clock_timestamp() - committed_at)::float8 AS age_s
FROM ingest_batches
WHERE folded_at IS NULL
  AND id = ANY (ARRAY(SELECT id FROM waiting WHERE events_so_far <= :max_events OR place = 1))
ORDER BY id
FOR UPDATE SKIP LOCKED;

-- name: read_projects
-- Time zones; a project can't be deleted before the fold has committed.
SELECT id, timezone FROM projects WHERE id = ANY (:ids) ORDER BY id FOR KEY SHARE;

-- name: remove_again
-- Events of deleted projects that came late, from the spool: the background worker removes these too.
INSERT INTO removals (project_id) SELECT unnest(CAST(:project_ids AS integer[])) ON CONFLICT DO NOTHING;

-- name: read_events
-- Wire: the events of some batches, in the order of columns of reading.py.
SELECT session_key, occurred_at, id, visitor, project_id, client_session,
       CASE event_type WHEN 'pageview' THEN 'p' WHEN 'engagement' THEN 'g' ELSE 'e' END, path,
       CAST('\xfefefefe' AS bytea), hostname, referrer, source, channel,
       utm_source, utm_medium, utm_campaign, utm_term, utm_content,
       CAST('\xfefefefe' AS bytea), country, region, city, language,
       CAST('\xfefefefe' AS bytea), device, browser, os,
       CAST('\xfefefefe' AS bytea), screen_width, screen_height,
       CASE WHEN event_type <> 'pageview' THEN coalesce(nullif(event_name, ''), event_type) END
FROM events
WHERE batch_id = ANY (CAST(:batches AS bigint[]));

-- name: read_events_between
-- Wire: a project's folded events of a time span, in the same columns; those of unfolded batches are counted by the fold to come.
SELECT session_key, occurred_at, id, visitor, project_id, client_session,
       CASE event_type WHEN 'pageview' THEN 'p' WHEN 'engagement' THEN 'g' ELSE 'e' END, path,
       CAST('\xfefefefe' AS bytea), hostname, referrer, source, channel,
       utm_source, utm_medium, utm_campaign, utm_term, utm_content,
       CAST('\xfefefefe' AS bytea), country, region, city, language,
       CAST('\xfefefefe' AS bytea), device, browser, os,
       CAST('\xfefefefe' AS bytea), screen_width, screen_height,
       CASE WHEN event_type <> 'pageview' THEN coalesce(nullif(event_name, ''), event_type) END
FROM events
WHERE project_id = :project_id AND occurred_at >= :start_at AND occurred_at < :end_at
  AND batch_id NOT IN (SELECT id FROM ingest_batches WHERE folded_at IS NULL)
  AND event_type <> 'engagement';

-- name: read_sessions
-- Wire: the sessions that new events of their key may belong to, after where each row is. Looks back a bounded time for their start: the constant bounds leave two or three partitions. A project's keys are looked up together, in the order of the index: one by one, each took 1 µs more. OFFSET 0 keeps the planner, which knows nothing of a young partition, from turning the loop inside out.
SELECT s.*
FROM unnest(CAST(:project_ids AS integer[]), CAST(:starts AS integer[]), CAST(:ends AS integer[]))
     AS k (project_id, first_key, last_key)
CROSS JOIN LATERAL (
    SELECT tableoid, ctid, session_key, started_at, ended_at, first_event_id, visitor, project_id, client_session,
           pageviews, events, entry_at, entry_id, exit_at, exit_id, entry_path, exit_path,
           CAST('\xfefefefe' AS bytea), hostname, referrer, source, channel,
           utm_source, utm_medium, utm_campaign, utm_term, utm_content,
           CAST('\xfefefefe' AS bytea), country, region, city, language,
           CAST('\xfefefefe' AS bytea), device, browser, os
    FROM sessions
    WHERE project_id = k.project_id
      AND session_key = ANY ((CAST(:session_keys AS bigint[]))[k.first_key \: k.last_key])
      AND started_at BETWEEN CAST(:first_at AS timestamptz) AND CAST(:last_at AS timestamptz)
      AND ended_at >= CAST(:open_at AS timestamptz)
    OFFSET 0
) s;

-- name: switch_index_scans
-- 'off' before rows are found by place, or the bounds that leave out partitions would make the planner walk an index; 'on' after it.
SELECT set_config('enable_indexscan', :switch, true), set_config('enable_bitmapscan', :switch, true);

-- name: delete_sessions
-- Rows of one partition by where they are: nobody else writes sessions while a fold runs, so no row can have moved.
DELETE FROM sessions
WHERE tableoid = CAST(:partition AS oid) AND ctid = ANY (CAST(:rows AS tid[]))
  AND started_at BETWEEN CAST(:first_at AS timestamptz) AND CAST(:last_at AS timestamptz);

-- name: make_session_stage
-- What becomes of sessions that go on; made once a connection, emptied at each commit.
CREATE TEMPORARY TABLE IF NOT EXISTS fold_sessions (
    partition   oid NOT NULL,
    place       tid NOT NULL,
    ended_at    timestamptz NOT NULL,
    pageviews   integer NOT NULL,
    events      integer NOT NULL,
    entry_at    timestamptz,
    entry_id    uuid,
    exit_at     timestamptz,
    exit_id     uuid,
    entry_path  text,
    exit_path   text
) ON COMMIT DELETE ROWS;

-- name: update_sessions
-- Those of one partition, by where they are. No index holds what changes: where the page has room none is written to.
UPDATE sessions AS s SET
    ended_at = n.ended_at, pageviews = n.pageviews, events = n.events, entry_at = n.entry_at, entry_id = n.entry_id,
    exit_at = n.exit_at, exit_id = n.exit_id, entry_path = n.entry_path, exit_path = n.exit_path
FROM fold_sessions AS n
WHERE n.partition = CAST(:partition AS oid) AND s.tableoid = n.partition AND s.ctid = n.place
  AND s.started_at BETWEEN CAST(:first_at AS timestamptz) AND CAST(:last_at AS timestamptz);

-- name: read_sessions_between
-- Wire: a project's sessions that began in a time span, in the same columns.
SELECT tableoid, ctid, session_key, started_at, ended_at, first_event_id, visitor, project_id, client_session,
       pageviews, events, entry_at, entry_id, exit_at, exit_id, entry_path, exit_path,
       CAST('\xfefefefe' AS bytea), hostname, referrer, source, channel,
       utm_source, utm_medium, utm_campaign, utm_term, utm_content,
       CAST('\xfefefefe' AS bytea), country, region, city, language,
       CAST('\xfefefefe' AS bytea), device, browser, os
FROM sessions
WHERE project_id = :project_id AND started_at >= :start_at AND started_at < :end_at;

-- name: read_daily
-- Wire: the rows that exist for some keys; sketches only where visitors are to be added.
SELECT k.project_id, k.day, k.dimension, k.value, CASE WHEN k.load THEN s.visitors END AS visitors
FROM json_to_recordset(CAST(:keys AS json)) AS k (project_id integer, day date, dimension text, value text, load boolean)
CROSS JOIN LATERAL (
    SELECT visitors FROM summary_daily
    WHERE project_id = k.project_id AND day = k.day AND dimension = k.dimension AND value = k.value
    OFFSET 0
) s;

-- name: count_values
-- How many values some dimensions of some days hold already.
SELECT k.project_id, k.day, k.dimension, s.values
FROM json_to_recordset(CAST(:groups AS json)) AS k (project_id integer, day date, dimension text)
CROSS JOIN LATERAL (
    SELECT count(*) AS values FROM summary_daily
    WHERE project_id = k.project_id AND day = k.day AND dimension = k.dimension AND value <> :other
) s;

-- name: read_hourly
-- Wire: the sketches that exist for some hours.
SELECT k.project_id, k.starts_at, s.visitors
FROM json_to_recordset(CAST(:keys AS json)) AS k (project_id integer, starts_at timestamptz)
CROSS JOIN LATERAL (
    SELECT visitors FROM summary_hourly WHERE project_id = k.project_id AND starts_at = k.starts_at OFFSET 0
) s;

-- name: read_live
-- Wire: the sketches that exist for some slots.
SELECT k.project_id, k.slot_at, k.path, s.visitors
FROM json_to_recordset(CAST(:keys AS json)) AS k (project_id integer, slot_at timestamptz, path text)
CROSS JOIN LATERAL (
    SELECT visitors FROM summary_live
    WHERE project_id = k.project_id AND slot_at = k.slot_at AND path = k.path
    OFFSET 0
) s;

-- name: make_stage
-- Where summary rows are copied to before they are added up; made once a connection, emptied at each commit.
CREATE TEMPORARY TABLE IF NOT EXISTS fold_stage (
    kind        "char" NOT NULL,     -- d(aily), h(ourly), l(ive), w(eek), m(onth)
    project_id  integer NOT NULL,
    at          timestamptz,         -- hour or slot
    day         date,
    dimension   text,
    value       text,
    last_at     timestamptz,
    pageviews   bigint NOT NULL,
    events      bigint NOT NULL,
    sessions    bigint NOT NULL,
    bounces     bigint NOT NULL,
    duration_ms bigint NOT NULL,
    visitors    bytea NOT NULL
) ON COMMIT DELETE ROWS;

-- name: clear_stage
-- Between the steps of a rebuild, which are one transaction.
TRUNCATE fold_stage;

-- name: add_daily
-- Counts are added; a sketch replaces the one it was made from, empty bytes leave it.
INSERT INTO summary_daily AS s
    (project_id, day, dimension, value, pageviews, events, sessions, bounces, duration_ms, visitors)
SELECT project_id, day, dimension, value, pageviews, events, sessions, bounces, duration_ms, visitors
FROM fold_stage WHERE kind = 'd'
ON CONFLICT (project_id, day, dimension, value) DO UPDATE SET
    pageviews = s.pageviews + excluded.pageviews,
    events = s.events + excluded.events,
    sessions = s.sessions + excluded.sessions,
    bounces = s.bounces + excluded.bounces,
    duration_ms = s.duration_ms + excluded.duration_ms,
    visitors = CASE WHEN excluded.visitors = '' THEN s.visitors ELSE excluded.visitors END;

-- name: add_hourly
-- As add_daily.
INSERT INTO summary_hourly AS s
    (project_id, starts_at, pageviews, events, sessions, bounces, duration_ms, visitors)
SELECT project_id, at, pageviews, events, sessions, bounces, duration_ms, visitors
FROM fold_stage WHERE kind = 'h'
ON CONFLICT (project_id, starts_at) DO UPDATE SET
    pageviews = s.pageviews + excluded.pageviews,
    events = s.events + excluded.events,
    sessions = s.sessions + excluded.sessions,
    bounces = s.bounces + excluded.bounces,
    duration_ms = s.duration_ms + excluded.duration_ms,
    visitors = CASE WHEN excluded.visitors = '' THEN s.visitors ELSE excluded.visitors END;

-- name: add_live
-- As add_daily.
INSERT INTO summary_live AS s (project_id, slot_at, path, last_at, pageviews, events, visitors)
SELECT project_id, at, value, last_at, pageviews, events, visitors
FROM fold_stage WHERE kind = 'l'
ON CONFLICT (project_id, slot_at, path) DO UPDATE SET
    last_at = greatest(s.last_at, excluded.last_at),
    pageviews = s.pageviews + excluded.pageviews,
    events = s.events + excluded.events,
    visitors = CASE WHEN excluded.visitors = '' THEN s.visitors ELSE excluded.visitors END;

-- name: mark_folded
-- In the transaction that counted their events.
UPDATE ingest_batches SET folded_at = now() WHERE id = ANY (CAST(:batches AS bigint[]));

-- name: delete_daily
-- The days that a rebuild counts anew.
DELETE FROM summary_daily WHERE project_id = :project_id AND day BETWEEN :first_day AND :last_day;

-- name: delete_hourly
-- Their hours.
DELETE FROM summary_hourly WHERE project_id = :project_id AND starts_at >= :start_at AND starts_at < :end_at;

-- name: prune_live
-- Slots that no real-time report shows any more.
DELETE FROM summary_live WHERE slot_at < now() - CAST(:keep AS interval);

-- name: prune_batches
-- A bounded number of batches that were folded long ago, oldest first.
DELETE FROM ingest_batches WHERE id IN (
    SELECT id FROM ingest_batches WHERE folded_at < now() - CAST(:keep AS interval) AND goals_counted
    ORDER BY id LIMIT :chunk
);
