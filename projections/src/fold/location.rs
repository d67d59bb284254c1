//! `location` and `location_history`: who can be reached where, and who could be.
//!
//! The row of a binding is written by one edge. The history is derived from the row in the same transaction: when the
//! place in the row differs from that of the open history row, that one ends and another begins. Times in the history
//! are those of the events, so the same events give the same history.

use super::{big, integer, maybe, owned, tenant_of};
use crate::projection::Projection;
use crate::row::{Stamp, insert, table_row};
use crate::usrloc;
use signalbox_base::{Text, Wall};
use signalbox_bus::Delivered;
use signalbox_schemas::registration::{RegistrationAdded, RegistrationRefreshed};
use signalbox_schemas::values::QValue;
use signalbox_schemas::{Event, Kind};
use signalbox_store::{Statement, Value};
use std::sync::LazyLock;

/// Folds the `registration` domain.
pub struct Locations;

table_row! {
    /// A binding. Up to `attr` the columns of the usual usrloc table, with their usual meanings.
    LocationRow = "location" {
        /// Stable number of the binding at its edge.
        id: i64,
        /// The binding's token.
        ruid: String,
        /// The same as `id`.
        contact_id: i64,
        /// User part of the AoR.
        username: String,
        /// Domain of the AoR.
        domain: String,
        /// Contact URI as the phone wrote it.
        contact: String,
        /// Where requests really came from, as a SIP URI.
        received: Option<String>,
        /// Path (RFC 3327).
        path: Option<String>,
        /// End of the binding, seconds since 1970.
        expires: i64,
        /// Preference, 0 to 1.
        q: f64,
        /// Call-ID of the registration.
        callid: String,
        /// CSeq of the last REGISTER.
        cseq: i64,
        /// Last REGISTER, UTC.
        last_modified: Stamp,
        /// Always 0: flags of other programs.
        flags: i64,
        /// Always 0.
        cflags: i64,
        /// User-Agent.
        user_agent: String,
        /// Our socket, `udp:192.0.2.1:5060`.
        socket: Option<String>,
        /// Methods allowed, as a bit mask.
        methods: Option<i64>,
        /// `+sip.instance` with angle brackets.
        instance: Option<String>,
        /// The same as `instance`.
        sip_instance: Option<String>,
        /// `reg-id` (RFC 5626).
        reg_id: i64,
        /// Always 0.
        server_id: i64,
        /// Always 0.
        connection_id: i64,
        /// Always 0.
        keepalive: i64,
        /// Always 0.
        partition: i64,
        /// Always NULL.
        kv_store: Option<String>,
        /// Always NULL.
        attr: Option<String>,
        /// The tenant, `_` for none.
        tenant: String,
        /// `user@domain`.
        aor: String,
        /// The binding's token.
        binding: String,
        /// The edge that holds it.
        edge: String,
        /// Journal of its last event.
        journal: String,
        /// Number of its last event.
        sequence: i64,
        /// The backend that accepted it.
        backend: Option<String>,
        /// `reachable`, or `unreachable` while its connection is lost.
        flow_state: String,
        /// First REGISTER, microseconds since 1970.
        registered_at: i64,
        /// Last REGISTER.
        refreshed_at: i64,
        /// End of the binding.
        expires_at: i64,
    }
}

table_row! {
    /// A place where a binding was, from when to when.
    LocationHistoryRow = "location_history" {
        /// The tenant, `_` for none.
        tenant: String,
        /// `user@domain`.
        aor: String,
        /// The binding's token.
        binding: String,
        /// The edge that held it.
        edge: String,
        /// Journal of the event that began it.
        journal: String,
        /// Number of that event.
        sequence: i64,
        /// From when, microseconds since 1970.
        valid_from: i64,
        /// Until when; NULL: still.
        valid_to: Option<i64>,
        /// Why it ended.
        ended: Option<String>,
        /// User part of the AoR.
        username: String,
        /// Domain of the AoR.
        domain: String,
        /// Contact URI.
        contact: String,
        /// Where requests really came from, as a SIP URI.
        received: Option<String>,
        /// Path.
        path: Option<String>,
        /// Our socket.
        socket: Option<String>,
        /// User-Agent.
        user_agent: String,
        /// The backend that accepted it.
        backend: Option<String>,
        /// Call-ID of the registration.
        callid: String,
        /// End of the binding as it was last granted.
        expires_at: i64,
    }
}

static UPSERT: LazyLock<String> = LazyLock::new(|| {
    let set: Vec<String> =
        LocationRow::COLUMNS.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    upsert(&set)
});

