-- Reports of some visits and events only, counted from the facts. {braces} take conditions, whose values stay parameters.

-- name: one_snapshot
-- First in the transaction: a fold between two statements of a report does not show in it.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: limit
-- Until the end of the transaction: how long a statement may run, room for its hash tables, and no sorting in place of
-- them (PostgreSQL would sort once for each dimension, at three times the cost).
SELECT set_config('statement_timeout', :timeout, true), set_config('work_mem', '64MB', true),
       set_config('enable_sort', 'off', true);

-- name: last_end
-- When the last visit that began in the period ended, if that was after the period.
SELECT max(ended_at) FROM sessions
WHERE project_id = :project_id
  AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
  AND ended_at >= CAST(:ends_at AS timestamptz) AND events > 0 AND {visit_conditions};

-- name: whole_visits
-- Part of `figures`: the visits, with all their events.
SELECT sessions.*, pageviews AS counted_pageviews, events AS counted_events
FROM sessions
WHERE project_id = :project_id
  AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
  AND events > 0 AND {visit_conditions}

-- name: visits_of_events
-- Part of `figures`: the visits that hold events that pass, with those events alone.
SELECT sessions.*, counted_pageviews, counted_events
FROM sessions
JOIN (
    SELECT visits.session_key, visits.started_at, count(*) FILTER (WHERE event_type = 'pageview') AS counted_pageviews,
           count(*) AS counted_events
    FROM (SELECT * FROM events
          WHERE project_id = :project_id AND occurred_at >= CAST(:starts_at AS timestamptz)
            AND occurred_at <= CAST(:last_at AS timestamptz)
            AND event_type <> 'engagement' AND {event_conditions}) AS passing
    JOIN (SELECT session_key, started_at, ended_at FROM sessions
          WHERE project_id = :project_id
            AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
            AND events > 0 AND {visit_conditions}) AS visits
      ON visits.session_key = passing.session_key AND occurred_at BETWEEN visits.started_at AND ended_at
    GROUP BY visits.session_key, visits.started_at
) AS hits USING (session_key, started_at)
WHERE project_id = :project_id
  AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)

-- name: figures
-- Sums over the visits: in all, by bucket of their beginning, and the first `limit` values of every dimension. `sets` is
-- GROUPING's number of each: all bits but the column's own. Distinct visitors are counted among those whose hash ends in
-- so many zeros that about `sample` visits remain, with the visits these made; all of them where there are no more.
WITH visits AS MATERIALIZED (
    SELECT CAST(width_bucket(started_at, CAST(:bounds AS timestamptz[])) AS text) AS bucket,
           hostname, referrer, coalesce(source, '(direct)') AS source, channel, utm_source, utm_medium, utm_campaign,
           utm_term, utm_content, coalesce(country, '(unknown)') AS country, region, city, device,
           coalesce(browser, '(unknown)') AS browser, coalesce(os, '(unknown)') AS os, language,
           entry_path AS entry_page, exit_path AS exit_page, visitor, ended_at, counted_pageviews, counted_events,
           CAST(pageviews = 1 AND events = 1 AS integer) AS bounce,
           date_part('epoch', ended_at - started_at) AS duration_s
    FROM ({visits}) AS found
), size AS MATERIALIZED (
    SELECT (CAST(1 AS bigint) << greatest(0, CAST(ceil(log(2, greatest(count(*), 1) / CAST(:sample AS numeric)))
                                                  AS integer))) - 1 AS mask
    FROM visits
), sums AS (
    SELECT grouping({columns}) AS set, coalesce({columns}) AS value,
           count(*) AS sessions, sum(counted_pageviews) AS pageviews, sum(counted_events) AS events,
           sum(bounce) AS bounces, sum(duration_s) AS duration_s, max(ended_at) AS last_at
    FROM visits
    GROUP BY GROUPING SETS ((), {sets})
), ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY set ORDER BY CASE WHEN set IN ({by_sessions}) THEN sessions ELSE pageviews END DESC,
                                  value COLLATE "C") AS place
    FROM sums
    WHERE value IS NOT NULL OR set = {total}
), shown AS MATERIALIZED (
    SELECT * FROM ranked WHERE place <= :limit OR set IN ({total}, {bucket})
), sampled AS (
    SELECT set, value, count(*) AS visitors, sum(visits) AS visits
    FROM (
        SELECT set, value, visitor, count(*) AS visits
        FROM visits CROSS JOIN LATERAL (VALUES ({total}, NULL), {pairs}) AS one (set, value)
        WHERE visitor & (SELECT mask FROM size) = 0 AND (value IS NOT NULL OR set = {total})
        GROUP BY set, value, visitor
    ) AS each_one
    GROUP BY set, value
)
SELECT shown.set, shown.value, place, sessions, CAST(coalesce(pageviews, 0) AS bigint) AS pageviews,
       CAST(coalesce(events, 0) AS bigint) AS events, coalesce(bounces, 0) AS bounces,
       coalesce(duration_s, 0) AS duration_s, last_at, coalesce(sampled.visitors, 0) AS sampled_visitors,
       CAST(coalesce(sampled.visits, 0) AS bigint) AS sampled_rows
