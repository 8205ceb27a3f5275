-- What endangers the database as a whole: one row per thing worth a look, as check, object, and what was read of it.
-- Nothing here asks for a lock on a table, so that it answers when somebody holds one (pg_get_indexdef() would).
-- Needs pg_monitor to see the sessions of others: https://www.postgresql.org/docs/current/predefined-roles.html
WITH session AS MATERIALIZED (
    SELECT pid, usename, application_name, state, xact_start, state_change, query_start, wait_event_type, query,
        format('pid %%s (%%s, %%s)', pid, coalesce(usename, 'unknown'), coalesce(nullif(application_name, ''), 'unnamed'))
            AS name,
        extract(epoch FROM statement_timestamp() - xact_start) AS transaction_s,
        extract(epoch FROM statement_timestamp() - state_change) AS state_s,
        extract(epoch FROM statement_timestamp() - query_start) AS query_s
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
), tables AS MATERIALIZED (
    SELECT pg_class.oid, relname, quote_ident(relname) AS name, reltuples, relpages, reloptions
    FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'm')
), indexes AS MATERIALIZED (
    SELECT indexrelid, indrelid, quote_ident(class.relname) AS name, indisunique,
        concat_ws(' ', class.relam, indnkeyatts, indkey, indclass, indcollation, indoption,
                  regexp_replace(concat(indexprs, indpred), ':location -?\d+', '', 'g')) AS definition,
        indexrelid IN (SELECT conindid FROM pg_constraint) AS of_constraint,
        indexrelid IN (SELECT inhrelid FROM pg_inherits) AS of_parent
    FROM pg_index JOIN pg_class AS class ON class.oid = indexrelid
    WHERE class.relnamespace = current_schema()::regnamespace AND indisvalid
)
SELECT 'sequence' AS check, quote_ident(sequence.relname) AS object, jsonb_build_object(
    'readable', has_sequence_privilege(sequence.oid, 'SELECT'),
    'last', CASE WHEN has_sequence_privilege(sequence.oid, 'SELECT') THEN pg_sequence_last_value(sequence.oid) END,
    'end', CASE WHEN seqincrement > 0 THEN seqmax ELSE seqmin END,
    'cycles', seqcycle,
    'column', (SELECT refobjid::regclass || '.' || quote_ident(attname)
               FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
               WHERE classid = 'pg_class'::regclass AND objid = sequence.oid AND deptype IN ('a', 'i')
                 AND refclassid = 'pg_class'::regclass)) AS facts
FROM pg_class AS sequence JOIN pg_sequence ON seqrelid = sequence.oid
WHERE sequence.relnamespace = current_schema()::regnamespace

UNION ALL
SELECT 'transaction ids', quote_ident(datname), jsonb_build_object('age', age(datfrozenxid), 'kind', 'transaction')
FROM pg_database
UNION ALL
SELECT 'transaction ids', quote_ident(datname), jsonb_build_object('age', mxid_age(datminmxid), 'kind', 'multixact')
FROM pg_database

UNION ALL
SELECT 'long transaction', name, jsonb_build_object('seconds', transaction_s::bigint, 'pid', pid, 'state', state)
FROM session
WHERE transaction_s > %(long_transaction_s)s
  AND NOT (state LIKE 'idle in transaction%%' AND state_s > %(idle_in_transaction_s)s)
UNION ALL
SELECT 'prepared transaction', quote_literal(gid), jsonb_build_object(
    'seconds', extract(epoch FROM statement_timestamp() - prepared)::bigint, 'owner', owner)
FROM pg_prepared_xacts
WHERE database = current_database() AND statement_timestamp() - prepared > make_interval(secs => %(long_transaction_s)s)
UNION ALL
SELECT 'idle in transaction', name, jsonb_build_object('seconds', state_s::bigint, 'pid', pid)
FROM session WHERE state LIKE 'idle in transaction%%' AND state_s > %(idle_in_transaction_s)s
UNION ALL
SELECT 'blocked', session.name, jsonb_build_object('seconds', session.query_s::bigint, 'pid', session.pid, 'by',
    (SELECT jsonb_agg(jsonb_build_object('pid', blocking, 'name', blocker.name)) FROM
     unnest(pg_blocking_pids(session.pid)) AS blocking LEFT JOIN session AS blocker ON blocker.pid = blocking))
