-- Where a projection goes on reading a broker, in the broker's own terms. Only a hint: positions say what is applied.
CREATE TABLE projection_hint (
    projection TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    bus        TEXT    NOT NULL,
    hint       TEXT    NOT NULL,
    saved_at   BIGINT  NOT NULL,
    PRIMARY KEY (projection, version, bus)
);

-- How far the store's own events (`outbox`) are on a broker: JSON of the relay's cursor and lanes.
CREATE TABLE outbox_relay (
    relay    TEXT   NOT NULL PRIMARY KEY,
    place    TEXT   NOT NULL,
    saved_at BIGINT NOT NULL
);
