-- Two more things a stretch of time can be: filled from IB's history, and deleted since.

ALTER TABLE coverage DROP CONSTRAINT coverage_state_known;
ALTER TABLE coverage ADD CONSTRAINT coverage_state_known CHECK (
    state IN (
        'captured', 'backfilled', 'session_closed', 'quiet', 'disconnected', 'not_permitted',
        'deleted'
    )
);

COMMENT ON COLUMN coverage.state IS
    'captured, backfilled, session_closed, quiet, disconnected, not_permitted or deleted.';
