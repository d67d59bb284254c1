//! One process at a time folds events into the tables: the others stand by until its lease has run out or is given back.

use signalbox_base::EdgeIdentity;
use signalbox_bus::Source;
use signalbox_io::{Clock, OsEntropy};
use signalbox_store::lease::{self, Candidate, Held, Lease};
use signalbox_store::{Class, Error, Store};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Name of the lease.
const ROLE: &str = "projections";
/// How long a holder that says nothing keeps it: longer than a stalled disk or a server's restart takes, usually.
const TERM: Duration = Duration::from_secs(8);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often a standby looks whether the lease is free.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file in the data directory that is locked by the process that folds, and holds the directory's id.
const LOCK: &str = "projections.lock";

/// Where this process stands for the lease.
pub(super) struct Candidacy {
    holder: String,
    folds: String,
    /// The edge whose journal is the bus, where that is so.
    journal_of: Option<EdgeIdentity>,
    lock: PathBuf,
    place: Mutex<Place>,
}

/// The data directory, as far as it tells that no other process of it lives.
#[derive(Default)]
struct Place {
    id: String,
    locked: Option<File>,
}

/// What a candidate finds.
pub(super) enum Found {
    /// The lease is ours.
    Ours(Lease),
    /// Another process folds.
    Standby(Held),
    /// The tables are folded from another edge's journal.
    Foreign(String),
}

impl Candidacy {
    /// Of this process: `bus` is the kind of the bus, `journal` whether that is the edge's own journal.
    pub(super) fn new(identity: &EdgeIdentity, bus: &str, journal: bool, data_dir: &Path) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let holder = format!("{identity} pid {} on {}", std::process::id(), host.trim());
        let folds = if journal { format!("{bus} {identity}") } else { bus.to_owned() };
        let journal_of = journal.then(|| identity.clone());
        let lock = data_dir.join(LOCK);
        Self { holder, folds, journal_of, lock, place: Mutex::default() }
    }

    /// Who this is, for people.
    pub(super) fn holder(&self) -> &str {
        &self.holder
    }

    /// Takes the lease if it is free. `first`: nothing of this process was ever stopped by another, so that one which held
    /// the lease from the same directory is dead if that is ours alone.
    pub(super) async fn stand(&self, store: &Store, first: bool) -> Result<Found, Error> {
        if let Some(why) = self.foreign(store).await? {
            return Ok(Found::Foreign(why));
        }
        let (place, locked) = self.place();
        let candidate = Candidate {
            name: ROLE,
            holder: self.holder.clone(),
            place,
            alone: first && locked,
            folds: self.folds.clone(),
            term: TERM,
        };
        if let Some(lease) = lease::take(store, &candidate).await? {
            return Ok(Found::Ours(lease));
        }
        let held = lease::see(store, ROLE).await?;
        held.map(Found::Standby).ok_or_else(|| Error::new(Class::Retryable, "the lease is being taken"))
    }

    /// Why these tables are not this edge's to fold: an edge that reads its own journal sees nobody else's events, so it
    /// could neither go on with another's rows nor make its tables anew.
    async fn foreign(&self, store: &Store) -> Result<Option<String>, Error> {
        let Some(own) = &self.journal_of else { return Ok(None) };
        const SOURCES: &str = "SELECT DISTINCT source FROM projection_position ORDER BY source";
        let rows = store.query(SOURCES, Vec::new()).await?;
        let sources: Result<Vec<Option<Source>>, Error> =
            rows.iter().map(|row| Ok(row.text("source")?.and_then(|source| source.parse().ok()))).collect();
        let others = |source: &Source| {
            source.edge != "store" && (&source.cluster, &source.edge) != (&own.cluster, &own.edge)
        };
        let of_positions = sources?.into_iter().flatten().find(others);
        let of_positions = of_positions.map(|source| format!("{}/{}", source.cluster, source.edge));
        let of_lease = lease::see(store, ROLE)
            .await?
            .filter(|held| held.folds.contains(' ') && held.folds != self.folds);
        let other = of_positions.or_else(|| {
            of_lease.and_then(|held| held.folds.split_once(' ').map(|(_, edge)| edge.to_owned()))
        });
        Ok(other.map(|other| format!("its tables are those of {other}, whose journal {own} does not read")))
    }

    /// The directory's id, and whether this process has locked it. Tried again each time: who held it may be gone.
    fn place(&self) -> (String, bool) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.locked.is_none() {
            match open(&self.lock) {
                Ok((id, file, locked)) => {
                    place.id = id;
                    place.locked = locked.then_some(file);
                }
                Err(error) => tracing::debug!(path = %self.lock.display(), %error, "no lock"),
            }
        }
        (place.id.clone(), place.locked.is_some())
    }

    /// Keeps the lease until it is lost or `stop`; then gives it back. True when another has it.
    pub(super) async fn keep(&self, store: &Store, lease: &Lease, mut stop: watch::Receiver<bool>) -> bool {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return false,
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
            self.place();
            match lease::renew(store, lease).await {
                Ok(true) => {}
                Ok(false) => return true,
                // A store that is away can give the lease to nobody else either.
                Err(error) => tracing::debug!(%error, "the lease is not renewed"),
            }
        }
    }

    /// The next process need not wait.
    pub(super) async fn give_back(&self, store: &Store, lease: &Lease) {
        let given = tokio::time::timeout(Duration::from_secs(2), lease::give_back(store, lease)).await;
        if !matches!(given, Ok(Ok(()))) {
            tracing::debug!("the lease is not given back; it runs out");
        }
    }

    /// A moment's pause of a standby; false when it is asked to stop.
    pub(super) async fn wait(&self, stop: &mut watch::Receiver<bool>) -> bool {
        tokio::time::timeout(LOOK_EVERY, stop.wait_for(|stop| *stop)).await.is_err()
    }
}

