-- name: live_totals
-- The project's slots of ten seconds since `since_at`, oldest first; a look-up for each slot, as the key leads with the
-- time and a range would walk the slots of every page. Sketches only where the active visitors are counted.
SELECT slot_at, pageviews, CASE WHEN slot_at >= CAST(:active_since_at AS timestamptz) THEN visitors END AS visitors
FROM generate_series(CAST(:since_at AS timestamptz), CAST(:until_at AS timestamptz), interval '10 seconds') AS step
CROSS JOIN LATERAL (
    SELECT * FROM summary_live WHERE project_id = :project_id AND slot_at = step AND path = '' LIMIT 1
) AS found
ORDER BY slot_at;

-- name: live_pages
-- The pages most viewed since `active_since_at`, with all their sketches as one bytea and the lengths beside it.
SELECT path, max(last_at) AS last_at, string_agg(visitors, CAST('' AS bytea)) AS sketches,
       array_agg(length(visitors)) AS lengths
FROM summary_live
WHERE project_id = :project_id AND path <> ''
  AND slot_at BETWEEN CAST(:active_since_at AS timestamptz) AND CAST(:until_at AS timestamptz)
GROUP BY path
ORDER BY sum(pageviews) DESC, max(last_at) DESC, path COLLATE "C"
LIMIT :candidates;
