//! Events as brokers carry them: names, keys, headers and bodies of the public contract (EVENTS.md), both ways; pure.

mod binary;
mod key;
mod latest;
mod read;
mod structured;
mod subject;
mod topic;

pub use binary::{KafkaEncoder, Wanted};
pub use key::{key_hash, murmur2, partition, partition_key};
pub use latest::{BACKEND_STATE_TOPIC, LOCATION_TOPIC, State};
pub use read::{Decoder, Foreign};
pub use structured::{NatsEncoder, structured};
pub use subject::{
    GROUPS, Group, REPLAY_STREAM, Subject, filter, group_of, heartbeat_subject, replay_subject, subject,
    token, untoken,
};
pub use topic::{HEARTBEAT_TOPIC, lane_name, replay_topic, split_lane, topic};

use crate::event::Delivered;

/// The extension attribute that marks a replayed event; its value is the replay's id. Readers of the live bus pass such
/// events over, wherever they meet them.
pub const REPLAY_ATTRIBUTE: &str = "replayid";

/// What an event says, for comparing a broker's copy with ours: time, type, subject, tenant and data.
#[must_use]
pub fn digest(event: &Delivered) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::with_seed(0).hash_one((
        event.time.0,
        &*event.kind,
        &*event.tenant,
        &*event.subject,
        &event.data[..],
    ))
}

/// The past tense of a type: `ended` of `call.ended.v1`.
fn past_tense(kind: &str) -> &str {
    let rest = kind.split_once('.').map_or("", |(_, rest)| rest);
    rest.rsplit_once('.').map_or(rest, |(name, _)| name)
}

#[cfg(test)]
pub(crate) fn sample() -> Delivered {
    use signalbox_base::{EventSeq, JournalId, Text, Wall};
    let journal = JournalId::new(1_763_719_200_000, [7; 10]);
    let source = crate::event::Source { cluster: "prod".into(), edge: "edge-1".into(), journal };
    Delivered {
        source: std::sync::Arc::new(source),
        seq: EventSeq(42),
        domain_seq: 7,
        kind: "backend.state_changed.v1".into(),
        tenant: "acme".into(),
        subject: "pbx-1".into(),
        time: Wall(1_763_719_200_000_001),
        recorded: Wall(1_763_719_200_000_002),
        correlation: "c_00000000001".into(),
        traceparent: Text::default(),
        causation: EventSeq(41),
        foreign_cause: Text::default(),
        data:
            br#"{"edge":"edge-1","backend":"pbx-1","from":"up","to":"down","cause":"probe","consecutive":3}"#
                [..]
                .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_tells_a_clone_s_event_of_the_same_number() {
        let ours = sample();
        assert_eq!(digest(&ours), digest(&ours.clone()));
        for other in [
            Delivered { time: signalbox_base::Wall(1), ..ours.clone() },
            Delivered { kind: "call.ended.v1".into(), ..ours.clone() },
            Delivered { subject: "pbx-2".into(), ..ours.clone() },
            Delivered { tenant: "other".into(), ..ours.clone() },
            Delivered { data: b"{}"[..].into(), ..ours.clone() },
        ] {
            assert_ne!(digest(&ours), digest(&other), "{other:?}");
        }
    }
}
