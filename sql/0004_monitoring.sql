-- Views for monitoring. Days are UTC days.

CREATE VIEW storage_per_day AS
SELECT
    utc_date                                AS date,
    count(*)                                AS total_files,
    sum(message_count)::BIGINT              AS total_messages,
    sum(tick_count)::BIGINT                 AS total_ticks,
    sum(file_size_bytes)::BIGINT            AS total_size_bytes,
    (sum(file_size_bytes) / 1073741824.0)::DOUBLE PRECISION AS size_gb
FROM tick_files
GROUP BY utc_date
ORDER BY utc_date;
COMMENT ON VIEW storage_per_day IS 'Files, messages, ticks and bytes of each UTC day.';

CREATE VIEW top_contracts AS
SELECT
    tf.contract_id,
    COALESCE(c.symbol, '')                  AS symbol,
    count(*)                                AS total_files,
    sum(tf.tick_count)::BIGINT              AS total_ticks,
    (sum(tf.file_size_bytes) / 1048576.0)::DOUBLE PRECISION AS size_mb,
    COALESCE(sum(tf.tick_count) FILTER (WHERE tf.hour_bucket >= now() - INTERVAL '7 days'), 0)
        ::BIGINT                            AS ticks_7_days,
    (COALESCE(sum(tf.file_size_bytes) FILTER (WHERE tf.hour_bucket >= now() - INTERVAL '7 days'), 0)
        / 1048576.0)::DOUBLE PRECISION      AS size_mb_7_days,
    ns_floor(min(tf.first_tick_ns))         AS first_tick,
    ns_ceil(max(tf.last_tick_ns))           AS last_tick
FROM tick_files AS tf
LEFT JOIN contracts AS c USING (contract_id)
GROUP BY tf.contract_id, c.symbol
ORDER BY sum(tf.file_size_bytes) DESC, tf.contract_id;
COMMENT ON VIEW top_contracts IS
    'Contracts by the room they take, altogether and over the last seven days.';

CREATE VIEW session_statistics AS
SELECT
    s.market,
    s.session_type,
    s.session_date,
    s.session_start,
    s.session_end,
    tf.contract_id,
    tf.tick_type,
    count(*)                                AS total_files,
    sum(tf.message_count)::BIGINT           AS total_messages,
    sum(tf.tick_count)::BIGINT              AS total_ticks,
    sum(tf.file_size_bytes)::BIGINT         AS total_size_bytes,
    min(tf.start_time)                      AS first_message,
    max(tf.end_time)                        AS last_message
FROM market_sessions AS s
JOIN tick_files AS tf ON tf.time_range && tstzrange(s.session_start, s.session_end)
GROUP BY s.market, s.session_type, s.session_date, s.session_start, s.session_end,
    tf.contract_id, tf.tick_type;
COMMENT ON VIEW session_statistics IS
    'What is stored of each session, contract and tick type, counted in whole files: those that '
    'may hold messages of the session.';
