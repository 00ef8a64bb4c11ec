-- Deleted projects whose events and summaries are still to be removed.
CREATE TABLE removals (
    project_id   integer PRIMARY KEY,
    requested_at timestamptz NOT NULL DEFAULT now()
);
