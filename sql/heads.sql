-- The first values of each dimension of days, weeks and months, kept so that reports need not add up all values.

-- name: read
-- The spans that make up a period, with their heads where these are kept; without those in which nothing happened.
SELECT cover.length, cover.starts_on, head.late, head.packed
FROM summary_cover(:project_id, CAST(:start AS date), CAST(:end AS date)) AS cover
LEFT JOIN LATERAL (
    SELECT late, packed FROM summary_heads AS h
    WHERE h.project_id = :project_id AND h.length = cover.length AND h.starts_on = cover.starts_on
    LIMIT 1
) AS head ON true
WHERE head.packed IS NOT NULL OR EXISTS (
    SELECT FROM summary_spans AS s
    WHERE s.project_id = :project_id AND s.length = cover.length AND s.starts_on = cover.starts_on
      AND dimension = 'total' AND value = ''
);

-- name: rank
-- The first values of each dimension of some spans, best first, by the figure that its list is ordered by.
SELECT spans.length, spans.starts_on, dimension, value, weight
FROM unnest(CAST(:lengths AS text[]), CAST(:starts AS date[])) AS spans (length, starts_on)
CROSS JOIN LATERAL (
    SELECT dimension, value, weight,
           row_number() OVER (PARTITION BY dimension ORDER BY weight DESC, value COLLATE "C") AS place
    FROM (
        SELECT dimension, value,
               CASE dimension WHEN 'event' THEN events WHEN 'entry_page' THEN sessions WHEN 'exit_page' THEN sessions
                              ELSE pageviews END AS weight
        FROM summary_spans AS s
        WHERE s.project_id = :project_id AND s.length = spans.length AND s.starts_on = spans.starts_on
          AND dimension NOT IN ('total', 'campaign') AND (pageviews > 0 OR events > 0 OR sessions > 0)
        OFFSET 0
    ) AS weighed
) AS ranked
WHERE place <= :most
ORDER BY spans.length, spans.starts_on, dimension, place;

-- name: find
-- Spans that are over and have no head, or an old one of before late changes; newest first.
SELECT project_id, length, starts_on
FROM (
    SELECT p.id AS project_id, lengths.length, CAST(step AS date) AS starts_on
    FROM projects AS p
    CROSS JOIN LATERAL (SELECT min(day) AS first_day FROM summary_daily WHERE project_id = p.id) AS history
    CROSS JOIN (VALUES ('day', interval '1 day'), ('week', interval '7 days'), ('month', interval '1 month'))
         AS lengths (length, every)
    CROSS JOIN LATERAL generate_series(date_trunc(lengths.length, CAST(first_day AS timestamp)),
                                       (CAST(:now AS timestamptz) - interval '1 hour') AT TIME ZONE p.timezone - every,
                                       every) AS step
    WHERE NOT EXISTS (
        SELECT FROM summary_heads AS h
        WHERE h.project_id = p.id AND h.length = lengths.length AND h.starts_on = CAST(step AS date)
          AND (late = 0 OR made_at > CAST(:now AS timestamptz) - CAST(:rest AS interval))
    )
    OFFSET 0
) AS over
WHERE EXISTS (
    SELECT FROM summary_spans AS s
    WHERE s.project_id = over.project_id AND s.length = over.length AND s.starts_on = over.starts_on
      AND dimension = 'total' AND value = ''
)
ORDER BY starts_on DESC
LIMIT :limit;

-- name: write
-- One head, in place of an older one; none of a span whose rows are being counted anew.
INSERT INTO summary_heads (project_id, length, starts_on, packed)
SELECT :project_id, :length, CAST(:starts_on AS date), :packed
WHERE EXISTS (
    SELECT FROM summary_spans AS s
    WHERE s.project_id = :project_id AND s.length = :length AND s.starts_on = CAST(:starts_on AS date)
      AND dimension = 'total' AND value = ''
)
ON CONFLICT (project_id, length, starts_on) DO UPDATE
SET packed = excluded.packed, late = 0, made_at = excluded.made_at;

-- name: note_late
-- By how much what is staged changes spans that have a head; run in every transaction that changes summaries.
UPDATE summary_heads AS h SET late = late + changed.amount
FROM (
    SELECT project_id, length, starts_on, max(amount) AS amount
    FROM (
        SELECT project_id, CASE kind WHEN 'd' THEN 'day' WHEN 'w' THEN 'week' ELSE 'month' END AS length,
               day AS starts_on, CAST(sum(abs(pageviews) + abs(events) + abs(sessions)) AS bigint) AS amount
        FROM fold_stage WHERE kind IN ('d', 'w', 'm')
        GROUP BY project_id, kind, day, dimension
    ) AS dimensions
    GROUP BY project_id, length, starts_on
) AS changed
WHERE h.project_id = changed.project_id AND h.length = changed.length AND h.starts_on = changed.starts_on;

-- name: forget_between
-- Heads of spans with days that are counted anew.
DELETE FROM summary_heads
WHERE project_id = :project_id AND starts_on <= CAST(:last_day AS date)
  AND starts_on + CASE length WHEN 'day' THEN interval '1 day' WHEN 'week' THEN interval '7 days'
                              ELSE interval '1 month' END > CAST(:first_day AS date);

-- name: remove
-- All of a deleted project.
DELETE FROM summary_heads WHERE project_id = :project_id;
