//! Reading our own events back from a broker, for the audit.

use super::audit::Job;
use crate::event::Source;
use crate::publisher::{Found, Own};
use crate::subscription::BoxFuture;
use signalbox_base::{EventSeq, Text};

/// Events read back at once.
pub(super) const READ_BACK: usize = 1000;

/// An audit under way; it gives back what it reads with.
pub(super) type Auditing = BoxFuture<'static, (Box<dyn Own>, Result<ReadBack, Text>)>;

/// What an audit has read.
pub(super) struct ReadBack {
    /// Up to which event it goes.
    pub(super) upto: EventSeq,
    /// Own events.
    pub(super) found: Vec<Found>,
    /// Lanes and how far they were read.
    pub(super) places: Vec<(String, u64)>,
}

/// Reads lanes back for an audit.
pub(super) async fn read_back(
    mut own: Box<dyn Own>,
    source: Source,
    names: Vec<String>,
    upto: EventSeq,
    jobs: Vec<Job>,
) -> (Box<dyn Own>, Result<ReadBack, Text>) {
    let mut read = ReadBack { upto, found: Vec::new(), places: Vec::new() };
    for job in jobs {
        let name = names.get(usize::from(job.lane.0)).cloned().unwrap_or_default();
        let mut from = job.from;
        loop {
            let found = match own.read_back(&source, job.lane, from, READ_BACK).await {
                Ok(found) => found,
                Err(failure) => return (own, Err(failure.to_string().into())),
            };
            let last = found.last().map(|last| (last.place, last.id.seq));
            let at_top = found.iter().find(|found| found.place == job.top.place).map(|found| found.id);
            read.found.extend(found.into_iter().filter(|found| found.place <= job.top.place));
            match (last, at_top) {
                (_, Some(id)) if id.seq == job.top.seq && id.journal == job.top.journal => {
                    read.places.push((name, job.top.place));
                    break;
                }
                // The end of the lane is gone, or is another: comparing both sides says what to do.
                (None, _) | (_, Some(_)) => return (own, Err(format!("{name} has lost its end").into())),
                (Some((place, _)), None) if place >= job.top.place => {
                    return (own, Err(format!("{name} has lost its end").into()));
                }
                (Some((place, seq)), None) => {
                    from = place + 1;
                    if seq > job.until {
                        read.places.push((name, place));
                        break;
                    }
                }
            }
        }
    }
    (own, Ok(read))
}
