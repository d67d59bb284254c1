-- Nearly every binding has one place only, so the open place lives in the binding's own row, and `location_history` gets
-- a row when a place ends; all its rows have `valid_to` and `ended`. Where bindings are and were is both together.
--
-- `place_from`, `place_journal`, `place_sequence`: when and by which event the present place began; `place_user_agent`
-- and `place_callid`: what was told then, for a refresh may tell others. The place itself is in the usual columns.
ALTER TABLE location ADD COLUMN place_from       BIGINT NOT NULL DEFAULT 0;
ALTER TABLE location ADD COLUMN place_journal    TEXT   NOT NULL DEFAULT '';
ALTER TABLE location ADD COLUMN place_sequence   BIGINT NOT NULL DEFAULT 0;
ALTER TABLE location ADD COLUMN place_user_agent TEXT   NOT NULL DEFAULT '';
ALTER TABLE location ADD COLUMN place_callid     TEXT   NOT NULL DEFAULT '';

UPDATE location SET place_from = h.valid_from, place_journal = h.journal, place_sequence = h.sequence,
    place_user_agent = h.user_agent, place_callid = h.callid
FROM location_history h
WHERE h.tenant = location.tenant AND h.aor = location.aor AND h.binding = location.binding AND h.edge = location.edge
    AND h.valid_to IS NULL;

-- A row whose open place somebody deleted: it is there since its last event.
UPDATE location SET place_from = refreshed_at, place_journal = journal, place_sequence = sequence,
    place_user_agent = user_agent, place_callid = callid
WHERE place_journal = '';

-- An open place whose row somebody deleted ended with its lease.
UPDATE location_history SET valid_to = expires_at, ended = 'expired'
WHERE valid_to IS NULL AND NOT EXISTS (SELECT 1 FROM location l WHERE l.tenant = location_history.tenant
    AND l.aor = location_history.aor AND l.binding = location_history.binding AND l.edge = location_history.edge);

DELETE FROM location_history WHERE valid_to IS NULL;

-- No query of ours looks for these.
DROP INDEX location_history_open;
DROP INDEX location_contact_id;

-- Places of a moment have ended after it: few, for people ask of late, and new ones come at the index's end.
DROP INDEX location_history_valid;
CREATE INDEX location_history_valid_to ON location_history (valid_to);
