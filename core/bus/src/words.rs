//! Texts that come again and again, shared by the events that have them.

use crate::event::{Delivered, Source};
use signalbox_base::Text;
use signalbox_journal::Record;
use std::sync::Arc;

/// Names of types that are kept; a reader of more gives up sharing, not correctness.
const KINDS_KEPT: usize = 256;

/// What one reader shares between its events.
#[derive(Debug, Default)]
pub(crate) struct Words {
    kinds: Vec<Text>,
    tenant: Text,
}

impl Words {
    /// A record of the journal as an event.
    pub(crate) fn delivered(&mut self, source: Arc<Source>, record: &Record<'_>) -> Delivered {
        let (subject, correlation) = pair(record.subject, record.correlation);
        Delivered {
            source,
            seq: record.seq,
            domain_seq: record.domain_seq,
            kind: self.kind(record.kind),
            tenant: self.tenant(record.tenant),
            subject,
            time: record.wall,
            recorded: record.recorded,
            correlation,
            traceparent: text(record.traceparent),
            causation: record.causation,
            foreign_cause: Text::default(),
            data: record.data.into(),
        }
    }

    /// A type's name.
    pub(crate) fn kind(&mut self, kind: &str) -> Text {
        match self.kinds.iter().position(|known| known == kind) {
            Some(at) => {
                // The next is likely to be of the same kind.
                self.kinds.swap(0, at);
                self.kinds[0].clone()
            }
            None => {
                let kind = Text::new(kind);
                if self.kinds.len() < KINDS_KEPT {
                    self.kinds.push(kind.clone());
                }
                kind
            }
        }
    }

    /// A tenant's name.
    pub(crate) fn tenant(&mut self, tenant: &str) -> Text {
        if self.tenant != tenant {
            self.tenant = tenant.into();
        }
        self.tenant.clone()
    }
}

/// Subject and correlation, which are one text where they are the same: a call's uid.
pub(crate) fn pair(subject: &str, correlation: &str) -> (Text, Text) {
    let subject = text(subject);
    let correlation = if subject == correlation { subject.clone() } else { text(correlation) };
    (subject, correlation)
}

/// Nothing is kept for what is absent.
pub(crate) fn text(text: &str) -> Text {
    if text.is_empty() { Text::default() } else { text.into() }
}
