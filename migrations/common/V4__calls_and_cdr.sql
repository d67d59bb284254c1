-- Calls that are up now. A row ends with its call; what was is in `cdr`. `state`: inviting, ringing, answered.

CREATE TABLE calls (
    call_uid        TEXT    NOT NULL PRIMARY KEY,
    cdr_id          TEXT    NOT NULL,
    tenant          TEXT    NOT NULL,
    edge            TEXT    NOT NULL,
    journal         TEXT    NOT NULL,
    sequence        BIGINT  NOT NULL,
    state           TEXT    NOT NULL,
    side            TEXT    NOT NULL,
    direction       TEXT    NOT NULL,
    session_id      TEXT,
    call_id         TEXT    NOT NULL,
    egress_call_id  TEXT,
    from_uri        TEXT    NOT NULL,
    to_uri          TEXT    NOT NULL,
    ruri            TEXT    NOT NULL,
    caller          TEXT    NOT NULL,
    caller_e164     TEXT,
    callee          TEXT    NOT NULL,
    callee_e164     TEXT,
    ingress_kind    TEXT    NOT NULL,
    ingress_peer    TEXT    NOT NULL,
    user_agent      TEXT,
    attempts        INTEGER NOT NULL,
    egress_kind     TEXT,
    egress_peer     TEXT,
    route           TEXT,
    codecs          TEXT    NOT NULL,
    held_by         TEXT,
    invited_at      BIGINT  NOT NULL,
    progressed_at   BIGINT,
    answered_at     BIGINT,
    pdd_ms          BIGINT,
    setup_ms        BIGINT,
    checkpointed_at BIGINT,
    recovered_at    BIGINT
);

CREATE INDEX calls_tenant ON calls (tenant, invited_at);

-- One record for each call. Lists (`diversion`, `codecs`) are JSON. `stage`: how far a call that failed had come.

CREATE TABLE cdr (
    cdr_id            TEXT    NOT NULL PRIMARY KEY,
    tenant            TEXT    NOT NULL,
    call_uid          TEXT    NOT NULL,
    edge              TEXT    NOT NULL,
    side              TEXT    NOT NULL,
    direction         TEXT    NOT NULL,
    session_id        TEXT,
    ingress_call_id   TEXT    NOT NULL,
    egress_call_id    TEXT,
    caller            TEXT    NOT NULL,
    caller_e164       TEXT,
    callee            TEXT    NOT NULL,
    callee_e164       TEXT,
    diversion         TEXT    NOT NULL,
    ingress_kind      TEXT    NOT NULL,
    ingress_peer      TEXT    NOT NULL,
    egress_kind       TEXT,
    egress_peer       TEXT,
    route             TEXT,
    attempts          INTEGER NOT NULL,
    invited_at        BIGINT  NOT NULL,
    first_progress_at BIGINT,
    answered_at       BIGINT,
    ended_at          BIGINT  NOT NULL,
    pdd_ms            BIGINT,
    ring_ms           BIGINT,
    setup_ms          BIGINT,
    duration_ms       BIGINT  NOT NULL,
    billable_ms       BIGINT  NOT NULL,
    released_by       TEXT    NOT NULL,
    status            INTEGER NOT NULL,
    q850_cause        INTEGER,
    reason            TEXT,
    category          TEXT    NOT NULL,
    stage             TEXT,
    codecs            TEXT    NOT NULL,
    completeness      TEXT    NOT NULL,
    first_sequence    BIGINT  NOT NULL,
    last_sequence     BIGINT  NOT NULL
);

CREATE INDEX cdr_ended ON cdr (ended_at, cdr_id);
CREATE INDEX cdr_tenant_ended ON cdr (tenant, ended_at);
CREATE INDEX cdr_call_uid ON cdr (call_uid);
CREATE INDEX cdr_invited ON cdr (invited_at);
