-- Weeks (Monday to Sunday, the project's days) that no more events are expected for, as copies of their day rows added
-- up: a report of 90 days reads 24 spans instead of 90. A week counts only while its 'total' row is there; what changes
-- one of its days deletes all its rows, and the background worker makes them again.
CREATE TABLE summary_weekly (
    pageviews    bigint NOT NULL,
    events       bigint NOT NULL,
    sessions     bigint NOT NULL,
    bounces      bigint NOT NULL,
    duration_ms  bigint NOT NULL,
    project_id   integer NOT NULL,
    week         date NOT NULL,                  -- Monday
    dimension    text NOT NULL,
    value        text NOT NULL,
    visitors     bytea NOT NULL,
    PRIMARY KEY (project_id, week, dimension, value)
) WITH (toast_tuple_target = 8160);
ALTER TABLE summary_weekly ALTER COLUMN visitors SET STORAGE MAIN;
