//! Where reading probably goes on: of each stream the last event that was read, and when that was stored.
//!
//! `nats1;<stream>,<created>,<place>,<event id>,<stored at, ns>;…`, `-` for no event.

use crate::hints::Hint;
use signalbox_schemas::values::EventId;
use std::fmt::Write;

/// How far a stream was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) stream: String,
    /// When the stream was made, in the server's words: one that was made anew begins at 1 again.
    pub(super) created: String,
    /// The place of the last event, 0 for none.
    pub(super) place: u64,
    /// What lies there; `None`: nothing was read yet, or nobody knows.
    pub(super) id: Option<EventId>,
    /// When that was stored, ns since 1970. Without a place: from when on to read; 0: from the beginning.
    pub(super) time: i64,
}

const VERSION: &str = "nats1";

pub(super) fn write(spots: &[Spot]) -> Hint {
    let mut text = VERSION.to_owned();
    for Spot { stream, created, place, id, time } in spots {
        let id = id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        write!(text, ";{stream},{created},{place},{id},{time}").expect("memory takes every text");
    }
    Hint(text.into())
}

/// `None` for what this provider did not write.
pub(super) fn read(hint: &Hint) -> Option<Vec<Spot>> {
    let mut parts = hint.0.split(';');
    if parts.next() != Some(VERSION) {
        return None;
    }
    parts.map(spot).collect()
}

fn spot(text: &str) -> Option<Spot> {
    let mut fields = text.split(',');
    let mut next = || fields.next();
    let (stream, created) = (next()?.to_owned(), next()?.to_owned());
    let place = next()?.parse().ok()?;
    let id = match next()? {
        "-" => None,
        id => Some(id.parse().ok()?),
    };
    let time = next()?.parse().ok()?;
    next().is_none().then_some(Spot { stream, created, place, id, time })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::GROUPS;
    use signalbox_base::{EventSeq, JournalId};

    #[test]
    fn a_hint_of_all_streams_reads_back_and_is_short() {
        let spot = |(n, stream): (u64, &str)| Spot {
            stream: stream.into(),
            created: "2026-11-21T14:53:12.123456789Z".into(),
            place: u64::MAX - n,
            id: (n != 2).then_some(EventId { journal: JournalId(u128::MAX >> 3), seq: EventSeq(u64::MAX) }),
            time: i64::MAX,
        };
        let spots: Vec<Spot> = (0..).zip(GROUPS.map(|group| group.stream)).map(spot).collect();
        let hint = write(&spots);
        assert!(hint.0.len() < 1_024);
        assert_eq!(read(&hint), Some(spots));
        assert_eq!(read(&write(&[])), Some(vec![]));
    }

    #[test]
    fn what_others_wrote_is_no_hint() {
        for other in
            ["", "kafka1;x", "nats2", "nats1;a", "nats1;S,c,1,-,2,3", "nats1;S,c,x,-,2", "nats1;S,c,1,y,2"]
        {
            assert_eq!(read(&Hint(other.into())), None, "{other}");
        }
    }
}
