-- Deleting all that is stored of a visitor. Blocks marked "wire" are run as COPY (…) TO STDOUT.

-- name: request
-- Every batch committed by now, and every one made by the clock or in the spool so far (`before_batch`), is included; so are the parts of one that is stored event by event, which have its millisecond but other counts (20 bits, ingest/batch.py).
INSERT INTO erasures (project_id, visitor, before_batch)
SELECT :project_id, :visitor, greatest(:before_batch, (SELECT max(id) FROM ingest_batches)) | 1048575
RETURNING id;

-- name: list
-- A project's newest erasures, or one of them, with the rebuilds of their days that are still to be done.
SELECT e.id, e.project_id, e.requested_at, e.started_at, e.deleted_at, e.finished_at, e.events, e.sessions,
       e.first_day, e.last_day, e.failure
FROM erasures e
WHERE e.project_id = :project_id AND (CAST(:id AS integer) IS NULL OR e.id = :id)
ORDER BY e.id DESC LIMIT :limit;

-- name: unfinished
-- What is still to be deleted or counted anew, oldest first.
SELECT id, project_id, visitor, before_batch, deleted_at FROM erasures WHERE finished_at IS NULL ORDER BY id;

-- name: begin
-- Work on it has begun; one that a worker left behind goes on where it was. What was stored so far is read next.
UPDATE erasures SET started_at = coalesce(started_at, now()), again = false WHERE id = :id;

-- name: read_events
-- Wire: the visitor's events, oldest first, in the columns of fold.read_events. Nothing finds events by visitor but reading all of the project's: an index would cost every insert.
SELECT session_key, occurred_at, id, visitor, project_id, client_session,
       CASE event_type WHEN 'pageview' THEN 'p' WHEN 'engagement' THEN 'g' ELSE 'e' END, path,
       CAST('\xfefefefe' AS bytea), hostname, referrer, source, channel,
       utm_source, utm_medium, utm_campaign, utm_term, utm_content,
       CAST('\xfefefefe' AS bytea), country, region, city, language,
       CAST('\xfefefefe' AS bytea), device, browser, os,
       CAST('\xfefefefe' AS bytea), screen_width, screen_height,
       CASE WHEN event_type <> 'pageview' THEN coalesce(nullif(event_name, ''), event_type) END
FROM events
WHERE project_id = :project_id AND visitor = :visitor AND batch_id <= :before_batch
ORDER BY events.occurred_at, events.id;

-- name: delete_events
-- Some of them, by key.
DELETE FROM events e
USING json_to_recordset(CAST(:keys AS json)) AS k (occurred_at timestamptz, id uuid)
WHERE e.project_id = :project_id AND e.occurred_at = k.occurred_at AND e.id = k.id
  AND e.occurred_at BETWEEN CAST(:first_at AS timestamptz) AND CAST(:last_at AS timestamptz);

-- name: read_session_events
-- Wire: the folded events within some sessions, in the columns of fold.read_events.
SELECT e.session_key, e.occurred_at, e.id, e.visitor, e.project_id, e.client_session,
       CASE e.event_type WHEN 'pageview' THEN 'p' WHEN 'engagement' THEN 'g' ELSE 'e' END, e.path,
       CAST('\xfefefefe' AS bytea), e.hostname, e.referrer, e.source, e.channel,
       e.utm_source, e.utm_medium, e.utm_campaign, e.utm_term, e.utm_content,
       CAST('\xfefefefe' AS bytea), e.country, e.region, e.city, e.language,
       CAST('\xfefefefe' AS bytea), e.device, e.browser, e.os,
       CAST('\xfefefefe' AS bytea), e.screen_width, e.screen_height,
       CASE WHEN e.event_type <> 'pageview' THEN coalesce(nullif(e.event_name, ''), e.event_type) END
FROM unnest(CAST(:session_keys AS bigint[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS k (session_key, low, high)
JOIN events e ON e.project_id = :project_id AND e.session_key = k.session_key
             AND e.occurred_at BETWEEN to_timestamp(k.low / 1000000.0::float8) AND to_timestamp(k.high / 1000000.0::float8)
WHERE e.batch_id NOT IN (SELECT id FROM ingest_batches WHERE folded_at IS NULL)
  AND e.occurred_at BETWEEN CAST(:first_at AS timestamptz) AND CAST(:last_at AS timestamptz);

-- name: note
-- How far it has come, in the transaction that deleted.
UPDATE erasures
SET events = events + :events, sessions = sessions + :sessions, last_rebuild = :last_rebuild,
    first_day = least(first_day, CAST(:first_day AS date)), last_day = greatest(last_day, CAST(:last_day AS date))
WHERE id = :id;

-- name: end_deleting
-- No event is left, unless some came that the reading may have missed.
UPDATE erasures SET deleted_at = now() WHERE id = :id AND NOT again;

-- name: reopen
-- A batch that waited is stored: whoever was to be forgotten before it was made is so again. `again` stops a deleting that reads an older state from ending; without `deleted_at` a kill after the next beginning loses nothing.
UPDATE erasures SET again = true, deleted_at = NULL, finished_at = NULL, failure = NULL
WHERE before_batch >= :batch_id AND visitor IS NOT NULL AND NOT again;

-- name: forget
-- From here on the rows do not tell whose events they were.
UPDATE erasures SET visitor = NULL WHERE visitor IS NOT NULL AND deleted_at < now() - CAST(:keep AS interval);

-- name: finish
-- When every day is counted anew, and every goal.
UPDATE erasures e
SET finished_at = now(),
    failure = (SELECT min(r.failure) FROM rebuilds r
               WHERE r.project_id = e.project_id AND r.id <= e.last_rebuild AND r.finished_at >= e.requested_at)
WHERE e.id = :id AND e.deleted_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM rebuilds r
                  WHERE r.project_id = e.project_id AND r.id <= e.last_rebuild AND r.finished_at IS NULL)
  AND NOT EXISTS (SELECT FROM goals g JOIN projects p ON p.id = g.project_id
                  WHERE g.project_id = e.project_id AND g.counted_in IS DISTINCT FROM p.timezone);
