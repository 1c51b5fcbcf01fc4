-- Copies of hour files in an object store. A row is written once a copy was read back and compared
-- with the file, byte for byte; it counts while the row of the file has its size and checksum.

CREATE TABLE archived_files (
    file_path       TEXT COLLATE "C" PRIMARY KEY,
    location        TEXT NOT NULL,
    file_size_bytes BIGINT NOT NULL,
    crc32c          BIGINT NOT NULL,
    file_crc32c     BIGINT NOT NULL,
    e_tag           TEXT NOT NULL DEFAULT '',
    verified_ns     BIGINT NOT NULL,

    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now()
);

COMMENT ON TABLE archived_files IS 'One row an hour file that has a verified copy in an object store.';
COMMENT ON COLUMN archived_files.file_path IS
    'Path of the hour file, relative to the store''s root, with forward slashes.';
COMMENT ON COLUMN archived_files.location IS 'URL of the copy.';
COMMENT ON COLUMN archived_files.file_size_bytes IS 'Bytes of the copy.';
COMMENT ON COLUMN archived_files.crc32c IS 'CRC-32C of all bytes after the header frame.';
COMMENT ON COLUMN archived_files.file_crc32c IS 'CRC-32C of all bytes.';
COMMENT ON COLUMN archived_files.e_tag IS
    'Entity tag of the copy when it was compared; empty where the object store has none.';
COMMENT ON COLUMN archived_files.verified_ns IS
    'Time when the copy was compared with the file, nanoseconds since 1970 UTC.';

CREATE VIEW file_locations AS
SELECT
    tf.file_path,
    tf.contract_id,
    tf.tick_type,
    tf.hour_bucket,
    a.location,
    a.verified_ns
FROM tick_files AS tf
LEFT JOIN archived_files AS a
    ON a.file_path = tf.file_path
    AND tf.sealed
    AND a.file_size_bytes = tf.file_size_bytes
    AND a.crc32c = tf.crc32c;
COMMENT ON VIEW file_locations IS
    'Hour files, and the URL of the verified copy of each in an object store; null without one.';
