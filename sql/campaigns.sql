-- name: campaigns
-- Campaigns by source and medium (by campaign alone unless `split`), best first by `metric`, with the sketches of those
-- shown: joined into one bytea and their lengths beside it. Conversions of campaigns that are beyond the values of a
-- day go where their sessions are, to '(other)'.
WITH spans AS MATERIALIZED (
    SELECT length, starts_on FROM summary_cover(:project_id, CAST(:start AS date), CAST(:end AS date))
), sums AS (
    SELECT value, sum(sessions) AS sessions, sum(pageviews) AS pageviews, sum(bounces) AS bounces,
           sum(duration_ms) AS duration_ms
    FROM spans
    CROSS JOIN LATERAL (
        SELECT value, sessions, pageviews, bounces, duration_ms FROM summary_spans AS s
        WHERE s.project_id = :project_id AND s.length = spans.length AND s.starts_on = spans.starts_on
          AND s.dimension = 'campaign'
        OFFSET 0
    ) AS found
    GROUP BY value
), figures AS (
    SELECT CASE WHEN :split THEN value ELSE split_part(value, chr(31), 1) END AS name, array_agg(value) AS values,
           CAST(sum(sessions) AS bigint) AS sessions, CAST(sum(pageviews) AS bigint) AS pageviews,
           CAST(sum(bounces) AS bigint) AS bounces, CAST(sum(duration_ms) AS bigint) AS duration_ms
    FROM sums
    GROUP BY 1
    -- A late event can give a session to another campaign: the row stays, with nothing in it.
    HAVING sum(sessions) > 0
), labels AS (
    SELECT replace(utm_campaign, chr(31), ' ') AS campaign,
           concat_ws(chr(31), replace(utm_campaign, chr(31), ' '), replace(utm_source, chr(31), ' '),
                     replace(utm_medium, chr(31), ' ')) AS value,
           sum(completions) AS completions
    FROM goal_campaigns
    WHERE goal_id IN (SELECT id FROM goals WHERE project_id = :project_id)
      AND day BETWEEN CAST(:start AS date) AND CAST(:end AS date)
    GROUP BY 1, 2
), named AS (
    -- A value is cut at 2,000 bytes, as rollup/writing.py does.
    SELECT CASE WHEN NOT :split THEN campaign
                WHEN octet_length(value) <= 2000 THEN value
                ELSE left(value, (SELECT max(letters) FROM generate_series(1, 2000) AS letters
                                  WHERE octet_length(left(value, letters)) <= 2000)) END AS name,
           completions
    FROM labels
), converted AS (
    SELECT coalesce(figures.name, '(other)') AS name, CAST(sum(completions) AS bigint) AS conversions
    FROM named LEFT JOIN figures USING (name)
    GROUP BY 1
), shown AS MATERIALIZED (
    SELECT row_number() OVER best AS place, figures.*, coalesce(conversions, 0) AS conversions
    FROM figures LEFT JOIN converted USING (name)
    WINDOW best AS (ORDER BY CASE CAST(:metric AS text) WHEN 'conversions' THEN coalesce(conversions, 0)
                                                        ELSE sessions END DESC,
                             sessions DESC, name COLLATE "C")
    ORDER BY place
    LIMIT :limit OFFSET :skip
)
SELECT shown.name, shown.sessions, shown.pageviews, shown.bounces, shown.duration_ms, shown.conversions,
       found.sketches, found.lengths
FROM shown
CROSS JOIN LATERAL (
    SELECT string_agg(visitors, CAST('' AS bytea)) AS sketches, array_agg(length(visitors)) AS lengths
    FROM unnest(shown.values) AS one_value
    CROSS JOIN spans
    CROSS JOIN LATERAL (
        SELECT visitors FROM summary_spans AS s
        WHERE s.project_id = :project_id AND s.length = spans.length AND s.starts_on = spans.starts_on
          AND s.dimension = 'campaign' AND s.value = one_value
        LIMIT 1
    ) AS one
) AS found
ORDER BY place;

