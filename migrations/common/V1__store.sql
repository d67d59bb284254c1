-- What every projection shares: who may write, how far it has come, what is parked, what is to be told.
-- Times are microseconds since 1970 in UTC.

CREATE TABLE store_meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- One row for each version of each projection; a transaction holds while its epoch does.
CREATE TABLE projection_holder (
    projection TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    epoch      BIGINT  NOT NULL,
    holder     TEXT    NOT NULL,
    claimed_at BIGINT  NOT NULL,
    saved_at   BIGINT  NOT NULL,
    PRIMARY KEY (projection, version)
);

-- Up to `low` all of the domain is applied, and the ranges above it (`7-9,12-12`). `retained_from`: the first that
-- still existed when the projection began. Domain `*`: where to read the source on from.
CREATE TABLE projection_position (
    projection    TEXT    NOT NULL,
    version       INTEGER NOT NULL,
    source        TEXT    NOT NULL,
    domain        TEXT    NOT NULL,
    low           BIGINT  NOT NULL,
    ranges        TEXT    NOT NULL,
    retained_from BIGINT,
    sequence      BIGINT  NOT NULL,
    saved_at      BIGINT  NOT NULL,
    PRIMARY KEY (projection, version, source, domain)
);

-- Events that a projection could not apply, and later ones of the same aggregate, kept whole until an operator decides.
-- `wanted`: empty, `retry` or `skip`.
CREATE TABLE parked (
    projection     TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    source         TEXT    NOT NULL,
    sequence       BIGINT  NOT NULL,
    domain         TEXT    NOT NULL,
    domainsequence BIGINT  NOT NULL,
    kind           TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    subject        TEXT    NOT NULL,
    time           BIGINT  NOT NULL,
    recordedtime   BIGINT  NOT NULL,
    correlation    TEXT    NOT NULL,
    causation      BIGINT  NOT NULL,
    data           TEXT    NOT NULL,
    error_class    TEXT    NOT NULL,
    reason         TEXT    NOT NULL,
    parked_at      BIGINT  NOT NULL,
    wanted         TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (projection, version, source, sequence)
);

-- Events whose source is this store; numbered without gaps.
CREATE TABLE outbox_counter (
    domain TEXT   NOT NULL PRIMARY KEY,
    value  BIGINT NOT NULL
);

CREATE TABLE outbox (
    sequence       BIGINT NOT NULL PRIMARY KEY,
    domainsequence BIGINT NOT NULL,
    domain         TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    tenant         TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    time           BIGINT NOT NULL,
    recordedtime   BIGINT NOT NULL,
    correlation    TEXT   NOT NULL,
    causation      TEXT   NOT NULL,
    data           TEXT   NOT NULL
);
