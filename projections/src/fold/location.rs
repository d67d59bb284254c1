//! `location` and `location_history`: who can be reached where, and who could be.
//!
//! The row of a binding is written by one edge. It holds the place where the binding is, since when, and the event that
//! began it; nearly every binding has only one. The history gets a place when it ends, copied from the row in the same
//! transaction before the row tells of another or goes. Times in the history are those of the events, so the same events
//! give the same history. A new binding writes one row, and so does a refresh from the same place.

use super::{integer, journal_of, maybe, tenant_of};
use crate::projection::{Began, Carried, Projection, Tables};
use crate::row::{Stamp, table_row};
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
    /// A binding. Up to `attr` the columns of the usual usrloc table, with their usual meanings. Those of its place's
    /// beginning, `place_…`, are not read with it.
    LocationRow / LocationValues = "location" {
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
    /// A place where a binding was, from when to when. In the table all have ended; one that is open is read from the
    /// binding's row.
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
        /// End of the binding as it was last granted there.
        expires_at: i64,
    }
}

/// Where a binding is: another of one of these is another place.
const PLACE: [&str; 5] = ["contact", "received", "path", "socket", "backend"];

/// What the row keeps of its place's beginning, and the column of the event's row that tells it.
const BEGINNING: [(&str, &str); 5] = [
    ("place_from", "refreshed_at"),
    ("place_journal", "journal"),
    ("place_sequence", "sequence"),
    ("place_user_agent", "user_agent"),
    ("place_callid", "callid"),
];

/// The row of a binding that has none yet: a short cut, for nearly every `added` is of such a one.
static BEGIN: LazyLock<String> = LazyLock::new(|| insert_row("DO NOTHING"));

/// The row of a binding that may have one.
static UPSERT: LazyLock<String> = LazyLock::new(|| {
    let told = |name: &str| format!("excluded.{name}");
    let set = LocationRow::COLUMNS.iter().map(|name| format!("{name} = {}", told(name)));
    upsert(set, told)
});

/// What a refresh tells; the row of a binding whose `added` is gone to retention begins with it. Behind the columns come
/// those that have a default in the row but are left as they were when the refresh does not name them.
static REFRESH: LazyLock<String> = LazyLock::new(|| {
    let left_alone = ["q", "user_agent", "callid"];
    let told = |name: &str| match left_alone.iter().position(|left| *left == name) {
        Some(at) => format!("COALESCE(${}, location.{name})", LocationRow::COLUMNS.len() + 1 + at),
        None if ["received", "backend", "path", "methods", "socket"].contains(&name) => {
            format!("COALESCE(excluded.{name}, location.{name})")
        }
        None => format!("excluded.{name}"),
    };
    let columns = [
        "journal",
        "sequence",
        "contact",
        "expires",
        "expires_at",
        "cseq",
        "last_modified",
        "refreshed_at",
        "flow_state",
        "received",
        "backend",
        "path",
        "methods",
        "socket",
    ];
    let set = columns.iter().chain(&left_alone).map(|name| format!("{name} = {}", told(name)));
    upsert(set, told)
});

/// Whether the place in the row is another than the one that is told.
fn differs(row: &str, told: impl Fn(&str) -> String) -> String {
    let differ = PLACE.map(|name| format!("{row}{name} IS DISTINCT FROM {}", told(name)));
    format!("({})", differ.join(" OR "))
}

/// An insert that updates the row of an earlier event; the beginning of its place only when the event tells of another.
fn upsert(set: impl Iterator<Item = String>, told: impl Fn(&str) -> String) -> String {
    let differs = differs("location.", &told);
    let begun = BEGINNING
        .iter()
        .map(|(kept, of)| format!("{kept} = CASE WHEN {differs} THEN {} ELSE location.{kept} END", told(of)));
    let set: Vec<String> = set.chain(begun).collect();
    insert_row(&format!(
        "DO UPDATE SET {} WHERE location.journal <> excluded.journal OR location.sequence < excluded.sequence",
        set.join(", ")
    ))
}

/// An insert of a row, whose place begins with it, and what is done when the binding has one.
fn insert_row(on_conflict: &str) -> String {
    let columns = LocationRow::COLUMNS;
    let place = |name: &str| columns.iter().position(|column| *column == name);
    let number = |name: &str| place(name).expect("a beginning is told by columns of the row") + 1;
    let names = columns.iter().copied().chain(BEGINNING.map(|(kept, _)| kept));
    let values = columns.iter().copied().chain(BEGINNING.map(|(_, of)| of));
    format!(
        "INSERT INTO location ({}) VALUES ({}) ON CONFLICT (tenant, aor, binding, edge) {on_conflict}",
        names.collect::<Vec<_>>().join(", "),
        values.map(|name| format!("${}", number(name))).collect::<Vec<_>>().join(", "),
    )
}

