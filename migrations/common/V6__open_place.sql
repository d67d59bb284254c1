-- A binding has one open place. While it is open its lease is that of the binding's row in `location`, so that a refresh
-- writes one row; `location_history.expires_at` is what it was when the place began, and what it was last once it ended.
CREATE UNIQUE INDEX location_history_open ON location_history (tenant, aor, binding, edge) WHERE valid_to IS NULL;

-- No query of ours looks for bindings by the end of their lease, and every refresh moved them in this index.
DROP INDEX location_expires_at;
