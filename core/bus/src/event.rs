//! An event as a subscriber gets it.

use signalbox_base::{EventSeq, IdError, JournalId, Text, Wall};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Who wrote an event: `urn:signalbox:<cluster>:<edge>:<journal-id>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Cluster name.
    pub cluster: Text,
    /// Edge name; `store` for events of projections and consumers.
    pub edge: Text,
    /// The journal's id, or the store's.
    pub journal: JournalId,
}

impl Source {
    /// Whether both are journals of one edge. Two clusters on one broker may each have an edge of the name.
    #[must_use]
    pub fn same_edge(&self, other: &Self) -> bool {
        (&self.cluster, &self.edge) == (&other.cluster, &other.edge)
    }
}

const URN: &str = "urn:signalbox:";

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{URN}{}:{}:{}", self.cluster, self.edge, self.journal)
    }
}

impl FromStr for Source {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        const WRONG: IdError = IdError("a source is urn:signalbox:<cluster>:<edge>:<journal-id>");
        let mut parts = text.strip_prefix(URN).ok_or(WRONG)?.split(':');
        let (Some(cluster), Some(edge), Some(journal), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(WRONG);
        };
        if cluster.is_empty() || edge.is_empty() {
            return Err(WRONG);
        }
        Ok(Self { cluster: cluster.into(), edge: edge.into(), journal: journal.parse()? })
    }
}

/// One event with its envelope. `data` is not parsed; private parts never come this way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Who wrote it.
    pub source: Arc<Source>,
    /// Its number at the source; with the source its identity.
    pub seq: EventSeq,
    /// Its number in its domain at the source, from 1 without gaps.
    pub domain_seq: u64,
    /// Short type with version: `call.ended.v1`.
    pub kind: Text,
    /// The tenant, empty for none.
    pub tenant: Text,
    /// The aggregate.
    pub subject: Text,
    /// When it happened.
    pub time: Wall,
    /// When it was journalled.
    pub recorded: Wall,
    /// What it belongs to (a call's uid), empty for none.
    pub correlation: Text,
    /// W3C trace context that what led to it carried, empty for none.
    pub traceparent: Text,
    /// The event of the same source that led to it, 0 for none.
    pub causation: EventSeq,
    /// The event of another source that led to it, `<journal-id>.<sequence>`; empty for none.
    pub foreign_cause: Text,
    /// The event's data as JSON.
    pub data: Arc<[u8]>,
}

impl Delivered {
    /// The domain: the type up to its first dot.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.kind.split('.').next().unwrap_or_default()
    }

    /// The CloudEvents `id`: `<journal-id>.<sequence>`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}", self.source.journal, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_prints_and_reads() {
        let source = Source { cluster: "prod".into(), edge: "edge-1".into(), journal: JournalId(7) };
        assert_eq!(source.to_string(), "urn:signalbox:prod:edge-1:00000000000000000000000007");
        assert_eq!(source.to_string().parse(), Ok(source));
        for bad in ["", "urn:signalbox:a:b", "urn:signalbox::b:00000000000000000000000007", "urn:other:a:b:c"]
        {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }
}
