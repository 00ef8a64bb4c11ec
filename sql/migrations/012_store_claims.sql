-- As store_events of migration 005, for a group whose events with ids of clients' own follow as lines of COPY: of these
-- events only the ids come here, `ids[n]` for a project each, none twice. They are claimed as there. Returns null if all
-- of them are, else those that are: the events of the others must not be stored. Beside 180 events that are copied
-- anyway, 20 such ones take PostgreSQL 6 to 8 µs less each than as JSON.
CREATE FUNCTION store_events(
    of_batch bigint, by_writer uuid, event_count integer, plain json, claiming json, projects integer[], ids uuid[]
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    this_week date := date_trunc('week', now() AT TIME ZONE 'UTC');
    first_week date := date_trunc('week', (now() - interval '10 minutes') AT TIME ZONE 'UTC');
    weeks date[] := CASE WHEN first_week = this_week THEN ARRAY[this_week] ELSE ARRAY[first_week, this_week] END;
    claims uuid[];
BEGIN
    PERFORM store_events(of_batch, by_writer, event_count, plain, claiming);
    WITH claimed AS (
        INSERT INTO event_ids (project_id, id, claimed_in)
        SELECT incoming.project_id, incoming.id, week
        FROM unnest(projects, ids) AS incoming (project_id, id)
        CROSS JOIN unnest(weeks) AS week
        WHERE NOT EXISTS (
            -- OFFSET 0: looked up one by one, whatever the planner knows of a table that was empty a while ago.
            SELECT FROM event_ids AS known WHERE known.project_id = incoming.project_id AND known.id = incoming.id
            OFFSET 0
        )
        ORDER BY incoming.project_id, incoming.id, week
        ON CONFLICT DO NOTHING
        RETURNING id, claimed_in
    )
    SELECT array_agg(id) FILTER (WHERE claimed_in = first_week) INTO claims FROM claimed;
    RETURN CASE WHEN cardinality(claims) = cardinality(ids) THEN NULL ELSE coalesce(claims, '{}') END;
END
$$;
