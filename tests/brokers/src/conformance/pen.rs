//! Writes events as a journal numbers them.

use signalbox_base::{EventSeq, Text, Wall};
use signalbox_bus::{Delivered, Source};
use std::collections::HashMap;
use std::sync::Arc;

/// An event to be written.
#[derive(Clone, Copy, Debug)]
pub struct New {
    /// Short type with version.
    pub kind: &'static str,
    /// The tenant.
    pub tenant: &'static str,
    /// The aggregate.
    pub subject: &'static str,
    /// When it happened and was recorded, µs since 1970.
    pub at: i64,
}

/// Numbers events of one source.
#[derive(Clone, Debug)]
pub struct Pen {
    source: Arc<Source>,
    last: u64,
    domains: HashMap<String, u64>,
}

impl Pen {
    /// Begins at 1.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self { source: Arc::new(source), last: 0, domains: HashMap::new() }
    }

    /// The next events.
    pub fn write(&mut self, events: &[New]) -> Vec<Delivered> {
        events.iter().map(|new| self.event(new.kind, new.tenant, new.subject, new.at)).collect()
    }

    /// The next event.
    pub fn event(&mut self, kind: &str, tenant: &str, subject: &str, at: i64) -> Delivered {
        self.last += 1;
        let domain = kind.split('.').next().unwrap_or_default();
        let domain_seq = self.domains.entry(domain.to_owned()).or_default();
        *domain_seq += 1;
        Delivered {
            source: Arc::clone(&self.source),
            seq: EventSeq(self.last),
            domain_seq: *domain_seq,
            kind: kind.into(),
            tenant: tenant.into(),
            subject: subject.into(),
            time: Wall(at),
            recorded: Wall(at),
            correlation: Text::default(),
            traceparent: Text::default(),
            causation: EventSeq(0),
            foreign_cause: Text::default(),
            data: b"{}"[..].into(),
        }
    }
}
