-- name: list_goals
-- A project's goals, oldest first. `counted`: all that is stored is in their figures.
SELECT g.id, g.project_id, g.revision, g.kind, g.name, g.event_type, g.event_name, g.path, g.value_key,
       g.counted_in IS NOT DISTINCT FROM p.timezone AS counted, g.created_at, g.updated_at
FROM goals g JOIN projects p ON p.id = g.project_id
WHERE g.project_id = :project_id AND (CAST(:id AS integer) IS NULL OR g.id = :id)
ORDER BY g.id;

-- name: list_goals_of
-- The same of several projects.
SELECT g.id, g.project_id, g.revision, g.kind, g.name, g.event_type, g.event_name, g.path, g.value_key,
       g.counted_in IS NOT DISTINCT FROM p.timezone AS counted, g.created_at, g.updated_at
FROM goals g JOIN projects p ON p.id = g.project_id
WHERE g.project_id = ANY (:project_ids)
ORDER BY g.id;

-- name: lock_project
-- So that goals made at the same time are counted one after the other; folding goes on.
SELECT id FROM projects WHERE id = :project_id FOR NO KEY UPDATE;

-- name: create_goal
-- Nothing for a name that is taken. The background worker counts what is stored already.
INSERT INTO goals (project_id, kind, name, event_type, event_name, path, value_key)
VALUES (:project_id, :kind, :name, :event_type, :event_name, :path, :value_key)
ON CONFLICT (project_id, name) DO NOTHING
RETURNING id;

-- name: name_taken
-- Whether another goal has this name.
SELECT EXISTS (SELECT FROM goals WHERE project_id = :project_id AND name = :name AND id <> :id);

-- name: lock_goal
-- What a goal counts, held until the commit: counting of its events under way ends first.
SELECT revision, kind, event_type, event_name, path, value_key
FROM goals WHERE id = :id AND project_id = :project_id FOR UPDATE;

-- name: rename_goal
-- A change that counts nothing else.
UPDATE goals SET name = :name, updated_at = now() WHERE id = :id;

-- name: redefine_goal
-- Another thing to count: from the beginning.
UPDATE goals
SET name = :name, kind = :kind, event_type = :event_type, event_name = :event_name, path = :path,
    value_key = :value_key, revision = revision + 1, counted_in = NULL, updated_at = now()
WHERE id = :id;

-- name: delete_goal
-- Its figures go with it.
DELETE FROM goals WHERE id = :id AND project_id = :project_id RETURNING id;

-- name: recount_goals
-- Have a project's goals, or all, counted anew in the background; their figures stand until then.
UPDATE goals SET counted_in = NULL, revision = revision + 1
WHERE CAST(:project_id AS integer) IS NULL OR project_id = :project_id;

-- name: figures
-- Sums of a period, and the sketches of its days joined with their lengths beside them.
SELECT goal_id, CAST(sum(completions) AS bigint) AS completions, sum(value) AS value,
       string_agg(visitors, CAST('' AS bytea)) AS sketches, array_agg(length(visitors)) AS lengths
FROM goal_daily
WHERE goal_id = ANY (CAST(:ids AS integer[])) AND day BETWEEN CAST(:start AS date) AND CAST(:end AS date)
GROUP BY goal_id;

-- name: series
-- One goal day by day, where anything was counted.
SELECT day, completions, value, visitors FROM goal_daily
WHERE goal_id = :id AND day BETWEEN CAST(:start AS date) AND CAST(:end AS date);

-- name: everybody
-- The sketches of a project's days: whom a conversion rate is a part of.
SELECT visitors
FROM generate_series(0, CAST(:days AS integer) - 1) AS step
JOIN summary_daily ON project_id = :project_id AND summary_daily.day = CAST(:start AS date) + step
                  AND dimension = 'total' AND value = '';

-- name: begin_count
-- One at a time counts goals or fills them in. Batches are found by key, as in fold.begin_fold.
SELECT pg_advisory_xact_lock(7204461150981874), set_config('enable_seqscan', 'off', true);

-- name: begin_fill
-- Filling in reads months of events: no time limits, in a statement before the lock, for they count from the next one on.
SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true),
       set_config('idle_in_transaction_session_timeout', '0', true);

-- name: lock_counting
-- As begin_count, where reading a whole partition may be the best plan.
SELECT pg_advisory_xact_lock(7204461150981874);

-- name: waiting_batches
-- Folded batches whose goals are not counted, oldest first: their sessions are known.
SELECT id, events FROM ingest_batches WHERE folded_at IS NOT NULL AND NOT goals_counted ORDER BY id LIMIT :max_batches;

-- name: ready_goals
-- Goals that are filled in, held as they are until the commit. Events of the others are left to the filling in.
SELECT g.id, g.project_id, p.timezone
FROM goals g JOIN projects p ON p.id = g.project_id
WHERE g.counted_in = p.timezone
  AND g.project_id IN (SELECT DISTINCT project_id FROM events WHERE batch_id = ANY (CAST(:batches AS bigint[])))
