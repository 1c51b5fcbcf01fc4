-- Columnar companions: the sealed hours of a stream and a UTC day as one Parquet file. They are
-- derived from the hour files; a row counts only for the hours whose rows in tick_files are still
-- those that it names, so that no file is opened to find out.

CREATE TABLE companion_files (
    file_path       TEXT COLLATE "C" PRIMARY KEY,
    contract_id     BIGINT NOT NULL,
    tick_type       TEXT COLLATE "C" NOT NULL,
    day_ns          BIGINT NOT NULL,
    utc_date        DATE NOT NULL GENERATED ALWAYS AS (ns_date(day_ns)) STORED,

    row_count       BIGINT NOT NULL,
    file_size_bytes BIGINT NOT NULL,
    crc32c          BIGINT NOT NULL,
    inode           BIGINT NOT NULL,
    modified_ns     BIGINT NOT NULL,
    changed_ns      BIGINT NOT NULL,

    hour_paths      TEXT[] NOT NULL,
    hour_sizes      BIGINT[] NOT NULL,
    hour_crc32c     BIGINT[] NOT NULL,
    hour_rows       BIGINT[] NOT NULL,

    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now(),

    CONSTRAINT companion_files_one_a_day UNIQUE (contract_id, tick_type, day_ns),
    CONSTRAINT companion_files_hours_agree CHECK (
        cardinality(hour_sizes) = cardinality(hour_paths)
        AND cardinality(hour_crc32c) = cardinality(hour_paths)
        AND cardinality(hour_rows) = cardinality(hour_paths)
    )
);

CREATE INDEX idx_companion_files_day ON companion_files (day_ns);

COMMENT ON TABLE companion_files IS
    'One row a columnar companion. They are built from the hour files and may be deleted any time.';
COMMENT ON COLUMN companion_files.file_path IS
    'Relative to the store''s root, with forward slashes.';
COMMENT ON COLUMN companion_files.contract_id IS 'IB''s contract id (conId).';
COMMENT ON COLUMN companion_files.tick_type IS 'last, all_last, bid_ask or mid_point.';
COMMENT ON COLUMN companion_files.day_ns IS 'Start of the UTC day, nanoseconds since 1970 UTC.';
COMMENT ON COLUMN companion_files.utc_date IS 'The UTC day.';
COMMENT ON COLUMN companion_files.row_count IS 'How many ticks it has.';
COMMENT ON COLUMN companion_files.file_size_bytes IS 'Bytes on disk.';
COMMENT ON COLUMN companion_files.crc32c IS 'CRC-32C of all bytes.';
COMMENT ON COLUMN companion_files.inode IS
    'Inode of the file (63 bits): while it and the times are the same, so are the bytes.';
COMMENT ON COLUMN companion_files.modified_ns IS 'Time of modification, nanoseconds.';
COMMENT ON COLUMN companion_files.changed_ns IS 'Time of change of the inode, nanoseconds.';
COMMENT ON COLUMN companion_files.hour_paths IS 'Hour files whose ticks it has, by time.';
COMMENT ON COLUMN companion_files.hour_sizes IS 'Bytes of these files.';
COMMENT ON COLUMN companion_files.hour_crc32c IS 'CRC-32C of all bytes after their header frames.';
COMMENT ON COLUMN companion_files.hour_rows IS 'Number of their ticks.';

CREATE VIEW companions AS
SELECT
    c.file_path       AS path,
    c.contract_id,
    c.tick_type,
    c.utc_date        AS day,
    c.row_count       AS rows,
    c.file_size_bytes AS bytes,
    cardinality(c.hour_paths) AS hour_files,
    NOT EXISTS (
        SELECT
        FROM unnest(c.hour_paths, c.hour_sizes, c.hour_crc32c) AS h (path, size, crc32c)
        FULL JOIN (
            SELECT tf.file_path, tf.file_size_bytes, tf.crc32c, tf.sealed
            FROM tick_files AS tf
            WHERE tf.contract_id = c.contract_id
              AND tf.tick_type = c.tick_type
              AND tf.utc_date = c.utc_date
              AND NOT tf.backfilled
        ) AS f ON f.file_path = h.path
        WHERE h.path IS NULL
           OR f.file_path IS NULL
           OR NOT f.sealed
           OR f.file_size_bytes <> h.size
           OR f.crc32c IS DISTINCT FROM h.crc32c
    )                 AS fresh
FROM companion_files AS c
ORDER BY c.contract_id, c.tick_type, c.day_ns;
COMMENT ON VIEW companions IS
    'Columnar companions: fresh if every captured file of the day is sealed and as it was when the '
    'companion was built. Loads read the hours that are not from their files.';
