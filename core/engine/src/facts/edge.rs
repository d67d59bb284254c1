//! What the edge itself went through.

use super::Fact;
use crate::turn::Turn;
use signalbox_base::Text;
use signalbox_schemas::edge::{EdgeDraining, EdgeOverloaded, EdgeStopped};
use signalbox_schemas::values::Timestamp;
use signalbox_schemas::words::{OverloadLevel, OverloadResource};
use signalbox_schemas::{Aggregate, Event};
use std::time::Duration;

/// No new calls and registrations from now on.
#[must_use]
pub fn draining(turn: &Turn<'_>, calls_left: u64, deadline: Duration) -> Fact {
    let deadline_at = Some(Timestamp(turn.now.wall.plus(deadline)));
    let event = EdgeDraining { edge: turn.edge(), calls_left, deadline_at };
    Fact::new(event, turn.edge(), turn.now.wall)
}

/// The last words.
#[must_use]
pub fn stopped(turn: &Turn<'_>, clean: bool, calls_left: u64) -> Fact {
    Fact::new(EdgeStopped { edge: turn.edge(), clean, calls_left }, turn.edge(), turn.now.wall)
}

/// The load passed into another level.
#[must_use]
pub fn overloaded(turn: &Turn<'_>, level: OverloadLevel, resource: OverloadResource, shed: u64) -> Fact {
    Fact::new(EdgeOverloaded { edge: turn.edge(), level, resource, shed }, turn.edge(), turn.now.wall)
}

/// An event that the edge made itself (`edge.started`, `journal.sealed` …).
#[must_use]
pub fn noted(turn: &Turn<'_>, event: Event) -> Fact {
    let subject = match event.kind().aggregate() {
        Aggregate::Config => Text::new("config"),
        Aggregate::Admin => Text::new("admin"),
        _ => turn.edge(),
    };
    Fact::new(event, subject, turn.now.wall)
}