FROM session WHERE wait_event_type = 'Lock' AND query_s > %(blocked_s)s

UNION ALL
SELECT 'replication lag', coalesce(nullif(application_name, ''), host(client_addr), pid::text), jsonb_build_object(
    'seconds', extract(epoch FROM coalesce(replay_lag, flush_lag))::bigint, 'bytes', behind, 'state', state)
FROM pg_stat_replication CROSS JOIN LATERAL (
    -- One that only stores the WAL, such as pg_receivewal, replays nothing.
    SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn)) AS behind) AS wal
WHERE NOT pg_is_in_recovery()
  AND (coalesce(replay_lag, flush_lag) > make_interval(secs => %(lag_s)s) OR behind > %(lag_bytes)s)
UNION ALL
SELECT 'replay lag', 'this standby', jsonb_build_object(
    'seconds', extract(epoch FROM statement_timestamp() - pg_last_xact_replay_timestamp())::bigint)
WHERE pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
  AND statement_timestamp() - pg_last_xact_replay_timestamp() > make_interval(secs => %(lag_s)s)
UNION ALL
SELECT 'slot', quote_ident(slot_name), jsonb_build_object('active', active, 'status', wal_status, 'bytes', retained)
FROM pg_replication_slots CROSS JOIN LATERAL (
    SELECT pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                           restart_lsn) AS retained) AS wal
WHERE NOT temporary AND (wal_status IN ('unreserved', 'lost') OR retained > %(slot_bytes)s)

UNION ALL
SELECT 'checksum failures', coalesce(quote_ident(datname), 'shared catalogues'),
    jsonb_build_object('failures', checksum_failures, 'last', checksum_last_failure)
FROM pg_stat_database WHERE checksum_failures > 0

UNION ALL
SELECT 'setting', name, jsonb_build_object('value', setting, 'source', source)
FROM pg_settings
WHERE (name IN ('fsync', 'full_page_writes', 'autovacuum', 'track_counts', 'data_checksums') AND setting = 'off')
   OR (name IN ('zero_damaged_pages', 'ignore_checksum_failure', 'ignore_system_indexes') AND setting = 'on')
   OR (name = 'synchronous_commit' AND setting = 'off')
UNION ALL
SELECT 'role setting', split_part(setting, '=', 1), jsonb_build_object('value', split_part(setting, '=', 2), 'of',
    concat_ws(' ', CASE WHEN setrole <> 0 THEN 'ROLE ' || quote_ident(pg_get_userbyid(setrole)) END,
              CASE WHEN setdatabase <> 0 THEN
                  CASE WHEN setrole <> 0 THEN 'IN ' ELSE '' END || 'DATABASE ' || quote_ident(current_database()) END))
FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND split_part(setting, '=', 1) IN ('session_replication_role', 'default_transaction_read_only', 'search_path',
      'fsync', 'full_page_writes', 'synchronous_commit', 'zero_damaged_pages', 'ignore_checksum_failure', 'row_security')
  AND setting NOT IN ('session_replication_role=origin', 'default_transaction_read_only=off', 'synchronous_commit=on')

UNION ALL
SELECT 'vacuum', tables.name, jsonb_build_object('dead', n_dead_tup, 'live', n_live_tup,
    'last', greatest(last_vacuum, last_autovacuum))
FROM pg_stat_all_tables JOIN tables ON tables.oid = relid
WHERE n_dead_tup > %(dead_rows)s AND n_dead_tup > 0.4 * n_live_tup
  AND coalesce(greatest(last_vacuum, last_autovacuum), '-infinity')
      < statement_timestamp() - make_interval(hours => %(vacuum_h)s)

