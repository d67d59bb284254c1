-- Who runs a role that only one process may have at a time, for as long as it renews this. Times are microseconds since
-- 1970 by the database's clock; `expires_at` 0: given back. `place`: the holder's data directory; `folds`: which bus the
-- tables are folded from.
CREATE TABLE lease (
    name       TEXT   NOT NULL PRIMARY KEY,
    epoch      BIGINT NOT NULL,
    holder     TEXT   NOT NULL,
    place      TEXT   NOT NULL,
    folds      TEXT   NOT NULL,
    since      BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Rebuilds that are asked for or under way, and the last one of each projection. `state`: wanted, running, done, failed;
-- `done` of `total` events are read.
CREATE TABLE projection_rebuild (
    projection TEXT   NOT NULL PRIMARY KEY,
    state      TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    done       BIGINT NOT NULL,
    total      BIGINT NOT NULL,
    carried    BIGINT NOT NULL,
    note       TEXT   NOT NULL,
    asked_at   BIGINT NOT NULL,
    started_at BIGINT,
    ended_at   BIGINT
);