/// A refresh from the place where the binding is.
const PROLONG: &str = "UPDATE location SET journal = $5, sequence = $6, expires = $7, expires_at = $8, cseq = $9, \
    last_modified = $10, refreshed_at = $11, flow_state = 'reachable', methods = COALESCE($12, methods), \
    q = COALESCE($13, q), user_agent = COALESCE($14, user_agent), callid = COALESCE($15, callid) \
    WHERE tenant = $1 AND aor = $2 AND binding = $3 AND edge = $4 AND (journal <> $5 OR sequence < $6) \
    AND contact = $16 AND received IS NOT DISTINCT FROM COALESCE($17, received) \
    AND path IS NOT DISTINCT FROM COALESCE($18, path) AND socket IS NOT DISTINCT FROM COALESCE($19, socket) \
    AND backend IS NOT DISTINCT FROM COALESCE($20, backend)";

/// Puts the place in a binding's row into the history: until `$5`, and `$6` why.
const INTO_HISTORY: &str = "INSERT INTO location_history (tenant, aor, binding, edge, journal, sequence, valid_from, \
    valid_to, ended, username, domain, contact, received, path, socket, user_agent, backend, callid, expires_at) \
    SELECT tenant, aor, binding, edge, place_journal, place_sequence, place_from, $5, $6, username, domain, contact, \
    received, path, socket, place_user_agent, backend, place_callid, expires_at FROM location \
    WHERE tenant = $1 AND aor = $2 AND binding = $3 AND edge = $4";

static LEAVE: LazyLock<String> = LazyLock::new(|| leave(|_, param| param));

/// For a refresh, which tells only what has changed.
static LEAVE_IF_TOLD: LazyLock<String> =
    LazyLock::new(|| leave(|name, param| format!("COALESCE({param}, {name})")));

/// Ends the place when the event (`$7` journal, `$8` number) tells of another (from `$9`) and is later than the row,
/// which is written after it.
fn leave(told: fn(&str, String) -> String) -> String {
    let differs = differs("", |name| {
        let place =
            PLACE.iter().position(|column| *column == name).expect("differs asks for what is in PLACE");
        told(name, format!("${}", place + 9))
    });
    format!("{INTO_HISTORY} AND (journal <> $7 OR sequence < $8) AND {differs} ON CONFLICT DO NOTHING")
}

static END: LazyLock<String> = LazyLock::new(|| format!("{INTO_HISTORY} ON CONFLICT DO NOTHING"));

const REMOVE: &str = "DELETE FROM location WHERE tenant = $1 AND aor = $2 AND binding = $3 AND edge = $4";

/// A binding from before the first event: what later refreshes did not tell again is in the old row only.
const BINDINGS: Carried = Carried {
    table: "location",
    journal: "o.journal",
    began: Began::At("o.registered_at"),
    same: "n.tenant = o.tenant AND n.aor = o.aor AND n.binding = o.binding AND n.edge = o.edge",
    marks: &[],
    gives_way: Some(
        "n.tenant = o.tenant AND n.aor = o.aor AND n.binding = o.binding AND n.edge = o.edge \
         AND n.journal = o.journal AND n.sequence = o.sequence",
    ),
};