UNION ALL
SELECT 'duplicate index', name, jsonb_build_object('first', first, 'table', indrelid::regclass)
FROM (
    -- The first of those alike stays: a constraint's, a partition's piece, a unique one, the oldest.
    SELECT *, first_value(name) OVER alike AS first, row_number() OVER alike AS place FROM indexes
    WINDOW alike AS (PARTITION BY indrelid, definition
                     ORDER BY of_constraint DESC, of_parent DESC, indisunique DESC, indexrelid)
) AS ranked
WHERE place > 1 AND NOT of_constraint AND NOT of_parent
UNION ALL
SELECT 'unused index', quote_ident(stat.indexrelname),
    jsonb_build_object('table', relid::regclass, 'bytes', size.bytes)
FROM pg_stat_user_indexes AS stat JOIN pg_index USING (indexrelid)
JOIN LATERAL (SELECT relpages * current_setting('block_size')::bigint AS bytes
              FROM pg_class WHERE pg_class.oid = stat.indexrelid) AS size ON size.bytes > %(unused_bytes)s
JOIN pg_stat_database ON pg_stat_database.datname = current_database()
WHERE stat.schemaname = current_schema() AND idx_scan = 0 AND NOT indisunique
  AND coalesce(stats_reset, '-infinity') < statement_timestamp() - make_interval(days => %(unused_days)s)
UNION ALL
SELECT 'foreign key without index', conrelid::regclass || '.' || quote_ident(conname), jsonb_build_object(
    'table', conrelid::regclass, 'columns', (SELECT string_agg(quote_ident(attname), ', ' ORDER BY place)
        FROM unnest(conkey) WITH ORDINALITY AS key (attnum, place)
        JOIN pg_attribute USING (attnum) WHERE attrelid = conrelid))
FROM pg_constraint
WHERE contype = 'f' AND conparentid = 0 AND connamespace = current_schema()::regnamespace
  AND NOT EXISTS (
    SELECT FROM pg_index
    WHERE indrelid = conrelid AND indisvalid AND indnkeyatts >= cardinality(conkey)
      AND conkey @> (indkey::int2[])[0:cardinality(conkey) - 1] AND conkey <@ (indkey::int2[])[0:cardinality(conkey) - 1]
      -- A partial index serves where it leaves out NULL alone.
      AND (indpred IS NULL OR indpred::text ~ '^\(?{NULLTEST :arg {VAR [^{}]*} :nulltesttype 1 [^{}]*}\)?$'))

UNION ALL
SELECT 'bloat', tables.name, jsonb_build_object('readable', has_table_privilege(tables.oid, 'SELECT'),
    'bytes', relpages * block.size, 'least', round(reltuples * (28 + width.bytes)))
FROM tables CROSS JOIN (SELECT current_setting('block_size')::bigint AS size) AS block
LEFT JOIN LATERAL (
    SELECT sum((1 - null_frac) * avg_width) AS bytes FROM pg_stats
    WHERE schemaname = current_schema() AND tablename = tables.relname AND NOT inherited) AS width ON true
WHERE relpages * block.size > %(bloat_bytes)s AND reltuples > 0
  AND (width.bytes IS NULL OR relpages * block.size > %(bloat_factor)s * reltuples * (28 + width.bytes))

UNION ALL
SELECT 'extension version', quote_ident(extname), jsonb_build_object('installed', extversion, 'default', default_version)
FROM pg_extension JOIN pg_available_extensions ON name = extname WHERE extversion <> default_version
UNION ALL
SELECT 'collation version', quote_ident(datname), jsonb_build_object('kind', 'database', 'recorded', datcollversion,
    'actual', pg_database_collation_actual_version(oid))
FROM pg_database
WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid)
UNION ALL
SELECT 'collation version', used.oid::regcollation::text, jsonb_build_object('kind', 'collation',
    'recorded', collversion, 'actual', pg_collation_actual_version(used.oid))
FROM pg_collation AS used
WHERE collversion <> pg_collation_actual_version(used.oid)
  AND EXISTS (SELECT FROM pg_depend WHERE refclassid = 'pg_collation'::regclass AND refobjid = used.oid)
ORDER BY 1, 2
