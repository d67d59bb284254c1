-- Who can be reached where. The columns up to `attr` carry the names, meanings and types of the usual usrloc `location`
-- table (Kamailio's and OpenSIPS's together), so that what reads such a table reads this one; where those limit the
-- length of text, there is no limit here. `expires` is in seconds since 1970, 0 for never; `methods` the usual bit mask.
-- One writer for each row: the edge that holds the binding.

CREATE TABLE location (
    id            BIGINT    NOT NULL,
    ruid          TEXT      NOT NULL,
    contact_id    BIGINT    NOT NULL,
    username      TEXT      NOT NULL,
    domain        TEXT      NOT NULL,
    contact       TEXT      NOT NULL,
    received      TEXT,
    path          TEXT,
    expires       BIGINT    NOT NULL,
    q             REAL      NOT NULL,
    callid        TEXT      NOT NULL,
    cseq          INTEGER   NOT NULL,
    last_modified TIMESTAMP NOT NULL,
    flags         INTEGER   NOT NULL DEFAULT 0,
    cflags        INTEGER   NOT NULL DEFAULT 0,
    user_agent    TEXT      NOT NULL,
    socket        TEXT,
    methods       INTEGER,
    instance      TEXT,
    sip_instance  TEXT,
    reg_id        INTEGER   NOT NULL DEFAULT 0,
    server_id     INTEGER   NOT NULL DEFAULT 0,
    connection_id INTEGER   NOT NULL DEFAULT 0,
    keepalive     INTEGER   NOT NULL DEFAULT 0,
    partition     INTEGER   NOT NULL DEFAULT 0,
    kv_store      TEXT,
    attr          TEXT,
    tenant        TEXT      NOT NULL,
    aor           TEXT      NOT NULL,
    binding       TEXT      NOT NULL,
    edge          TEXT      NOT NULL,
    journal       TEXT      NOT NULL,
    sequence      BIGINT    NOT NULL,
    backend       TEXT,
    flow_state    TEXT      NOT NULL,
    registered_at BIGINT    NOT NULL,
    refreshed_at  BIGINT    NOT NULL,
    expires_at    BIGINT    NOT NULL,
    PRIMARY KEY (tenant, aor, binding, edge)
);

CREATE INDEX location_username ON location (username, domain);
CREATE INDEX location_contact_id ON location (contact_id);
CREATE INDEX location_expires_at ON location (expires_at);

-- Each place a binding was at, from when to when (`valid_to` NULL: still), and the event that began it. A refresh from
-- the same place prolongs `expires_at`; another place begins a new row. `ended`: moved, client, replaced, admin,
-- flow_failed, expired.
CREATE TABLE location_history (
    tenant     TEXT   NOT NULL,
    aor        TEXT   NOT NULL,
    binding    TEXT   NOT NULL,
    edge       TEXT   NOT NULL,
    journal    TEXT   NOT NULL,
    sequence   BIGINT NOT NULL,
    valid_from BIGINT NOT NULL,
    valid_to   BIGINT,
    ended      TEXT,
    username   TEXT   NOT NULL,
    domain     TEXT   NOT NULL,
    contact    TEXT   NOT NULL,
    received   TEXT,
    path       TEXT,
    socket     TEXT,
    user_agent TEXT   NOT NULL,
    backend    TEXT,
    callid     TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, aor, binding, edge, journal, sequence)
);

CREATE INDEX location_history_valid ON location_history (valid_from, valid_to);
