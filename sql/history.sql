-- name: lock
-- One writer at a time: an old leader may still be at its last write when the next one begins.
LOCK TABLE performance_open_steps IN EXCLUSIVE MODE;

-- name: last_sample
-- The start of the newest step of a length, in epoch seconds; null before the first.
SELECT extract(epoch FROM max(starts_at))::bigint FROM performance_samples WHERE step_s = :step_s;

-- name: open_steps
-- The steps under way and what they add up to so far.
SELECT step_s, extract(epoch FROM starts_at)::bigint AS starts_at, sums FROM performance_open_steps;

-- name: write_sample
-- Write a step, or what it has become.
INSERT INTO performance_samples (step_s, starts_at, available_minutes, figures)
VALUES (:step_s, to_timestamp(:starts_at), :available_minutes, CAST(:figures AS real[]))
ON CONFLICT (step_s, starts_at) DO UPDATE
SET available_minutes = excluded.available_minutes, figures = excluded.figures;

-- name: write_open_step
-- Keep what a step under way adds up to.
INSERT INTO performance_open_steps (step_s, starts_at, sums)
VALUES (:step_s, to_timestamp(:starts_at), :sums)
ON CONFLICT (step_s) DO UPDATE SET starts_at = excluded.starts_at, sums = excluded.sums;

-- name: prune_samples
-- Delete what is older than a step is kept; reads the key's index.
DELETE FROM performance_samples WHERE step_s = :step_s AND starts_at < to_timestamp(:before);

-- name: prune_starts
-- Delete start marks that no graph shows any more.
DELETE FROM performance_starts WHERE started_at < to_timestamp(:before);

-- name: samples
-- The steps of a range, oldest first.
SELECT extract(epoch FROM starts_at)::bigint AS starts_at, figures
FROM performance_samples
WHERE step_s = :step_s AND starts_at >= to_timestamp(:first)
ORDER BY starts_at;

-- name: starts
-- Starts of a range, oldest first; the newest thousand.
SELECT extract(epoch FROM started_at)::float8 AS started_at, node, version, commit
FROM (SELECT * FROM performance_starts WHERE started_at >= to_timestamp(:first) ORDER BY started_at DESC LIMIT 1000) s
ORDER BY started_at;

-- name: note_start
-- Note that a release was started somewhere; noting it again changes nothing.
INSERT INTO performance_starts (started_at, node, version, commit)
VALUES (to_timestamp(:started_at), :node, :version, :commit)
ON CONFLICT DO NOTHING;

-- name: available_minutes
-- Good minutes of a range, by steps of one length.
SELECT coalesce(sum(available_minutes), 0)::int
FROM performance_samples
WHERE step_s = :step_s AND starts_at >= to_timestamp(:first) AND starts_at < to_timestamp(:until);

-- name: first_samples
-- The oldest minute and the oldest hour kept, in epoch seconds; null before any.
SELECT extract(epoch FROM (SELECT min(starts_at) FROM performance_samples WHERE step_s = 60))::bigint AS minute,
       extract(epoch FROM (SELECT min(starts_at) FROM performance_samples WHERE step_s = 3600))::bigint AS hour;

-- name: add_statement
-- Add what a named statement did since it was looked at last to a step.
INSERT INTO performance_statements (step_s, starts_at, name, calls, total_ms, slow)
VALUES (:step_s, to_timestamp(:starts_at), :name, :calls, :total_ms, :slow)
ON CONFLICT (name, step_s, starts_at) DO UPDATE
SET calls = performance_statements.calls + excluded.calls,
    total_ms = performance_statements.total_ms + excluded.total_ms,
    slow = performance_statements.slow + excluded.slow;

-- name: statement_steps
-- The steps of one statement, oldest first.
SELECT extract(epoch FROM starts_at)::bigint AS starts_at, calls, total_ms, slow
FROM performance_statements
WHERE name = :name AND step_s = :step_s AND starts_at >= to_timestamp(:first)
ORDER BY starts_at;

-- name: prune_statements
-- Delete the steps of statements that are past their time.
DELETE FROM performance_statements WHERE step_s = :step_s AND starts_at < to_timestamp(:before);
