-- The service's own figures over time. One row a step: ten seconds, a minute, a quarter of an hour, an hour, six hours.
-- `figures` holds one number for each metric, in the order of pulse/monitor/measures.py, null where nothing was measured.
CREATE TABLE performance_samples (
    step_s            integer NOT NULL,
    starts_at         timestamptz NOT NULL,
    available_minutes smallint NOT NULL DEFAULT 0, -- minutes in it that were ready with under 1 % errors; none in 10 s
    figures           real[] NOT NULL,
    PRIMARY KEY (step_s, starts_at)
);
-- What the step under way adds up to (histograms, so that its quantiles are exact): one row for each step above 10 s.
CREATE TABLE performance_open_steps (
    step_s            integer PRIMARY KEY,
    starts_at         timestamptz NOT NULL,
    sums              bytea NOT NULL
) WITH (fillfactor = 50);
-- When which release was started where: marks in the graphs.
CREATE TABLE performance_starts (
    started_at        timestamptz NOT NULL,
    node              text NOT NULL,
    version           text NOT NULL,
    commit            text,
    PRIMARY KEY (started_at, node)
);
-- What each node (one service on one data folder) last said, for the others: gone after a crash, and seconds old at most.
CREATE TABLE performance_nodes (
    id                text PRIMARY KEY,            -- of the data folder
    name              text NOT NULL,
    seen_at           timestamptz NOT NULL,
    leads             boolean NOT NULL,            -- whether its background worker is the leader
    generation        bigint NOT NULL,             -- grows at a reset; the others follow the highest
    figures           bytea,                       -- its processes as one; null while it is alone
    standing          bytea                        -- its alerts, for acknowledgements and for who leads next
) WITH (fillfactor = 50);
ALTER TABLE performance_nodes SET UNLOGGED;
ALTER TABLE performance_nodes ALTER COLUMN figures SET STORAGE EXTERNAL;
-- How the statements that took most time fared: five minutes for a day, an hour for two weeks.
CREATE TABLE performance_statements (
    step_s            integer NOT NULL,
    starts_at         timestamptz NOT NULL,
    name              text NOT NULL,
    calls             bigint NOT NULL,
    total_ms          double precision NOT NULL,
    slow              bigint NOT NULL,
    PRIMARY KEY (name, step_s, starts_at)
);
CREATE INDEX performance_statements_time ON performance_statements (step_s, starts_at);
