-- Completeness of the index is a stored fact, never inferred from "there are rows". A database made
-- now is incomplete until the files of the store have been entered. One made by an earlier ibticks
-- had its files entered when it was made; each opening compares its rows with the files anyway.

CREATE TABLE index_state (
    only_row   BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row),
    complete   BOOLEAN NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE index_state IS 'Whether every file of the store has been entered: one row.';
COMMENT ON COLUMN index_state.complete IS
    'False from the making of the database, or the start of a rebuild, until all files, contracts '
    'and coverage intervals have been entered.';

INSERT INTO index_state (complete) SELECT EXISTS (SELECT FROM tick_files);

-- A rebuild reads files while writers go on. It takes a revision before it reads a file, and leaves
-- alone the rows that have a later one: their writer knows more than the rebuild.

CREATE SEQUENCE index_revision;
COMMENT ON SEQUENCE index_revision IS 'Numbers the changes of tick_files and coverage.';

ALTER TABLE tick_files ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tick_files ALTER COLUMN revision SET DEFAULT nextval('index_revision');
COMMENT ON COLUMN tick_files.revision IS 'Number of the change that last wrote this row.';

ALTER TABLE coverage ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE coverage ALTER COLUMN revision SET DEFAULT nextval('index_revision');
COMMENT ON COLUMN coverage.revision IS 'Number of the change that last wrote this row.';