-- name: biggest
-- The campaigns with the most sessions: what the list would begin with, without counting visitors.
SELECT split_part(value, chr(31), 1) AS campaign
FROM summary_cover(:project_id, CAST(:start AS date), CAST(:end AS date)) AS spans
CROSS JOIN LATERAL (
    SELECT value, sessions FROM summary_spans AS s
    WHERE s.project_id = :project_id AND s.length = spans.length AND s.starts_on = spans.starts_on
      AND s.dimension = 'campaign'
    OFFSET 0
) AS found
GROUP BY 1
HAVING sum(sessions) > 0
ORDER BY sum(sessions) DESC, split_part(value, chr(31), 1) COLLATE "C"
LIMIT :limit;

-- name: compare
-- Some campaigns by bucket of days, counted from 1. Campaigns go by their place among `campaigns`.
WITH spans AS MATERIALIZED (
    SELECT bucket, cover.length, cover.starts_on
    FROM unnest(CAST(:firsts AS date[]), CAST(:lasts AS date[])) WITH ORDINALITY AS days (first_day, last_day, bucket)
    CROSS JOIN LATERAL summary_cover(:project_id, first_day, last_day) AS cover
)
SELECT place, bucket, CAST(sum(sessions) AS bigint) AS sessions, CAST(sum(pageviews) AS bigint) AS pageviews,
       CAST(sum(bounces) AS bigint) AS bounces, CAST(sum(duration_ms) AS bigint) AS duration_ms,
       string_agg(visitors, CAST('' AS bytea)) AS sketches, array_agg(length(visitors)) AS lengths
FROM spans
CROSS JOIN LATERAL (
    SELECT array_position(CAST(:campaigns AS text[]), split_part(value, chr(31), 1)) AS place,
           sessions, pageviews, bounces, duration_ms, visitors
    FROM summary_spans AS s
    WHERE s.project_id = :project_id AND s.length = spans.length AND s.starts_on = spans.starts_on
      AND s.dimension = 'campaign'
    OFFSET 0
) AS found
WHERE place IS NOT NULL
GROUP BY place, bucket;

-- name: compare_hours
-- Sessions and visitors of some campaigns by hour, which summaries don't hold. Campaigns go by their place.
SELECT place, hour, count(*) AS visitors, CAST(sum(sessions) AS bigint) AS sessions
FROM (
    SELECT array_position(CAST(:campaigns AS text[]), replace(utm_campaign, chr(31), ' ')) AS place,
           width_bucket(started_at, CAST(:hours AS timestamptz[])) AS hour, visitor, count(*) AS sessions
    FROM sessions
    WHERE project_id = :project_id AND utm_campaign IS NOT NULL AND events > 0
      AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
    GROUP BY 1, 2, 3
) AS visits
WHERE place IS NOT NULL
GROUP BY place, hour;

-- name: conversions
-- Completions of all goals in sessions of some campaigns: in the period, and in the one before.
SELECT replace(utm_campaign, chr(31), ' ') AS campaign,
       CAST(coalesce(sum(completions) FILTER (WHERE day >= CAST(:start AS date)), 0) AS bigint) AS current,
       CAST(coalesce(sum(completions) FILTER (WHERE day < CAST(:start AS date)), 0) AS bigint) AS previous
FROM goal_campaigns
WHERE goal_id IN (SELECT id FROM goals WHERE project_id = :project_id)
  AND day BETWEEN CAST(:previous_start AS date) AND CAST(:end AS date)
  AND replace(utm_campaign, chr(31), ' ') = ANY (CAST(:campaigns AS text[]))
GROUP BY 1;

-- name: has_goals
-- Without goals there is no such thing as a conversion.
SELECT EXISTS (SELECT FROM goals WHERE project_id = :project_id);
