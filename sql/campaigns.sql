-- name: campaigns
-- Sessions that campaigns brought, by campaign, source and medium (by campaign alone unless `split`), best first by
-- `metric`. Visitors are distinct: grouping by visitor first is a hash instead of the sort of count(DISTINCT). The two
-- halves of `visits` read one partial index each; see 002_goals.sql.
WITH visits AS (
    SELECT utm_campaign, CASE WHEN :split THEN utm_source END AS utm_source,
           CASE WHEN :split THEN utm_medium END AS utm_medium, visitor, count(*) AS sessions,
           sum(pageviews) AS pageviews, count(*) FILTER (WHERE pageviews = 1 AND events = 1) AS bounces,
           sum(date_part('epoch', ended_at - started_at)) AS duration_s
    FROM (
        SELECT utm_campaign, utm_source, utm_medium, visitor, started_at, ended_at, pageviews, events FROM sessions
        WHERE project_id = :project_id AND events > 0
          AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
          AND utm_campaign IS NOT NULL
          AND octet_length(utm_campaign || coalesce(utm_source, '') || coalesce(utm_medium, '')) <= 2000
        UNION ALL
        SELECT utm_campaign, utm_source, utm_medium, visitor, started_at, ended_at, pageviews, events FROM sessions
        WHERE project_id = :project_id AND events > 0
          AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
          AND utm_campaign IS NOT NULL
          AND octet_length(utm_campaign || coalesce(utm_source, '') || coalesce(utm_medium, '')) > 2000
    ) AS found
    GROUP BY 1, 2, 3, 4
), figures AS (
    SELECT utm_campaign, utm_source, utm_medium, CAST(sum(sessions) AS bigint) AS sessions, count(*) AS visitors,
           CAST(sum(pageviews) AS bigint) AS pageviews, CAST(sum(bounces) AS bigint) AS bounces,
           sum(duration_s) AS duration_s
    FROM visits
    GROUP BY 1, 2, 3
), converted AS (
    SELECT utm_campaign, CASE WHEN :split THEN utm_source END AS utm_source,
           CASE WHEN :split THEN utm_medium END AS utm_medium, CAST(sum(completions) AS bigint) AS completions
    FROM goal_campaigns
    WHERE goal_id IN (SELECT id FROM goals WHERE project_id = :project_id)
      AND day BETWEEN CAST(:start AS date) AND CAST(:end AS date)
    GROUP BY 1, 2, 3
)
SELECT figures.*, coalesce(converted.completions, 0) AS conversions
FROM figures
LEFT JOIN converted ON converted.utm_campaign = figures.utm_campaign
                   AND coalesce(converted.utm_source, '') = coalesce(figures.utm_source, '')
                   AND coalesce(converted.utm_medium, '') = coalesce(figures.utm_medium, '')
ORDER BY CASE CAST(:metric AS text) WHEN 'visitors' THEN visitors
                                    WHEN 'conversions' THEN coalesce(converted.completions, 0)
                                    ELSE sessions END DESC,
         sessions DESC, figures.utm_campaign COLLATE "C", coalesce(figures.utm_source, '') COLLATE "C",
         coalesce(figures.utm_medium, '') COLLATE "C"
LIMIT :limit;

-- name: biggest
-- The campaigns with the most sessions: what the list would begin with, without counting visitors.
SELECT utm_campaign
FROM (
    SELECT utm_campaign FROM sessions
    WHERE project_id = :project_id AND events > 0
      AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
      AND utm_campaign IS NOT NULL
      AND octet_length(utm_campaign || coalesce(utm_source, '') || coalesce(utm_medium, '')) <= 2000
    UNION ALL
    SELECT utm_campaign FROM sessions
    WHERE project_id = :project_id AND events > 0
      AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
      AND utm_campaign IS NOT NULL
      AND octet_length(utm_campaign || coalesce(utm_source, '') || coalesce(utm_medium, '')) > 2000
) AS found
GROUP BY utm_campaign
ORDER BY count(*) DESC, utm_campaign COLLATE "C"
LIMIT :limit;

-- name: compare
-- Some campaigns by bucket of time: 0 is the whole period before, and null is for the visitors of all other buckets,
-- who can't be added up as the rest can. Campaigns go by their place among `campaigns`: grouping numbers takes half the time.
WITH visits AS MATERIALIZED (
    SELECT array_position(CAST(:campaigns AS text[]), utm_campaign) AS place,
           width_bucket(started_at, CAST(:bounds AS timestamptz[])) AS bucket, visitor,
           count(*) AS sessions, sum(pageviews) AS pageviews,
           count(*) FILTER (WHERE pageviews = 1 AND events = 1) AS bounces,
           sum(date_part('epoch', ended_at - started_at)) AS duration_s
    FROM (
        SELECT utm_campaign, visitor, started_at, ended_at, pageviews, events FROM sessions
        WHERE project_id = :project_id AND events > 0 AND utm_campaign = ANY (CAST(:campaigns AS text[]))
          AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
          AND utm_campaign IS NOT NULL
          AND octet_length(utm_campaign || coalesce(utm_source, '') || coalesce(utm_medium, '')) <= 2000
        UNION ALL
        SELECT utm_campaign, visitor, started_at, ended_at, pageviews, events FROM sessions
        WHERE project_id = :project_id AND events > 0 AND utm_campaign = ANY (CAST(:campaigns AS text[]))
          AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
          AND utm_campaign IS NOT NULL
          AND octet_length(utm_campaign || coalesce(utm_source, '') || coalesce(utm_medium, '')) > 2000
    ) AS found
    GROUP BY 1, 2, 3
)
SELECT place, bucket, CAST(sum(sessions) AS bigint) AS sessions, count(*) AS visitors,
       CAST(sum(pageviews) AS bigint) AS pageviews, CAST(sum(bounces) AS bigint) AS bounces,
       sum(duration_s) AS duration_s
FROM visits
GROUP BY place, bucket
UNION ALL
SELECT place, NULL, NULL, count(*), NULL, NULL, NULL
FROM (SELECT DISTINCT place, visitor FROM visits WHERE bucket > 0) AS visitors
GROUP BY place;

-- name: conversions
-- Completions of all goals in sessions of some campaigns: in the period, and in the one before.
SELECT utm_campaign,
       CAST(coalesce(sum(completions) FILTER (WHERE day >= CAST(:start AS date)), 0) AS bigint) AS current,
       CAST(coalesce(sum(completions) FILTER (WHERE day < CAST(:start AS date)), 0) AS bigint) AS previous
FROM goal_campaigns
WHERE goal_id IN (SELECT id FROM goals WHERE project_id = :project_id)
  AND day BETWEEN CAST(:previous_start AS date) AND CAST(:end AS date)
  AND utm_campaign = ANY (CAST(:campaigns AS text[]))
GROUP BY utm_campaign;

-- name: has_goals
-- Without goals there is no such thing as a conversion.
SELECT EXISTS (SELECT FROM goals WHERE project_id = :project_id);
