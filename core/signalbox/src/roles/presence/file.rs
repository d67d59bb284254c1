//! What is known of other edges, beside the journal: a start without a bus goes on from it.

use signalbox_base::Text;
use signalbox_bus::Hint;
use signalbox_engine::remote::{Cache, Update};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The layout's name: another one is not read.
const LAYOUT: &str = "signalbox edges 1";

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Cached(PathBuf);

/// What it held.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(in crate::roles) struct Before {
    layout: String,
    /// Where to read on.
    hint: Option<String>,
    updates: Vec<Update>,
}

impl Before {
    pub(super) fn hint(&self) -> Option<Hint> {
        self.hint.as_deref().map(|hint| Hint(Text::new(hint)))
    }

    pub(in crate::roles) fn updates(&self) -> &[Update] {
        &self.updates
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = Text> {
        self.updates.iter().filter_map(|update| match update {
            Update::Peer { edge, .. } => Some(edge.clone()),
            _ => None,
        })
    }
}

impl Cached {
    pub(super) fn beside(data_dir: &Path) -> Self {
        Self(data_dir.join("edges.cache"))
    }

    /// What was written last; nothing of a file that does not read: the bus tells it all again.
    pub(super) fn read(&self) -> Option<Before> {
        let bytes = std::fs::read(&self.0).ok()?;
        let read: Result<Before, _> = serde_json::from_slice(&bytes);
        match read {
            Ok(before) if before.layout == LAYOUT => Some(before),
            Ok(_) => None,
            Err(error) => {
                let file = self.0.display();
                tracing::warn!(%file, %error, "what was known of other edges does not read and is learnt again");
                None
            }
        }
    }

    /// Replaces it, all or nothing.
    ///
    /// # Errors
    /// The directory is not writable, or full: what is known is then learnt again after a restart.
    pub(super) fn write(&self, known: &Cache, hint: Option<&Hint>) -> std::io::Result<()> {
        let hint = hint.map(|hint| hint.0.to_string());
        let before = Before { layout: LAYOUT.to_owned(), hint, updates: known.dump().collect() };
        let draft = self.0.with_extension("new");
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(&serde_json::to_vec(&before)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_base::{EventSeq, JournalId, Wall};
    use signalbox_engine::remote::{Bound, Liveness, Registered, Version};
    use signalbox_engine::state::BindingKey;

    #[test]
    fn given_what_is_known_when_written_and_read_then_it_is_the_same_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = Cached::beside(dir.path());
        assert!(file.read().is_none());
        let at = Wall::from_secs(1_800_000_000);
        let version = Version { journal: JournalId(7), seq: EventSeq(9), at };
        let bound = Bound {
            edge: "edge-a".into(),
            version,
            name: "acme/401@acme.test".into(),
            key: BindingKey(u128::MAX - 5),
            expires_at: at,
            q: Some(500),
            registered: Registered { call: Some(u64::MAX), cseq: 3, at },
        };
        let address = Some("10.0.9.1:5070".parse().unwrap());
        let edge = Text::new("edge-a");
        let mut cache = Cache::default();
        cache.apply(Update::Peer { edge: edge.clone(), address, liveness: Liveness::Alive });
        cache.apply(Update::Bound(bound));
        file.write(&cache, Some(&Hint("nats1;x".into()))).unwrap();
        let before = file.read().unwrap();
        assert_eq!(before.hint(), Some(Hint("nats1;x".into())));
        assert_eq!(before.edges().collect::<Vec<_>>(), [edge]);
        let mut again = Cache::default();
        for update in before.updates() {
            again.apply(update.clone());
        }
        assert_eq!(again.dump().collect::<Vec<_>>(), cache.dump().collect::<Vec<_>>());
        std::fs::write(dir.path().join("edges.cache"), b"{\"layout\":").unwrap();
        assert!(file.read().is_none());
    }
}
