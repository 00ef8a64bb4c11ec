-- name: lock_migrations
-- One host at a time changes the schema; the lock goes with the transaction.
SELECT pg_advisory_xact_lock(7204461150981871);

-- name: create_migrations_table
-- The list of applied migrations.
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: has_migrations_table
-- Null on a database without a schema.
SELECT to_regclass('schema_migrations');

-- name: list_applied
-- What was applied, in order.
SELECT number, name, checksum FROM schema_migrations ORDER BY number;

-- name: record_migration
-- Written in the migration's own transaction.
INSERT INTO schema_migrations (number, name, checksum) VALUES (:number, :name, :checksum);

-- name: list_storage
-- The settings that partitions of our tables have of their own.
SELECT parent.relname AS parent, child.relname AS name, coalesce(child.reloptions, '{}') AS options
FROM pg_inherits
JOIN pg_class parent ON parent.oid = inhparent
JOIN pg_class child ON child.oid = inhrelid
WHERE parent.relname IN ('events', 'sessions', 'event_ids') AND parent.relkind = 'p' AND child.relkind = 'r';

-- name: list_fine
-- The columns of monthly partitions whose statistics are still gathered with another target than ours.
SELECT child.relname AS name, array_agg(attname ORDER BY attnum) AS columns
FROM pg_inherits
JOIN pg_class parent ON parent.oid = inhparent
JOIN pg_class child ON child.oid = inhrelid
JOIN pg_attribute ON attrelid = child.oid AND attnum > 0 AND NOT attisdropped
WHERE parent.relname IN ('events', 'sessions') AND parent.relkind = 'p' AND child.relkind = 'r'
  AND attstattarget IS DISTINCT FROM :target
GROUP BY child.relname;

-- name: list_partitions
-- Partitions of our tables with their bounds as ISO dates, read from PostgreSQL's catalogue.
SELECT parent.relname AS parent, child.relname AS name,
       substring(bound.text FROM 'FROM \(''(\d{4}-\d{2}-\d{2})') AS starts_on,
       substring(bound.text FROM 'TO \(''(\d{4}-\d{2}-\d{2})') AS ends_on
FROM pg_inherits
JOIN pg_class parent ON parent.oid = inhparent
JOIN pg_class child ON child.oid = inhrelid
CROSS JOIN LATERAL (SELECT pg_get_expr(child.relpartbound, child.oid) AS text) bound
WHERE parent.relname IN ('events', 'sessions', 'event_ids') AND parent.relkind = 'p'
ORDER BY parent.relname, starts_on;
