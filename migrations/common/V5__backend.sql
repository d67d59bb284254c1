-- The state of each backend as each edge sees it: the latest, and every change.

CREATE TABLE backend_state (
    edge          TEXT   NOT NULL,
    backend       TEXT   NOT NULL,
    tenant        TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    previous      TEXT   NOT NULL,
    cause         TEXT   NOT NULL,
    address       TEXT,
    probe_status  INTEGER,
    rtt_ms        BIGINT,
    consecutive   BIGINT,
    last_up_at    BIGINT,
    down_ms       BIGINT,
    changed_at    BIGINT NOT NULL,
    journal       TEXT   NOT NULL,
    sequence      BIGINT NOT NULL,
    PRIMARY KEY (edge, tenant, backend)
);

CREATE TABLE backend_history (
    journal       TEXT   NOT NULL,
    sequence      BIGINT NOT NULL,
    edge          TEXT   NOT NULL,
    backend       TEXT   NOT NULL,
    tenant        TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    previous      TEXT   NOT NULL,
    cause         TEXT   NOT NULL,
    address       TEXT,
    probe_status  INTEGER,
    rtt_ms        BIGINT,
    consecutive   BIGINT,
    last_up_at    BIGINT,
    down_ms       BIGINT,
    changed_at    BIGINT NOT NULL,
    PRIMARY KEY (journal, sequence)
);

CREATE INDEX backend_history_changed ON backend_history (tenant, backend, changed_at);
