//! Bounded looks at the engine, run on its thread between two turns.
//!
//! Each look returns at most [`ROWS_MAX`] rows and says where to go on, so that a table of a hundred thousand
//! registrations never holds up a call.

use serde::Serialize;
use serde_json::{Map, Value, json};
use signalbox_base::{Text, Wall};
use signalbox_engine::Engine;
use signalbox_engine::state::calls::Stage;
use signalbox_engine::state::{Aor, Binding, Wish, backend_key};
use signalbox_engine::tenancy::Directory;
use signalbox_schemas::words::BackendState;

use crate::status::BackendFigure;

/// Rows of one look.
pub const ROWS_MAX: usize = 500;
/// Aggregates looked at by one look, whether they match or not.
const SCANNED_MAX: usize = 4 * ROWS_MAX;

/// Some rows, and where to go on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// Rows, one JSON object each.
    pub rows: Vec<Value>,
    /// What to ask for next; none at the end. Rows that come or go meanwhile may be seen twice or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<usize>,
}

/// Which rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Of one tenant.
    pub tenant: Option<Text>,
    /// Of one AoR, `user@domain`.
    pub aor: Option<Text>,
    /// From a page's `next`; 0 to begin.
    pub from: usize,
}

/// Bindings in force, with the column names of the usual `location` table.
pub(crate) fn locations(engine: &Engine, edge: &str, which: &Which) -> Page {
    let mut rows = Vec::new();
    let mut seen = 0;
    let mut more = false;
    for aor in engine.state().registrations().iter().skip(which.from) {
        if rows.len() >= ROWS_MAX || seen >= SCANNED_MAX {
            more = true;
            break;
        }
        seen += 1;
        let wanted = which.tenant.as_ref().is_none_or(|tenant| &**tenant == aor.tenant())
            && which.aor.as_ref().is_none_or(|address| &**address == aor.address());
        if wanted {
            rows.extend(aor.bindings.iter().map(|binding| location(edge, aor, binding)));
        }
    }
    Page { rows, next: more.then_some(which.from + seen) }
}

/// Calls in progress.
pub(crate) fn calls(engine: &Engine, which: &Which) -> Page {
    let mut rows = Vec::new();
    let mut seen = 0;
    let mut more = false;
    for (uid, call) in engine.state().calls().iter().skip(which.from) {
        if rows.len() >= ROWS_MAX || seen >= SCANNED_MAX {
            more = true;
            break;
        }
        seen += 1;
        let state = match call.stage() {
            Stage::Inviting => "inviting",
            Stage::Answered => "answered",
            Stage::Ended => continue,
        };
        let cdr = serde_json::to_value(call.cdr()).unwrap_or_default();
        let tenant = cdr.get("tenant").and_then(Value::as_str).unwrap_or_default();
        if which.tenant.as_ref().is_some_and(|wanted| &**wanted != tenant) {
            continue;
        }
        let mut row = Map::new();
        row.insert("call".to_owned(), json!(uid.to_string()));
        row.insert("state".to_owned(), json!(state));
        if let Value::Object(fields) = cdr {
            row.extend(fields);
        }
        rows.push(Value::Object(row));
    }
    Page { rows, next: more.then_some(which.from + seen) }
}

/// Backends and trunks with their recorded state.
pub(crate) fn backends(engine: &Engine) -> Vec<BackendFigure> {
    let settings = engine.settings();
    let records = engine.state().backends();
    Directory::peers(settings)
        .map(|(at, found)| {
            let record = records.get(&backend_key(found.owner(), &found.backend.name));
            let state = record.map_or(BackendState::Unknown, |record| record.state);
            let wished = record.is_none_or(|record| record.wish == Wish::Serve);
            BackendFigure {
                tenant: Text::new(found.owner()),
                name: found.backend.name.clone(),
                state: Text::new(state.as_str()),
                takes_traffic: wished && state != BackendState::Down,
                registration: engine.backends().registered(at).map(|found| Text::new(found.state.as_str())),
            }
        })
        .collect()
}

fn location(edge: &str, aor: &Aor, binding: &Binding) -> Value {
    json!({
        "contact_id": binding.key.to_string(),
        "tenant": aor.tenant(),
        "username": aor.user(),
        "domain": aor.domain(),
        "contact": binding.contact,
        "received": binding.flow.to_string(),
        "path": binding.path,
        "expires": seconds(binding.expires_at),
        "q": binding.q.map(|thousandths| f64::from(thousandths) / 1000.0),
        "callid": binding.call_id,
        "cseq": binding.cseq,
        "user_agent": binding.user_agent,
        "socket": format!("{}:{}", binding.flow.transport(), binding.flow.get().local),
        "methods": binding.methods,
        "sip_instance": binding.instance,
        "reg_id": binding.reg_id,
        "behind_nat": binding.behind_nat,
        "added_at": seconds(binding.added_at),
        "backend": aor.backend,
        "edge": edge,
    })
}

/// RFC 3339 in whole seconds.
fn seconds(wall: Wall) -> String {
    let mut text = Wall::from_secs(wall.secs()).to_string();
    text.truncate("2026-11-21T10:00:00".len());
    text.push('Z');
    text
}
