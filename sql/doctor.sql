-- What `pulse doctor` asks PostgreSQL.

-- name: server
-- Version, role, clock, the settings that matter, and what this login may do.
SELECT CAST(current_setting('server_version_num') AS integer) AS version_number,
       current_setting('server_version') AS version,
       pg_is_in_recovery() AS is_standby, current_setting('transaction_read_only') = 'on' AS is_read_only,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit, current_setting('autovacuum') AS autovacuum,
       CAST(current_setting('max_connections') AS integer)
           - CAST(current_setting('superuser_reserved_connections') AS integer) AS connections,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers_bytes,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
       has_database_privilege(current_database(), 'TEMPORARY') AS may_make_temporary,
       current_user AS login;

-- name: clock
-- PostgreSQL's clock.
SELECT clock_timestamp();

-- name: foreign_tables
-- Tables of ours that this login does not own, and so can neither change nor drop partitions of.
SELECT relname AS name FROM pg_class
WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind IN ('r', 'p')
  AND relname = ANY (CAST(:tables AS text[])) AND NOT pg_has_role(relowner, 'USAGE')
ORDER BY relname;

-- name: invalid_indexes
-- Indexes that cost at every write and answer nothing: their making broke off.
SELECT CAST(indexrelid AS regclass) AS name, CAST(indrelid AS regclass) AS table_name
FROM pg_index WHERE NOT indisvalid
ORDER BY 1;

-- name: leader
-- Whether a background worker holds the lock of the leader.
SELECT EXISTS (SELECT FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND objsubid = 1
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (CAST(classid AS bigint) << 32) + CAST(objid AS bigint) = :lock);

-- name: waiting
-- Since when the oldest work of each kind waits, in seconds; null when none does.
SELECT (SELECT extract(epoch FROM now() - min(committed_at))::float8 FROM ingest_batches
        WHERE folded_at IS NULL) AS fold_s,
       (SELECT extract(epoch FROM now() - min(folded_at))::float8 FROM ingest_batches
        WHERE folded_at IS NOT NULL AND NOT goals_counted) AS goals_s,
       (SELECT extract(epoch FROM now() - min(requested_at))::float8 FROM rebuilds
        WHERE finished_at IS NULL) AS rebuilds_s,
       (SELECT extract(epoch FROM now() - min(requested_at))::float8 FROM removals) AS removals_s,
       (SELECT extract(epoch FROM now() - min(requested_at))::float8 FROM erasures
        WHERE finished_at IS NULL) AS erasures_s,
       (SELECT count(*) FROM rebuilds WHERE failure IS NOT NULL AND finished_at > now() - INTERVAL '7 days') AS failed_rebuilds;

-- name: slots
-- Replication slots that nobody reads: PostgreSQL keeps its log for them until the disk is full.
SELECT slot_name AS name, CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS bigint) AS kept_bytes
FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL
ORDER BY slot_name;