/// A place from before the first event; its end may have been told since.
const PLACES: Carried = Carried {
    table: "location_history",
    journal: "o.journal",
    began: Began::Sequence("o.sequence"),
    same: "n.tenant = o.tenant AND n.aor = o.aor AND n.binding = o.binding AND n.edge = o.edge \
         AND n.journal = o.journal AND n.sequence = o.sequence",
    marks: &[],
    gives_way: Some(
        "n.tenant = o.tenant AND n.aor = o.aor AND n.binding = o.binding AND n.edge = o.edge \
         AND n.journal = o.journal AND n.valid_to = o.valid_to AND n.sequence > o.sequence",
    ),
};

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

    fn tables(&self) -> Option<&'static Tables> {
        const TABLES: Tables = Tables {
            rebuild: "location-rebuild",
            names: &["location", "location_history"],
            carried: &[BINDINGS, PLACES],
        };
        Some(&TABLES)
    }

    fn fold(&self, event: &Delivered, data: &Event) -> Vec<Statement> {
        match data {
            Event::RegistrationAdded(added) => {
                let begun = Statement::new(BEGIN.as_str(), row(event, added).params());
                let (event, added) = (event.clone(), added.clone());
                vec![begun.or_else(move || {
                    let key = Key::new(&event, &added.aor, &added.binding, &added.edge);
                    let row = Statement::new(UPSERT.as_str(), row(&event, &added).params());
                    vec![key.left(&LEAVE, &event, place_of(&added)), row]
                })]
            }
            Event::RegistrationRefreshed(refresh) => {
                let key = Key::new(event, &refresh.aor, &refresh.binding, &refresh.edge);
                let prolonged = prolonged(&key, event, refresh);
                let (event, refresh) = (event.clone(), refresh.clone());
                vec![prolonged.or_else(move || {
                    let left = key.left(&LEAVE_IF_TOLD, &event, place_told(&refresh));
                    vec![left, refreshed(&event, &refresh)]
                })]
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

/// Values of [`PLACE`].
type Place = [Value; 5];

impl Key {
    fn new(event: &Delivered, aor: &Text, binding: &Text, edge: &Text) -> Self {
        Self([tenant_of(event), aor.into(), binding.into(), edge.into()])
    }

    fn with(&self, sql: &'static str, rest: impl IntoIterator<Item = Value>) -> Statement {
        Statement::new(sql, self.0.iter().cloned().chain(rest).collect())
    }

    /// The end of the place before, if it was another.
    fn left(&self, leave: &'static str, event: &Delivered, place: Place) -> Statement {
        let until = [event.time.into(), Value::Word("moved"), journal_of(event), event.seq.0.into()];
        self.with(leave, until.into_iter().chain(place))
    }

    /// The history takes the place from the row before it goes.
    fn removed(&self, at: Wall, why: &'static str) -> Vec<Statement> {
        vec![self.with(&END, [at.into(), Value::Word(why)]), self.with(REMOVE, [])]
    }
}

fn place_of(added: &RegistrationAdded) -> Place {
    [
        (&added.contact).into(),
        added.received.as_ref().map(usrloc::received).into(),
        maybe(&added.path),
        added.socket.to_string().into(),
        maybe(&added.backend),
    ]
}

/// What a refresh tells of the place: NULL is what has not changed.
fn place_told(refresh: &RegistrationRefreshed) -> Place {
    [
        (&refresh.contact).into(),
        refresh.received.as_ref().map(usrloc::received).into(),
        maybe(&refresh.path),
        refresh.socket.map(|socket| socket.to_string()).into(),
        maybe(&refresh.backend),
    ]
}

fn row(event: &Delivered, added: &RegistrationAdded) -> LocationValues {
    let instance: Value = added.instance_id.as_deref().map(|id| format!("<{id}>")).into();
    let id = usrloc::row_id(&[&event.tenant, &added.aor, &added.binding, &added.edge]);
    let [contact, received, path, socket, backend] = place_of(added);
    LocationValues {
        id: id.into(),
        ruid: (&added.binding).into(),
        contact_id: id.into(),
        username: usrloc::user_of(&added.aor).into(),
        domain: (&added.domain).into(),
        contact,
        received,
        path,
        expires: added.expires_at.0.secs().into(),
        q: added.q.map_or(1.0, preference).into(),
        callid: (&added.call_id).into(),
        cseq: integer(added.cseq),
        last_modified: Value::Timestamp(event.time),
        flags: Value::Int(0),
        cflags: Value::Int(0),
        user_agent: added.user_agent.as_ref().map_or(Value::Word(""), Value::from),
        socket,
        methods: usrloc::methods(&added.methods).into(),
        instance: instance.clone(),
        sip_instance: instance,
        reg_id: integer(added.reg_id.unwrap_or(0)),
        server_id: Value::Int(0),
        connection_id: Value::Int(0),
        keepalive: Value::Int(0),
        partition: Value::Int(0),
        kv_store: Value::Null,
        attr: Value::Null,
        tenant: tenant_of(event),
        aor: (&added.aor).into(),
        binding: (&added.binding).into(),
        edge: (&added.edge).into(),
        journal: journal_of(event),
        sequence: event.seq.0.into(),
        backend,
        flow_state: Value::Word("reachable"),
        registered_at: event.time.into(),
        refreshed_at: event.time.into(),
        expires_at: added.expires_at.0.into(),
    }
}

/// All that a refresh does when the binding is where it was, which is nearly always.
fn prolonged(key: &Key, event: &Delivered, refresh: &RegistrationRefreshed) -> Statement {
    let set = [
        journal_of(event),
        event.seq.0.into(),
        refresh.expires_at.0.secs().into(),
        refresh.expires_at.0.into(),
        integer(refresh.cseq),
        Value::Timestamp(event.time),
        event.time.into(),
        usrloc::methods(&refresh.methods).into(),
        refresh.q.map(preference).into(),
        maybe(&refresh.user_agent),
        maybe(&refresh.call_id),
    ];
    key.with(PROLONG, set.into_iter().chain(place_told(refresh)))
}

/// The whole row, for a binding whose `added` is gone to retention or that has moved; behind it what it leaves as it was
/// where it does not tell it.
fn refreshed(event: &Delivered, refresh: &RegistrationRefreshed) -> Statement {
    let domain = refresh.aor.split_once('@').map_or("", |(_, domain)| domain);
    let known = RegistrationAdded {
        edge: refresh.edge.clone(),
        aor: refresh.aor.clone(),
        binding: refresh.binding.clone(),
        domain: domain.into(),
        contact: refresh.contact.clone(),
        q: refresh.q,
        methods: refresh.methods.clone(),
        expires_at: refresh.expires_at,
        user_agent: refresh.user_agent.clone(),
        call_id: refresh.call_id.clone().unwrap_or_default(),
        cseq: refresh.cseq,
        ..RegistrationAdded::default()
    };
    let [contact, received, path, socket, backend] = place_told(refresh);
    let row = LocationValues { contact, received, path, socket, backend, ..row(event, &known) };
    let mut params = row.params();
    params.extend([refresh.q.map(preference).into(), maybe(&refresh.user_agent), maybe(&refresh.call_id)]);
    Statement::new(REFRESH.as_str(), params)
}

fn preference(q: QValue) -> f64 {
    f64::from(q.thousandths()) / 1000.0
}