ORDER BY g.id
FOR SHARE OF g;

-- name: has_goals
-- Whether there is anything to count at all.
SELECT EXISTS (SELECT FROM goals);

-- name: completions_of_batches
-- Completions in some batches by goal, quarter of an hour (every zone's day begins with one), visitor, and campaign of
-- the session. Numbers out of any sense are passed over: one must not stop the counting of all.
WITH matched AS MATERIALIZED (
    SELECT g.id AS goal_id, e.project_id, e.session_key, e.occurred_at, e.visitor,
           CASE WHEN jsonb_typeof(e.custom_data -> g.value_key) = 'number'
                THEN CAST(e.custom_data ->> g.value_key AS numeric) END AS value
    FROM events e
    JOIN goals g ON g.project_id = e.project_id AND g.id = ANY (CAST(:goals AS integer[]))
    WHERE e.batch_id = ANY (CAST(:batches AS bigint[])) AND e.event_type <> 'engagement'
      AND (g.event_type IS NULL OR e.event_type = g.event_type)
      AND (g.event_name IS NULL OR e.event_name = g.event_name)
      AND (g.path_like IS NULL OR (e.event_type = 'pageview' AND e.path LIKE g.path_like))
      AND (g.value_key IS NULL OR jsonb_typeof(e.custom_data -> g.value_key) = 'number')
)
SELECT goal_id, CAST(floor(date_part('epoch', occurred_at) / 900) AS bigint) AS quarter, visitor,
       s.utm_campaign, s.utm_source, s.utm_medium, count(*) AS completions,
       coalesce(sum(CASE WHEN abs(value) < 1e12 THEN round(value, 6) END), 0) AS value
FROM matched m
LEFT JOIN LATERAL (
    SELECT utm_campaign, utm_source, utm_medium FROM sessions
    WHERE project_id = m.project_id AND session_key = m.session_key
      AND started_at BETWEEN m.occurred_at - INTERVAL '31 days' AND m.occurred_at AND ended_at >= m.occurred_at
    ORDER BY started_at DESC LIMIT 1
) s ON true
GROUP BY 1, 2, 3, 4, 5, 6;

-- name: mark_counted
-- In the transaction that counted them.
UPDATE ingest_batches SET goals_counted = true WHERE id = ANY (CAST(:batches AS bigint[]));

-- name: read_sketches
-- What some days of some goals hold so far.
SELECT d.goal_id, d.day, d.visitors
FROM json_to_recordset(CAST(:keys AS json)) AS k (goal_id integer, day date)
JOIN goal_daily d ON d.goal_id = k.goal_id AND d.day = k.day;

-- name: add_daily
-- Counts are added; a sketch replaces the one it was made from.
INSERT INTO goal_daily AS d (goal_id, day, completions, value, visitors)
SELECT goal_id, day, completions, value, decode(visitors, 'hex')
FROM json_to_recordset(CAST(:rows AS json))
     AS r (goal_id integer, day date, completions bigint, value numeric, visitors text)
ON CONFLICT (goal_id, day) DO UPDATE
SET completions = d.completions + excluded.completions, value = d.value + excluded.value, visitors = excluded.visitors;

-- name: add_campaigns
-- As add_daily.
INSERT INTO goal_campaigns AS c (goal_id, day, utm_campaign, utm_source, utm_medium, completions)
SELECT goal_id, day, utm_campaign, utm_source, utm_medium, completions
FROM json_to_recordset(CAST(:rows AS json)) AS r (
    goal_id integer, day date, utm_campaign text, utm_source text, utm_medium text, completions bigint
)
ON CONFLICT (goal_id, day, labels) DO UPDATE SET completions = c.completions + excluded.completions;

-- name: goal_to_fill
-- A goal that is new, changed, or counted by days of another time zone.
SELECT g.id, g.project_id, g.revision, p.timezone,
       (SELECT min(occurred_at) FROM events WHERE project_id = g.project_id) AS first_at,
       (SELECT max(occurred_at) FROM events WHERE project_id = g.project_id) AS last_at
FROM goals g JOIN projects p ON p.id = g.project_id
WHERE g.counted_in IS DISTINCT FROM p.timezone
ORDER BY g.id LIMIT 1;

-- name: completions_between
-- The completions of one goal in a time span, of counted batches alone: the others are counted when their turn comes.
WITH matched AS MATERIALIZED (
    SELECT e.project_id, e.session_key, e.occurred_at, e.visitor,
           CASE WHEN jsonb_typeof(e.custom_data -> g.value_key) = 'number'
                THEN CAST(e.custom_data ->> g.value_key AS numeric) END AS value
    FROM events e
    JOIN goals g ON g.project_id = e.project_id AND g.id = :goal_id
    WHERE e.project_id = :project_id AND e.occurred_at >= :start_at AND e.occurred_at < :end_at
      AND e.event_type <> 'engagement'
      AND e.batch_id NOT IN (
          SELECT id FROM ingest_batches WHERE folded_at IS NULL
          UNION ALL SELECT id FROM ingest_batches WHERE folded_at IS NOT NULL AND NOT goals_counted
      )
      AND (g.event_type IS NULL OR e.event_type = g.event_type)
      AND (g.event_name IS NULL OR e.event_name = g.event_name)
      AND (g.path_like IS NULL OR (e.event_type = 'pageview' AND e.path LIKE g.path_like))
      AND (g.value_key IS NULL OR jsonb_typeof(e.custom_data -> g.value_key) = 'number')
)
SELECT visitor, s.utm_campaign, s.utm_source, s.utm_medium, count(*) AS completions,
       coalesce(sum(CASE WHEN abs(value) < 1e12 THEN round(value, 6) END), 0) AS value
FROM matched m
LEFT JOIN LATERAL (
    SELECT utm_campaign, utm_source, utm_medium FROM sessions
    WHERE project_id = m.project_id AND session_key = m.session_key
      AND started_at BETWEEN m.occurred_at - INTERVAL '31 days' AND m.occurred_at AND ended_at >= m.occurred_at
    ORDER BY started_at DESC LIMIT 1
) s ON true
GROUP BY 1, 2, 3, 4;

-- name: lock_filled
-- The goal as it was when its filling in began; none if it was changed or deleted meanwhile.
SELECT id FROM goals WHERE id = :id AND revision = :revision FOR UPDATE;

-- name: delete_daily
-- Days that are filled in anew; older ones, whose events are no longer kept, stay.
DELETE FROM goal_daily WHERE goal_id = :id AND day >= :first_day;

-- name: delete_campaigns
-- As delete_daily.
DELETE FROM goal_campaigns WHERE goal_id = :id AND day >= :first_day;

-- name: delete_figures
-- All that was counted of a goal that counts something else from now on.
WITH gone AS (DELETE FROM goal_campaigns WHERE goal_id = :id)
DELETE FROM goal_daily WHERE goal_id = :id;

-- name: mark_filled
-- From now on batches are counted as they come.
UPDATE goals SET counted_in = :timezone WHERE id = :id;

-- name: limit_funnel
-- Until the end of the transaction: how long a statement may run, and room to sort half a million events in each process.
SELECT set_config('statement_timeout', :timeout, true), set_config('work_mem', '64MB', true);

-- name: funnel_start
-- Part of a funnel: a project's events that are any of its steps. The conditions and columns of the steps are put in.
SELECT visitor, occurred_at, id, {columns}
FROM events
WHERE project_id = :project_id
  AND occurred_at >= CAST(:starts_at AS timestamptz) AND occurred_at < CAST(:ends_at AS timestamptz)
  AND ({any_flag});

-- name: funnel_page
-- Part of a funnel: whether an event is the step's pageview; `*` in the path has become `%`.
(event_type = 'pageview' AND path LIKE :value_{step});

-- name: funnel_event
-- Part of a funnel: whether an event is the step's, by name or by type.
(event_type <> 'engagement' AND (event_name = :value_{step} OR event_type = :value_{step}));

-- name: funnel_letter
-- Part of a funnel: the steps that an event is, each a bit, as one letter.
chr(256 + {bits}) AS letter;

-- name: funnel_courses
-- Part of a funnel without a window: each visitor's letters in order. Few of these words differ, and whoever shares one
-- gets equally far.
SELECT word, count(*) AS visitors
FROM (SELECT string_agg(letter, '' ORDER BY occurred_at, id) AS word FROM matched GROUP BY visitor) AS courses
GROUP BY word;

-- name: funnel_reached
-- Part of a funnel without a window: the visitors whose letters hold those of the first steps in order.
CAST(coalesce(sum(visitors) FILTER (WHERE word ~ :order_{step}), 0) AS bigint) AS visitors_{step};

-- name: funnel_first
-- Part of a funnel with a window: who takes the first step begins then.
SELECT *, CASE WHEN is_1 THEN occurred_at END AS begun_1 FROM matched;

-- name: funnel_next
-- Part of a funnel with a window: a step counts after the one before it, within the time allowed since the latest such
-- beginning.
SELECT *, CASE WHEN is_{step} AND occurred_at - latest_{step} <= CAST(:window AS interval)
               THEN latest_{step} END AS begun_{step}
FROM (
    SELECT *, max(begun_{before}) OVER (
        PARTITION BY visitor ORDER BY occurred_at, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS latest_{step}
    FROM step_{before}
) AS earlier_{step};
