-- Functions for the common questions. Ranges are half-open: [start, end).

CREATE FUNCTION get_files_for_range(
    p_contract_id BIGINT,
    p_tick_type   TEXT,
    p_start_time  TIMESTAMPTZ,
    p_end_time    TIMESTAMPTZ
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
    ORDER BY tf.hour_bucket, tf.file_path
$$;
COMMENT ON FUNCTION get_files_for_range(BIGINT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ) IS
    'Files that may hold messages in [p_start_time, p_end_time), by hour.';

CREATE FUNCTION get_files_to_present(
    p_contract_id BIGINT,
    p_tick_type   TEXT,
    p_start_time  TIMESTAMPTZ
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
    ORDER BY tf.hour_bucket, tf.file_path
$$;
COMMENT ON FUNCTION get_files_to_present(BIGINT, TEXT, TIMESTAMPTZ) IS
    'Files that may hold messages from p_start_time on, by hour, each once; is_complete is false '
    'for a file still being written.';

CREATE FUNCTION get_files_with_density(
    p_contract_id BIGINT,
    p_tick_type   TEXT,
    p_start_time  TIMESTAMPTZ,
    p_end_time    TIMESTAMPTZ
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
    ORDER BY tf.hour_bucket, tf.file_path
$$;
COMMENT ON FUNCTION get_files_with_density(BIGINT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ) IS
    'As get_files_for_range, with messages per minute between the first and the last message, and '
    'the size in MiB.';

CREATE FUNCTION get_session_boundaries(
    p_date         DATE,
    p_market       TEXT DEFAULT 'US',
    p_session_type TEXT DEFAULT 'regular'
) RETURNS TABLE (
    session_start TIMESTAMPTZ,
    session_end   TIMESTAMPTZ
)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_known TEXT;
    v_first DATE;
    v_last  DATE;
BEGIN
    SELECT min(s.session_date), max(s.session_date) INTO v_first, v_last
    FROM market_sessions AS s
    WHERE s.market = p_market AND s.session_type = p_session_type;

    IF v_first IS NULL THEN
        SELECT string_agg(DISTINCT s.session_type, ', ' ORDER BY s.session_type) INTO v_known
        FROM market_sessions AS s
        WHERE s.market = p_market;
        IF v_known IS NOT NULL THEN
            RAISE EXCEPTION 'Unknown session type for %: %', p_market, p_session_type
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Known: ' || v_known || '.';
        END IF;
        SELECT string_agg(DISTINCT s.market, ', ' ORDER BY s.market) INTO v_known
        FROM market_sessions AS s;
        RAISE EXCEPTION 'Unknown market: %', p_market
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Known: ' || COALESCE(v_known, 'none, market_sessions is empty') || '.';
    END IF;

    IF p_date NOT BETWEEN v_first AND v_last THEN
        RAISE EXCEPTION 'The % sessions of % are known from % to %, not on %',
            p_session_type, p_market, v_first, v_last, p_date
            USING ERRCODE = 'no_data_found', HINT = 'Fill market_sessions for that day.';
    END IF;

    RETURN QUERY
    SELECT s.session_start, s.session_end
    FROM market_sessions AS s
    WHERE s.market = p_market
      AND s.session_type = p_session_type
      AND s.session_date = p_date;
END
$$;
COMMENT ON FUNCTION get_session_boundaries(DATE, TEXT, TEXT) IS
    'Start and end (exclusive) of a session, holidays and early closes known; no row on a day '
    'without that session; an error for a market, type or day that market_sessions does not know.';

CREATE FUNCTION active_contracts(p_date DATE)
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
    GROUP BY tf.contract_id, c.symbol, tf.tick_type
    ORDER BY count(*) DESC, tf.contract_id, tf.tick_type
$$;
COMMENT ON FUNCTION active_contracts(DATE) IS
    'Contracts and tick types with files on a UTC day, most files first.';