/// What a refresh tells; the row of a binding whose `added` is gone to retention begins with it. Behind the columns come
/// those that have a default in the row but are left as they were when the refresh does not name them.
static REFRESH: LazyLock<String> = LazyLock::new(|| {
    let told = [
        "journal",
        "sequence",
        "contact",
        "expires",
        "expires_at",
        "cseq",
        "last_modified",
        "refreshed_at",
        "flow_state",
    ];
    let maybe = ["received", "backend", "path", "methods", "socket"];
    let set: Vec<String> = told
        .iter()
        .map(|name| format!("{name} = excluded.{name}"))
        .chain(maybe.iter().map(|name| format!("{name} = COALESCE(excluded.{name}, location.{name})")))
        .chain(
            ["q", "user_agent", "callid"]
                .iter()
                .zip(LocationRow::COLUMNS.len() + 1..)
                .map(|(name, place)| format!("{name} = COALESCE(${place}, location.{name})")),
        )
        .collect();
    upsert(&set)
});

/// An insert that updates the row of an earlier event.
fn upsert(set: &[String]) -> String {
    let tail = format!(
        "ON CONFLICT (tenant, aor, binding, edge) DO UPDATE SET {} \
         WHERE location.journal <> excluded.journal OR location.sequence < excluded.sequence",
        set.join(", ")
    );
    insert(LocationRow::TABLE, LocationRow::COLUMNS, &tail)
}

const REMOVE: &str = "DELETE FROM location WHERE tenant = $1 AND aor = $2 AND binding = $3 AND edge = $4";

/// Whether the place in the row `l` is another than that of the history row.
macro_rules! moved {
    () => {
        "(l.contact <> location_history.contact OR l.received IS DISTINCT FROM location_history.received \
         OR l.path IS DISTINCT FROM location_history.path OR l.socket IS DISTINCT FROM location_history.socket \
         OR l.backend IS DISTINCT FROM location_history.backend)"
    };
}

/// The open history row: it ends when the binding is somewhere else now, and goes on as long as the binding does
/// otherwise. The row `l` is there: it was written just before. (`UPDATE … FROM` costs SQLite a temporary table.)
const SETTLE: &str = concat!(
    "UPDATE location_history SET (valid_to, ended, expires_at) = (SELECT CASE WHEN ",
    moved!(),
    " THEN CAST($5 AS BIGINT) END, CASE WHEN ",
    moved!(),
    " THEN 'moved' END, CASE WHEN ",
    moved!(),
    " THEN location_history.expires_at ELSE l.expires_at END FROM location l \
    WHERE l.tenant = $1 AND l.aor = $2 AND l.binding = $3 AND l.edge = $4) \
    WHERE tenant = $1 AND aor = $2 AND binding = $3 AND edge = $4 AND valid_to IS NULL"
);

/// Begins a history row when none is open.
const ARRIVE: &str = "INSERT INTO location_history (tenant, aor, binding, edge, journal, sequence, valid_from, username, \
    domain, contact, received, path, socket, user_agent, backend, callid, expires_at) \
    SELECT l.tenant, l.aor, l.binding, l.edge, l.journal, l.sequence, l.refreshed_at, l.username, l.domain, l.contact, \
    l.received, l.path, l.socket, l.user_agent, l.backend, l.callid, l.expires_at FROM location l \
    WHERE l.tenant = $1 AND l.aor = $2 AND l.binding = $3 AND l.edge = $4 AND NOT EXISTS ( \
    SELECT 1 FROM location_history h WHERE h.tenant = $1 AND h.aor = $2 AND h.binding = $3 AND h.edge = $4 \
    AND h.valid_to IS NULL) \
    ON CONFLICT (tenant, aor, binding, edge, journal, sequence) DO NOTHING";

const END: &str = "UPDATE location_history SET valid_to = $5, ended = $6 \
    WHERE tenant = $1 AND aor = $2 AND binding = $3 AND edge = $4 AND valid_to IS NULL";

impl Projection for Locations {
    fn name(&self) -> &'static str {
        "location"
    }

    fn version(&self) -> u32 {
        1
    }

    fn kinds(&self) -> &'static [Kind] {
        &[
            Kind::RegistrationAdded,
            Kind::RegistrationRefreshed,
            Kind::RegistrationRemoved,
            Kind::RegistrationExpired,
        ]
    }

    fn fold(&self, event: &Delivered, data: &Event) -> Vec<Statement> {
        match data {
            Event::RegistrationAdded(added) => {
                let key = Key::new(event, &added.aor, &added.binding, &added.edge);
                key.written(Statement::new(UPSERT.as_str(), self::added(event, added).values()), event.time)
            }
            Event::RegistrationRefreshed(refresh) => {
                let key = Key::new(event, &refresh.aor, &refresh.binding, &refresh.edge);
                key.written(refreshed(event, refresh), event.time)
            }
            Event::RegistrationRemoved(removed) => {
                let key = Key::new(event, &removed.aor, &removed.binding, &removed.edge);
                key.removed(event.time, removed.reason.as_str())
            }
            Event::RegistrationExpired(expired) => {
                let key = Key::new(event, &expired.aor, &expired.binding, &expired.edge);
                key.removed(expired.expired_at.0, "expired")
            }
            _ => Vec::new(),
        }
    }
}

