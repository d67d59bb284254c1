//! Projections that have left their group to read alone, each a task of its own.

use crate::runner::member::Member;
use crate::runner::status::StatusHandle;
use std::collections::HashMap;
use tokio::task::{Id, JoinSet};

/// Those that read alone.
#[derive(Default)]
pub(super) struct Alone {
    tasks: JoinSet<Option<Member>>,
    /// Whose task each is: one that panics takes its member with it.
    names: HashMap<Id, (&'static str, StatusHandle)>,
}

/// What has become of one that read alone.
pub(super) enum Back {
    /// It is near the end, or there was no more to read.
    Joins(Box<Member>),
    /// It has stopped, and said so.
    Stopped,
    /// Its fold broke.
    Panicked { projection: &'static str, status: StatusHandle, what: String },
}

impl Alone {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        status: StatusHandle,
        reading: impl Future<Output = Option<Member>> + Send + 'static,
    ) {
        let task = self.tasks.spawn(reading);
        self.names.insert(task.id(), (name, status));
    }

    /// The next one that is back; none when nobody is away. May be dropped and asked again.
    pub(super) async fn next(&mut self) -> Option<Back> {
        Some(match self.tasks.join_next_with_id().await? {
            Ok((id, member)) => {
                self.names.remove(&id);
                member.map_or(Back::Stopped, |member| Back::Joins(Box::new(member)))
            }
            Err(error) => {
                let (projection, status) =
                    self.names.remove(&error.id()).expect("each task was spawned with its name");
                Back::Panicked { projection, status, what: error.to_string() }
            }
        })
    }
}
