-- The first values of each dimension of a day, week or month that is over: what a list of a report begins with is among
-- them, nearly always, and is found without adding up thousands of values that are not shown. A copy that says how far it
-- may be off: whoever changes the span's summaries adds to `late` by how much, in the same transaction, and reports take
-- values into account that might have risen by that. The figures shown are read from the summaries.
CREATE TABLE summary_heads (
    late         bigint NOT NULL DEFAULT 0,      -- what any dimension's values changed by since, signs aside
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    starts_on    date NOT NULL,
    project_id   integer NOT NULL,
    length       text NOT NULL,                  -- day, week or month
    packed       bytea NOT NULL,                 -- pulse/storage/heads.py
    PRIMARY KEY (project_id, length, starts_on)
);
ALTER TABLE summary_heads ALTER COLUMN packed SET STORAGE EXTERNAL;