/// `$1` to `$4` of every statement on a binding.
struct Key([Value; 4]);

impl Key {
    fn new(event: &Delivered, aor: &Text, binding: &Text, edge: &Text) -> Self {
        Self([tenant_of(event).into(), aor.as_str().into(), binding.as_str().into(), edge.as_str().into()])
    }

    fn with<const N: usize>(&self, sql: &'static str, rest: [Value; N]) -> Statement {
        Statement::new(sql, self.0.iter().cloned().chain(rest).collect())
    }

    /// The write of the row, then of the history that follows from it.
    fn written(&self, row: Statement, at: Wall) -> Vec<Statement> {
        vec![row, self.with(SETTLE, [at.into()]), self.with(ARRIVE, [])]
    }

    fn removed(&self, at: Wall, why: &'static str) -> Vec<Statement> {
        vec![self.with(REMOVE, []), self.with(END, [at.into(), why.into()])]
    }
}

fn added(event: &Delivered, added: &RegistrationAdded) -> LocationRow {
    let instance = added.instance_id.as_deref().map(|id| format!("<{id}>"));
    let id = usrloc::row_id(&[&event.tenant, &added.aor, &added.binding, &added.edge]);
    LocationRow {
        id,
        ruid: owned(&added.binding),
        contact_id: id,
        username: usrloc::user_of(&added.aor).to_owned(),
        domain: owned(&added.domain),
        contact: owned(&added.contact),
        received: added.received.as_ref().map(usrloc::received),
        path: maybe(&added.path),
        expires: added.expires_at.0.secs(),
        q: added.q.map_or(1.0, preference),
        callid: owned(&added.call_id),
        cseq: integer(added.cseq),
        last_modified: Stamp(event.time),
        flags: 0,
        cflags: 0,
        user_agent: maybe(&added.user_agent).unwrap_or_default(),
        socket: Some(added.socket.to_string()),
        methods: usrloc::methods(&added.methods),
        instance: instance.clone(),
        sip_instance: instance,
        reg_id: integer(added.reg_id.unwrap_or(0)),
        server_id: 0,
        connection_id: 0,
        keepalive: 0,
        partition: 0,
        kv_store: None,
        attr: None,
        tenant: tenant_of(event),
        aor: owned(&added.aor),
        binding: owned(&added.binding),
        edge: owned(&added.edge),
        journal: event.source.journal.to_string(),
        sequence: big(event.seq.0),
        backend: maybe(&added.backend),
        flow_state: "reachable".to_owned(),
        registered_at: event.time.0,
        refreshed_at: event.time.0,
        expires_at: added.expires_at.0.0,
    }
}

fn refreshed(event: &Delivered, refresh: &RegistrationRefreshed) -> Statement {
    let mut values = only_refreshed(event, refresh).values();
    values.extend([
        refresh.q.map(preference).into(),
        maybe(&refresh.user_agent).into(),
        maybe(&refresh.call_id).into(),
    ]);
    Statement::new(REFRESH.as_str(), values)
}

fn preference(q: QValue) -> f64 {
    f64::from(q.thousandths()) / 1000.0
}

/// The row of a binding whose `added` is gone to retention, from what its refresh tells.
fn only_refreshed(event: &Delivered, refresh: &RegistrationRefreshed) -> LocationRow {
    let domain = refresh.aor.split_once('@').map_or("", |(_, domain)| domain);
    let known = RegistrationAdded {
        edge: refresh.edge.clone(),
        aor: refresh.aor.clone(),
        binding: refresh.binding.clone(),
        domain: domain.into(),
        backend: refresh.backend.clone(),
        contact: refresh.contact.clone(),
        received: refresh.received,
        path: refresh.path.clone(),
        q: refresh.q,
        methods: refresh.methods.clone(),
        expires_at: refresh.expires_at,
        user_agent: refresh.user_agent.clone(),
        call_id: refresh.call_id.clone().unwrap_or_default(),
        cseq: refresh.cseq,
        ..RegistrationAdded::default()
    };
    LocationRow { socket: refresh.socket.map(|socket| socket.to_string()), ..added(event, &known) }
}
