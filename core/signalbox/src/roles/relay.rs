//! The relay: from the journal of an edge on this host to the broker.

use super::Journal;
use super::broker::Wiring;
use super::health::Report;
use crate::config::model::Bus;
use crate::errors::{Failure, INTERNAL};
use signalbox_base::EdgeIdentity;
use signalbox_bus::relay::{JournalOrigin, Limits, Note, Origin, Relay, RelayOptions};

/// Starts it; a broker that is away is waited for, and so is a journal that is not there yet.
pub(super) fn start(
    bus: &Bus,
    wiring: &Wiring,
    journal: &Journal,
    identity: &EdgeIdentity,
    report: &Report,
) -> Result<(), Failure> {
    let Some(broker) = wiring.broker(&identity.edge) else { return Ok(()) };
    let Journal { storage, layout, mark } = journal.clone();
    let origin = JournalOrigin::new(identity.clone(), storage, layout, mark, broker.name());
    let name = format!("relay-{}", broker.name());
    spawn(name, Box::new(origin), broker, bus, report)
}

/// Starts a relay of any origin, which reports under `name`.
pub(super) fn spawn(
    name: String,
    origin: Box<dyn Origin>,
    broker: std::sync::Arc<dyn signalbox_bus::publisher::Broker>,
    bus: &Bus,
    report: &Report,
) -> Result<(), Failure> {
    let options = RelayOptions {
        limits: Limits { window: usize::from(bus.window), ..Limits::default() },
        audit_interval: bus.audit_interval.0,
        seed: u64::from(std::process::id()),
        ..RelayOptions::default()
    };
    // The relay writes its notes to the log itself; nobody else hears of them yet.
    let notes = Box::new(|_: &Note| {});
    let handle = Relay::spawn(origin, broker, options, notes)
        .map_err(|error| Failure::new(INTERNAL, format!("{name}: {error}")))?;
    report.relays(name, handle);
    Ok(())
}
