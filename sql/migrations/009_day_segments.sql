-- Past days of a project as columns, for filtered reports: what 22,000 sessions and their 110,000 events hold of each
-- dimension is a few kilobytes to read, where the rows are 20 MB. A copy of the facts: whatever changes a session that
-- began on such a day notes its key in `loose` in the same transaction, and reports then leave the copy of it aside and
-- read the session itself. Deleting a visitor deletes the rows that hold them. A pack that is being made has no
-- `packed_at`; what changes meanwhile is noted in it as well.
CREATE TABLE day_segments (
    starts_at     timestamptz NOT NULL,           -- the local day, in the time zone the project had
    ends_at       timestamptz NOT NULL,
    begun_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    packed_at     timestamptz,
    project_id    integer NOT NULL,
    visits        integer,                        -- sessions with an event
    hits          integer,                        -- their events
    loose         bigint[] NOT NULL DEFAULT '{}', -- keys of sessions that changed since
    figures       bytea,                          -- of each session, in order of its start: minute, duration, counts
    visitors      bytea,                          -- eight bytes each
    session_keys  bytea,
    hostname      bytea,                          -- each dimension: its values, and which of them each session has
    referrer      bytea,
    source        bytea,
    channel       bytea,
    utm_source    bytea,
    utm_medium    bytea,
    utm_campaign  bytea,
    utm_term      bytea,
    utm_content   bytea,
    country       bytea,
    region        bytea,
    city          bytea,
    device        bytea,
    browser       bytea,
    os            bytea,
    language      bytea,
    entry_path    bytea,
    exit_path     bytea,
    path          bytea,                          -- the same of each event, session by session
    kind          bytea,                          -- type and name
    screen        bytea,
    PRIMARY KEY (project_id, starts_at)
);

-- Compressed already.
DO $$
DECLARE
    packed text;
BEGIN
    FOR packed IN SELECT attname FROM pg_attribute
                  WHERE attrelid = CAST('day_segments' AS regclass) AND atttypid = CAST('bytea' AS regtype) LOOP
        EXECUTE format('ALTER TABLE day_segments ALTER COLUMN %I SET STORAGE EXTERNAL', packed);
    END LOOP;
END
$$;
