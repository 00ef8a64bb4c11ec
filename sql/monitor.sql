-- name: overview
-- The server and this database in one row: version, size, cache hits (percent, null before any read), transactions.
SELECT current_setting('server_version') AS version,
       pg_postmaster_start_time() AS started_at,
       pg_database_size(datid) AS size_bytes,
       round(100.0 * blks_hit / nullif(blks_hit + blks_read, 0), 2)::float8 AS cache_hit_percent,
       xact_commit AS commits, xact_rollback AS rollbacks, deadlocks, temp_files, temp_bytes,
       current_setting('max_connections')::int AS max_connections,
       pg_is_in_recovery() AS is_replica
FROM pg_stat_database
WHERE datname = current_database();

-- name: connections
-- Client connections to this database by application and state.
SELECT coalesce(nullif(application_name, ''), '(none)') AS application, coalesce(state, 'unknown') AS state,
       count(*)::int AS connections
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
GROUP BY 1, 2
ORDER BY connections DESC, 1, 2;

-- name: longest_running
-- What runs now, longest first; the text without what follows its first 2,000 characters.
SELECT pid, coalesce(nullif(application_name, ''), '(none)') AS application, state,
       round((extract(epoch FROM clock_timestamp() - query_start) * 1000)::numeric, 2)::float8 AS running_ms,
       round((extract(epoch FROM clock_timestamp() - xact_start) * 1000)::numeric, 2)::float8 AS transaction_ms,
       wait_event_type, wait_event, left(query, 2000) AS query
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle' AND query_start IS NOT NULL
ORDER BY query_start
LIMIT 20;

-- name: blocked
-- Who waits for a lock and who holds it, longest wait first.
SELECT waiting.pid, pg_blocking_pids(waiting.pid) AS blocked_by,
       round((extract(epoch FROM clock_timestamp() - waiting.query_start) * 1000)::numeric, 2)::float8 AS waiting_ms,
       left(waiting.query, 2000) AS query
FROM pg_stat_activity waiting
WHERE waiting.datname = current_database() AND cardinality(pg_blocking_pids(waiting.pid)) > 0
ORDER BY waiting.query_start
LIMIT 20;

-- name: locks
-- Locks held and waited for, by mode.
SELECT mode, count(*) FILTER (WHERE granted)::int AS held, count(*) FILTER (WHERE NOT granted)::int AS waiting
FROM pg_locks
WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY mode
ORDER BY held DESC, mode;

-- name: unused_indexes
-- Indexes over 1 MiB that no query has used since the statistics began, unique ones left out (they guard a rule).
SELECT s.relname AS table_name, s.indexrelname AS index_name, pg_relation_size(s.indexrelid) AS size_bytes
FROM pg_stat_user_indexes s
JOIN pg_index i USING (indexrelid)
WHERE s.idx_scan = 0 AND NOT i.indisunique AND pg_relation_size(s.indexrelid) > 1048576
ORDER BY size_bytes DESC
LIMIT 20;

-- name: sequential_scans
-- Tables over 10 MiB that were read from end to end, by rows read that way.
SELECT relname AS table_name, seq_scan AS scans, seq_tup_read AS rows_read, coalesce(idx_scan, 0) AS index_scans,
       pg_table_size(relid) AS size_bytes
FROM pg_stat_user_tables
WHERE seq_scan > 0 AND pg_table_size(relid) > 10485760
ORDER BY seq_tup_read DESC
LIMIT 20;

-- name: tables
-- Tables by size, partitions one by one (a partitioned table itself holds nothing and has no age), with dead rows and the last vacuum and analyze of either kind.
SELECT s.relname AS table_name, parent.relname AS partition_of, s.n_live_tup AS live_rows, s.n_dead_tup AS dead_rows,
       pg_table_size(s.relid) AS table_bytes, pg_indexes_size(s.relid) AS index_bytes,
       greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at,
       greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at,
       age(c.relfrozenxid) AS transaction_age
FROM pg_stat_user_tables s
JOIN pg_class c ON c.oid = s.relid
LEFT JOIN pg_inherits ON pg_inherits.inhrelid = s.relid
LEFT JOIN pg_class parent ON parent.oid = pg_inherits.inhparent
WHERE c.relkind <> 'p'
ORDER BY pg_total_relation_size(s.relid) DESC, s.relname
LIMIT 100;

-- name: replication
-- Replicas attached to this server and how far behind they replay.
SELECT coalesce(nullif(application_name, ''), '(none)') AS name, host(client_addr) AS address, state, sync_state,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS behind_bytes,
       coalesce(extract(epoch FROM replay_lag), 0)::float8 AS lag_s
FROM pg_stat_replication
ORDER BY behind_bytes DESC NULLS FIRST;

-- name: wal
-- Log written since the statistics began.
SELECT wal_records, wal_fpi AS full_pages, wal_bytes::bigint AS bytes
FROM pg_stat_wal;

-- name: statements_schema
-- The schema pg_stat_statements is installed in; no row without it or when the server did not load it.
SELECT quote_ident(n.nspname) AS name
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
  AND current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%';
