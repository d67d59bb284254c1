-- Raised and compared by every guarded transaction. A server that crashes, or a standby that takes over, may go back to
-- an earlier commit; then this is not what the holder left here, and it loads its positions again.
ALTER TABLE projection_holder ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