fn open(path: &Path) -> std::io::Result<(String, File, bool)> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let locked = file.try_lock().is_ok();
    let mut id = String::new();
    file.read_to_string(&mut id)?;
    if id.is_empty() && locked {
        let mut bytes = [0; 16];
        OsEntropy::seeded().map_err(|fault| std::io::Error::other(fault.to_string()))?.fill(&mut bytes);
        id = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        file.rewind()?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
    }
    Ok((id, file, locked))
}

/// One line about who folds, for people.
pub(super) fn told(held: &Held) -> String {
    let seconds = Clock::start().now().wall.since(held.since).as_secs();
    format!("{} folds the tables, since {} ({seconds} s)", held.holder, held.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_base::Wall;
    use signalbox_store::{Config, Position, positions};

    async fn why_not(own: &str, folded: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Config::sqlite(&dir.path().join("signalbox.db"))).await.unwrap();
        store.migrate().await.unwrap();
        let claim = positions::claim(&store, "cdr", 1, "somebody", None, Wall(1)).await.unwrap();
        for edge in folded {
            let source = format!("urn:signalbox:prod:{edge}:00000000000000000000000007");
            let save = claim.save(&source, "call", &Position::default(), 1, Wall(1));
            store.transaction(vec![save]).await.unwrap();
        }
        let own = EdgeIdentity { cluster: "prod".into(), edge: own.into() };
        Candidacy::new(&own, "journal", true, dir.path()).foreign(&store).await.unwrap()
    }

    #[tokio::test]
    async fn given_edges_with_like_names_when_one_reads_its_own_journal_then_it_folds_its_own_tables_only() {
        for name in ["edge_1", "edgex1", "edge%"] {
            assert_eq!(why_not(name, &[]).await, None);
            assert_eq!(why_not(name, &[name, "store"]).await, None);
        }
        for (own, other) in [("edge_1", "edgex1"), ("edgex1", "edge_1"), ("edge%", "edge-1")] {
            let why = why_not(own, &[own, other]).await.unwrap();
            assert!(why.contains(&format!("those of prod/{other},")), "{why}");
        }
    }
}
