//! `backend_state` and `backend_history`: what each edge thinks of each backend.

use super::{integer, journal_of, tenant_of};
use crate::projection::{Began, Carried, Projection, Tables};
use crate::row::{insert, table_row};
use signalbox_bus::Delivered;
use signalbox_schemas::backend::BackendStateChanged;
use signalbox_schemas::{Event, Kind};
use signalbox_store::{Statement, Value};
use std::sync::LazyLock;

/// Folds `backend.state_changed`.
pub struct Backends;

table_row! {
    /// The state of a backend as one edge sees it: the latest (`backend_state`) or one of its changes (`backend_history`).
    BackendRow / BackendValues = "backend_state" {
        /// The edge.
        edge: String,
        /// The backend's name.
        backend: String,
        /// Its tenant.
        tenant: String,
        /// The state now.
        state: String,
        /// The state before.
        previous: String,
        /// What made it change.
        cause: String,
        /// Its address.
        address: Option<String>,
        /// SIP status of the last probe.
        probe_status: Option<i64>,
        /// Time of the last probe in milliseconds.
        rtt_ms: Option<i64>,
        /// Answers or absences in a row.
        consecutive: i64,
        /// Last known up, microseconds since 1970.
        last_up_at: Option<i64>,
        /// How long it was away, in milliseconds, when it came back.
        down_ms: Option<i64>,
        /// When it changed, microseconds since 1970.
        changed_at: i64,
        /// Journal of the event.
        journal: String,
        /// Number of the event.
        sequence: i64,
    }
}

static UPSERT: LazyLock<String> = LazyLock::new(|| {
    let set: Vec<String> =
        BackendRow::COLUMNS.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let tail = format!(
        "ON CONFLICT (edge, tenant, backend) DO UPDATE SET {} \
         WHERE backend_state.journal <> excluded.journal OR backend_state.sequence < excluded.sequence",
        set.join(", ")
    );
    insert(BackendRow::TABLE, BackendRow::COLUMNS, &tail)
});

static REMEMBER: LazyLock<String> = LazyLock::new(|| {
    insert("backend_history", BackendRow::COLUMNS, "ON CONFLICT (journal, sequence) DO NOTHING")
});

impl Projection for Backends {
    fn name(&self) -> &'static str {
        "backend"
    }

    fn version(&self) -> u32 {
        1
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::BackendStateChanged]
    }

    fn tables(&self) -> Option<&'static Tables> {
        const STATE: Carried = Carried {
            table: "backend_state",
            journal: "o.journal",
            began: Began::Sequence("o.sequence"),
            same: "n.edge = o.edge AND n.tenant = o.tenant AND n.backend = o.backend",
            marks: &[],
            gives_way: None,
        };
        const HISTORY: Carried = Carried {
            table: "backend_history",
            same: "n.journal = o.journal AND n.sequence = o.sequence",
            ..STATE
        };
        const TABLES: Tables = Tables {
            rebuild: "backend-rebuild",
            names: &["backend_state", "backend_history"],
            carried: &[STATE, HISTORY],
        };
        Some(&TABLES)
    }

    fn fold(&self, event: &Delivered, data: &Event) -> Vec<Statement> {
        let Event::BackendStateChanged(change) = data else { return Vec::new() };
        // Both tables have the same columns in the same order.
        let values = row(event, change).params();
        vec![Statement::new(UPSERT.as_str(), values.clone()), Statement::new(REMEMBER.as_str(), values)]
    }
}

fn row(event: &Delivered, change: &BackendStateChanged) -> BackendValues {
    BackendValues {
        edge: (&change.edge).into(),
        backend: (&change.backend).into(),
        tenant: tenant_of(event),
        state: Value::Word(change.to.as_str()),
        previous: Value::Word(change.from.as_str()),
        cause: Value::Word(change.cause.as_str()),
        address: change.address.map(|address| address.to_string()).into(),
        probe_status: change.probe_status.map(i64::from).into(),
        rtt_ms: change.rtt_ms.into(),
        consecutive: integer(change.consecutive),
        last_up_at: change.last_up_at.map(|at| at.0).into(),
        down_ms: change.down_ms.into(),
        changed_at: event.time.into(),
        journal: journal_of(event),
        sequence: event.seq.0.into(),
    }
}
