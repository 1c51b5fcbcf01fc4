-- Backfilled ticks lie in files of their own and are never mixed with captured ones unless asked
-- for: statistics and queries leave them out.

ALTER TABLE tick_files ADD COLUMN backfilled BOOLEAN NOT NULL
    GENERATED ALWAYS AS (file_path LIKE '%-backfill\_ticks.pb') STORED;
COMMENT ON COLUMN tick_files.backfilled IS
    'Its ticks were asked of IB afterwards, and not captured: their times are whole seconds.';

CREATE OR REPLACE FUNCTION refresh_daily_tick_stats(
    p_contract_ids BIGINT[],
    p_tick_types   TEXT[],
    p_dates        DATE[]
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO daily_tick_stats (
        contract_id, tick_type, date, total_files, total_messages, total_ticks, total_size_bytes,
        first_tick_ns, last_tick_ns, min_price, max_price, avg_price, total_volume, vwap
    )
    SELECT
        f.contract_id,
        f.tick_type,
        f.utc_date,
        count(*),
        sum(f.message_count),
        sum(f.tick_count),
        sum(f.file_size_bytes),
        min(f.first_tick_ns),
        max(f.last_tick_ns),
        min(f.min_price),
        max(f.max_price),
        ieee_divide(ieee_sum(f.sum_price ORDER BY f.hour_ns, f.file_path), sum(f.priced_ticks)),
        NULLIF(ieee_sum(f.total_volume ORDER BY f.hour_ns, f.file_path), 'NaN'),
        ieee_divide(
            ieee_sum(f.notional ORDER BY f.hour_ns, f.file_path),
            ieee_sum(f.total_volume ORDER BY f.hour_ns, f.file_path)
        )
    FROM tick_files AS f
    JOIN (
        SELECT DISTINCT t.contract_id, t.tick_type, t.utc_date
        FROM unnest(p_contract_ids, p_tick_types, p_dates) AS t (contract_id, tick_type, utc_date)
    ) AS touched USING (contract_id, tick_type, utc_date)
    WHERE NOT f.backfilled
    GROUP BY f.contract_id, f.tick_type, f.utc_date
    ON CONFLICT (contract_id, tick_type, date) DO UPDATE SET
        total_files = excluded.total_files,
        total_messages = excluded.total_messages,
        total_ticks = excluded.total_ticks,
        total_size_bytes = excluded.total_size_bytes,
        first_tick_ns = excluded.first_tick_ns,
        last_tick_ns = excluded.last_tick_ns,
        min_price = excluded.min_price,
        max_price = excluded.max_price,
        avg_price = excluded.avg_price,
        total_volume = excluded.total_volume,
        vwap = excluded.vwap,
        updated_at = now();

    DELETE FROM daily_tick_stats AS d
    USING unnest(p_contract_ids, p_tick_types, p_dates) AS t (contract_id, tick_type, utc_date)
    WHERE d.contract_id = t.contract_id AND d.tick_type = t.tick_type AND d.date = t.utc_date
      AND NOT EXISTS (
          SELECT FROM tick_files AS f
          WHERE f.contract_id = d.contract_id
            AND f.tick_type = d.tick_type
            AND f.utc_date = d.date
            AND NOT f.backfilled
      );
END
$$;
COMMENT ON FUNCTION refresh_daily_tick_stats(BIGINT[], TEXT[], DATE[]) IS
    'Recompute the given days (three arrays of one length) from tick_files, but for backfilled '
    'files.';
COMMENT ON TABLE daily_tick_stats IS
    'One UTC day of one contract and tick type, but for backfilled files; kept by triggers on '
    'tick_files.';

-- A new parameter makes a new function: the old ones would make their calls ambiguous.
DROP FUNCTION get_files_for_range(BIGINT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ);
DROP FUNCTION get_files_to_present(BIGINT, TEXT, TIMESTAMPTZ);
DROP FUNCTION get_files_with_density(BIGINT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ);

CREATE FUNCTION get_files_for_range(
    p_contract_id BIGINT,
    p_tick_type   TEXT,
    p_start_time  TIMESTAMPTZ,
    p_end_time    TIMESTAMPTZ,
    p_backfilled  BOOLEAN DEFAULT false
) RETURNS TABLE (
    file_path     TEXT,
    start_time    TIMESTAMPTZ,
    end_time      TIMESTAMPTZ,
    message_count BIGINT
)
LANGUAGE sql STABLE AS $$
    SELECT tf.file_path, tf.start_time, tf.end_time, tf.message_count
    FROM tick_files AS tf
    WHERE tf.contract_id = p_contract_id
      AND tf.tick_type = p_tick_type
      AND tf.time_range && tstzrange(p_start_time, p_end_time)
      AND (p_backfilled OR NOT tf.backfilled)
    ORDER BY tf.hour_bucket, tf.file_path
$$;
COMMENT ON FUNCTION get_files_for_range(BIGINT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, BOOLEAN) IS
    'Files that may hold messages in [p_start_time, p_end_time), by hour; backfilled ones only if '
    'p_backfilled.';

CREATE FUNCTION get_files_to_present(
    p_contract_id BIGINT,
    p_tick_type   TEXT,
    p_start_time  TIMESTAMPTZ,
    p_backfilled  BOOLEAN DEFAULT false
) RETURNS TABLE (
    file_path     TEXT,
    start_time    TIMESTAMPTZ,
    end_time      TIMESTAMPTZ,
    message_count BIGINT,
    is_complete   BOOLEAN
)
LANGUAGE sql STABLE AS $$
    SELECT tf.file_path, tf.start_time, tf.end_time, tf.message_count, tf.sealed
    FROM tick_files AS tf
    WHERE tf.contract_id = p_contract_id
      AND tf.tick_type = p_tick_type
      AND tf.time_range && tstzrange(p_start_time, NULL)
      AND (p_backfilled OR NOT tf.backfilled)
    ORDER BY tf.hour_bucket, tf.file_path
$$;
COMMENT ON FUNCTION get_files_to_present(BIGINT, TEXT, TIMESTAMPTZ, BOOLEAN) IS
    'Files that may hold messages from p_start_time on, by hour, each once; is_complete is false '
    'for a file still being written; backfilled ones only if p_backfilled.';

CREATE FUNCTION get_files_with_density(
    p_contract_id BIGINT,
    p_tick_type   TEXT,
    p_start_time  TIMESTAMPTZ,
    p_end_time    TIMESTAMPTZ,
    p_backfilled  BOOLEAN DEFAULT false
) RETURNS TABLE (
    file_path           TEXT,
    start_time          TIMESTAMPTZ,
    end_time            TIMESTAMPTZ,
    message_count       BIGINT,
    messages_per_minute NUMERIC,
    file_size_mb        NUMERIC
)
LANGUAGE sql STABLE AS $$
    SELECT
        tf.file_path,
        tf.start_time,
        tf.end_time,
        tf.message_count,
        CASE
            WHEN tf.end_ns > tf.start_ns
            THEN tf.message_count * 60000000000.0 / (tf.end_ns - tf.start_ns)
            ELSE 0
        END,
        tf.file_size_bytes / 1048576.0
    FROM tick_files AS tf
    WHERE tf.contract_id = p_contract_id
      AND tf.tick_type = p_tick_type
      AND tf.time_range && tstzrange(p_start_time, p_end_time)
      AND (p_backfilled OR NOT tf.backfilled)
    ORDER BY tf.hour_bucket, tf.file_path
$$;
COMMENT ON FUNCTION get_files_with_density(BIGINT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, BOOLEAN) IS
    'As get_files_for_range, with messages per minute between the first and the last message, and '
    'the size in MiB.';

CREATE OR REPLACE FUNCTION active_contracts(p_date DATE)
RETURNS TABLE (
    contract_id     BIGINT,
    symbol          TEXT,
    tick_type       TEXT,
    file_count      BIGINT,
    total_ticks     BIGINT,
    file_size_bytes BIGINT
)
LANGUAGE sql STABLE AS $$
    SELECT
        tf.contract_id,
        COALESCE(c.symbol, ''),
        tf.tick_type,
        count(*),
        sum(tf.tick_count)::BIGINT,
        sum(tf.file_size_bytes)::BIGINT
    FROM tick_files AS tf
    LEFT JOIN contracts AS c USING (contract_id)
    WHERE tf.hour_bucket >= p_date::TIMESTAMP AT TIME ZONE 'UTC'
      AND tf.hour_bucket < (p_date + 1)::TIMESTAMP AT TIME ZONE 'UTC'
      AND NOT tf.backfilled
    GROUP BY tf.contract_id, c.symbol, tf.tick_type
    ORDER BY count(*) DESC, tf.contract_id, tf.tick_type
$$;
COMMENT ON FUNCTION active_contracts(DATE) IS
    'Contracts and tick types with captured files on a UTC day, most files first.';

-- What takes room counts, whichever way it came; ticks are told apart.

CREATE OR REPLACE VIEW storage_per_day AS
SELECT
    utc_date                                AS date,
    count(*)                                AS total_files,
    sum(message_count)::BIGINT              AS total_messages,
    COALESCE(sum(tick_count) FILTER (WHERE NOT backfilled), 0)::BIGINT AS total_ticks,
    sum(file_size_bytes)::BIGINT            AS total_size_bytes,
    (sum(file_size_bytes) / 1073741824.0)::DOUBLE PRECISION AS size_gb,
    COALESCE(sum(tick_count) FILTER (WHERE backfilled), 0)::BIGINT AS backfilled_ticks
FROM tick_files
GROUP BY utc_date
ORDER BY utc_date;
COMMENT ON VIEW storage_per_day IS
    'Files, messages, captured ticks, bytes and backfilled ticks of each UTC day.';

CREATE OR REPLACE VIEW top_contracts AS
SELECT
    tf.contract_id,
    COALESCE(c.symbol, '')                  AS symbol,
    count(*)                                AS total_files,
    COALESCE(sum(tf.tick_count) FILTER (WHERE NOT tf.backfilled), 0)::BIGINT AS total_ticks,
    (sum(tf.file_size_bytes) / 1048576.0)::DOUBLE PRECISION AS size_mb,
    COALESCE(
        sum(tf.tick_count) FILTER (
            WHERE tf.hour_bucket >= now() - INTERVAL '7 days' AND NOT tf.backfilled
        ), 0
    )::BIGINT                               AS ticks_7_days,
    (COALESCE(sum(tf.file_size_bytes) FILTER (WHERE tf.hour_bucket >= now() - INTERVAL '7 days'), 0)
        / 1048576.0)::DOUBLE PRECISION      AS size_mb_7_days,
    ns_floor(min(tf.first_tick_ns) FILTER (WHERE NOT tf.backfilled)) AS first_tick,
    ns_ceil(max(tf.last_tick_ns) FILTER (WHERE NOT tf.backfilled)) AS last_tick,
    COALESCE(sum(tf.tick_count) FILTER (WHERE tf.backfilled), 0)::BIGINT AS backfilled_ticks
FROM tick_files AS tf
LEFT JOIN contracts AS c USING (contract_id)
GROUP BY tf.contract_id, c.symbol
ORDER BY sum(tf.file_size_bytes) DESC, tf.contract_id;
COMMENT ON VIEW top_contracts IS
    'Contracts by the room they take, altogether and over the last seven days; backfilled ticks '
    'are counted apart.';

CREATE OR REPLACE VIEW session_statistics AS
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
WHERE NOT tf.backfilled
GROUP BY s.market, s.session_type, s.session_date, s.session_start, s.session_end,
    tf.contract_id, tf.tick_type;
COMMENT ON VIEW session_statistics IS
    'What was captured of each session, contract and tick type, counted in whole files: those that '
    'may hold messages of the session.';
