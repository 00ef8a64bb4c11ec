-- name: top_values
-- The first `limit` values of every dimension by an exact count, with the sketches of those rows alone: all sketches of
-- a value joined into one bytea and their lengths beside it, as 200 wide rows reach Python in a third of the time of
-- 17,000 narrow ones; LIMIT 1 keeps the planner from joining, which would search the whole history for each value.
-- Weeks that lie wholly in the period and are added up stand for their days. Rows come in no order:
-- sorting such wide rows would spill to disk.
WITH weeks AS MATERIALIZED (
    SELECT week
    FROM generate_series(0, (CAST(:end AS date) - CAST(:monday AS date) + 1) / 7 - 1) AS step
    JOIN summary_weekly ON project_id = :project_id AND week = CAST(:monday AS date) + 7 * step
                       AND dimension = 'total' AND value = ''
), days AS MATERIALIZED (
    SELECT CAST(:start AS date) + step AS day
    FROM generate_series(0, CAST(:end AS date) - CAST(:start AS date)) AS step
    WHERE NOT EXISTS (SELECT FROM weeks WHERE CAST(:start AS date) + step BETWEEN week AND week + 6)
), sums AS (
    SELECT dimension, value,
           CAST(sum(pageviews) AS bigint) AS pageviews, CAST(sum(events) AS bigint) AS events,
           CAST(sum(sessions) AS bigint) AS sessions, CAST(sum(bounces) AS bigint) AS bounces
    FROM (
        SELECT dimension, value, pageviews, events, sessions, bounces
        FROM weeks JOIN summary_weekly AS rollup ON rollup.project_id = :project_id AND rollup.week = weeks.week
        UNION ALL
        SELECT dimension, value, pageviews, events, sessions, bounces
        FROM days JOIN summary_daily AS rollup ON rollup.project_id = :project_id AND rollup.day = days.day
    ) AS spans
    WHERE dimension <> 'total'
    GROUP BY dimension, value
), ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY dimension
        ORDER BY CASE dimension WHEN 'event' THEN events WHEN 'entry_page' THEN sessions WHEN 'exit_page' THEN sessions
                                ELSE pageviews END DESC,
                 value COLLATE "C") AS place
    FROM sums
    -- A late event can take a session from a value again: the row stays, with nothing in it.
    WHERE pageviews > 0 OR events > 0 OR sessions > 0
), shown AS MATERIALIZED (
    SELECT * FROM ranked WHERE place <= :limit
)
SELECT shown.dimension, shown.place, shown.value, shown.pageviews, shown.events, shown.sessions, shown.bounces,
       found.sketches, found.lengths
FROM shown
CROSS JOIN LATERAL (
    SELECT string_agg(visitors, CAST('' AS bytea)) AS sketches, array_agg(length(visitors)) AS lengths
    FROM (
        SELECT visitors FROM weeks CROSS JOIN LATERAL (
            SELECT visitors FROM summary_weekly AS rollup
            WHERE rollup.project_id = :project_id AND rollup.week = weeks.week
              AND rollup.dimension = shown.dimension AND rollup.value = shown.value
            LIMIT 1
        ) AS one_week
        UNION ALL
        SELECT visitors FROM days CROSS JOIN LATERAL (
            SELECT visitors FROM summary_daily AS rollup
            WHERE rollup.project_id = :project_id AND rollup.day = days.day
              AND rollup.dimension = shown.dimension AND rollup.value = shown.value
            LIMIT 1
        ) AS one_day
    ) AS spans
) AS found;