FROM shown LEFT JOIN sampled ON sampled.set = shown.set AND coalesce(sampled.value, '') = coalesce(shown.value, '');

-- name: event_lists
-- The first `limit` pages, kinds of event and screens of the events that pass, and the visits that began on each page.
-- Distinct visitors as in `figures`: who is not looked at falls into one group, so that one pass does both. Groups of
-- all three columns come first, for they are fewer than events, and workers can form them side by side.
WITH hits AS MATERIALIZED (
    SELECT path, CASE WHEN event_type <> 'pageview' THEN coalesce(nullif(event_name, ''), event_type) END AS label,
           screen_width, screen_height,
           CASE WHEN visits.visitor & CAST(:mask AS bigint) = 0 THEN visits.visitor END AS visitor,
           count(*) AS events, count(*) FILTER (WHERE event_type = 'pageview') AS pageviews,
           count(*) FILTER (WHERE id = entry_id) AS sessions,
           count(*) FILTER (WHERE id = entry_id AND bounced) AS bounces
    FROM (SELECT * FROM events
          WHERE project_id = :project_id AND occurred_at >= CAST(:starts_at AS timestamptz)
            AND occurred_at <= CAST(:last_at AS timestamptz)
            AND event_type <> 'engagement' AND {event_conditions}) AS passing
    JOIN (SELECT session_key, visitor, started_at, ended_at, entry_id, pageviews = 1 AND events = 1 AS bounced
          FROM sessions
          WHERE project_id = :project_id
            AND started_at >= CAST(:starts_at AS timestamptz) AND started_at < CAST(:ends_at AS timestamptz)
            AND events > 0 AND {visit_conditions}) AS visits
      ON visits.session_key = passing.session_key AND occurred_at BETWEEN visits.started_at AND ended_at
    GROUP BY 1, 2, 3, 4, 5
), values AS (
    SELECT 'page' AS list, path AS value, visitor, events, pageviews, sessions, bounces
    FROM hits WHERE path IS NOT NULL
    UNION ALL
    SELECT 'event', label, visitor, events, pageviews, 0, 0 FROM hits WHERE label IS NOT NULL
    UNION ALL
    SELECT 'screen', screen_width || 'x' || screen_height, visitor, events, pageviews, 0, 0
    FROM hits WHERE screen_width IS NOT NULL AND screen_height IS NOT NULL
), by_visitor AS (
    SELECT list, value, visitor, sum(events) AS events, sum(pageviews) AS pageviews, sum(sessions) AS sessions,
           sum(bounces) AS bounces
    FROM values
    GROUP BY list, value, visitor
), ranked AS (
    SELECT list, value, CAST(sum(pageviews) AS bigint) AS pageviews, CAST(sum(events) AS bigint) AS events,
           CAST(sum(sessions) AS bigint) AS sessions, CAST(sum(bounces) AS bigint) AS bounces,
           count(visitor) AS sampled_visitors,
           CAST(coalesce(sum(events) FILTER (WHERE visitor IS NOT NULL), 0) AS bigint) AS sampled_rows,
           row_number() OVER (
               PARTITION BY list
               ORDER BY CASE list WHEN 'event' THEN sum(events) ELSE sum(pageviews) END DESC, value COLLATE "C"
           ) AS place
    FROM by_visitor
    GROUP BY list, value
)
SELECT * FROM ranked WHERE place <= :limit;
