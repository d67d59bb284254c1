//! What other edges say: who is registered there, what they think of backends, and whether they live.
//!
//! It is no part of the durable state: it is never journalled, may be dropped at any time, and is usable when old. A
//! binding is its owner's: only the owner's events remove it, and nobody believes one past its expiry, or of an owner that
//! is lost.

use crate::state::{BindingKey, NameParts};
use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use signalbox_base::{EventSeq, JournalId, Text, Wall, fnv1a};
use signalbox_schemas::words::BackendState;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;

/// Entries looked at by one [`Cache::sweep`] at most.
const SWEEP_MAX: usize = 512;

/// A version of something at its owner: a later journal is compared by time, the same one by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The owner's journal.
    pub journal: JournalId,
    /// The event's number there.
    pub seq: EventSeq,
    /// When it happened, by the owner's clock.
    pub at: Wall,
}

impl Version {
    /// Whether this is told after `other`. Events may come again: those are not.
    fn is_after(&self, other: &Self) -> bool {
        if self.journal == other.journal { self.seq > other.seq } else { self.at > other.at }
    }
}

/// The REGISTER that a binding is from: of two bindings of one device the one that registered last counts, wherever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// [`call_of`] its Call-ID; `None` where it is not known.
    pub call: Option<u64>,
    /// Its CSeq number.
    pub cseq: u32,
    /// When it was granted.
    pub at: Wall,
}

impl Registered {
    /// Whether this one came later: by CSeq within one Call-ID (RFC 3261 §10.3 step 7), else by the edges' clocks.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        if self.call.is_some() && self.call == other.call && self.cseq != other.cseq {
            return self.cseq > other.cseq;
        }
        self.at > other.at
    }
}

/// A Call-ID in eight bytes: enough to tell a device's own ones apart.
#[must_use]
pub fn call_of(call_id: &[u8]) -> u64 {
    fnv1a(0, call_id.iter().copied())
}

/// A binding at another edge: what a call to it must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The owner.
    pub edge: Text,
    /// What told it.
    pub version: Version,
    /// `tenant/user@domain`.
    pub name: Text,
    /// Its key, which is the same at all edges.
    pub key: BindingKey,
    /// Nobody believes it beyond this.
    pub expires_at: Wall,
    /// Preference, 0 to 1000; `None` leaves it as it was.
    pub q: Option<u16>,
    /// The REGISTER.
    pub registered: Registered,
}

/// Whether an edge lives, as far as this one can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// Nothing says that it does not: it is heard, or nobody could have heard it.
    #[default]
    Alive,
    /// It was not heard for longer than its lease, though others were.
    Lost,
    /// It said that it stops.
    Stopped,
}

/// An edge of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where it takes what is handed to it; `None` for one that takes nothing.
    pub address: Option<SocketAddr>,
    /// Whether it lives.
    pub liveness: Liveness,
    /// The journal of its last `edge.started`.
    #[serde(default)]
    pub journal: JournalId,
}

/// What another edge thinks of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// `up`, `down` …
    pub state: Text,
    /// What told it.
    pub version: Version,
}

/// One thing that another edge said. Applying one again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// A binding was added or refreshed.
    Bound(Bound),
    /// Its owner has removed it, or it expired there.
    Unbound {
        /// The owner.
        edge: Text,
        /// What told it.
        version: Version,
        /// Which.
        key: BindingKey,
    },
    /// An edge is where, and lives or not.
    Peer {
        /// Its name.
        edge: Text,
        /// Where it takes what is handed to it.
        address: Option<SocketAddr>,
        /// Whether it lives.
        liveness: Liveness,
    },
    /// An edge began to serve. With a journal that continues none it has nothing of what it had before.
    Started {
        /// Its name.
        edge: Text,
        /// What told it; its journal is the new one.
        version: Version,
        /// The journal that it continues.
        continues: Option<JournalId>,
    },
    /// A backend's state at an edge.
    Backend {
        /// The edge.
        edge: Text,
        /// What told it.
        version: Version,
        /// `tenant/name`.
        backend: Text,
        /// The state.
        state: Text,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    edge: u16,
    gone: bool,
    q: Option<u16>,
    version: Version,
    expires_at: Wall,
    registered: Registered,
    name: Text,
}

impl Entry {
    /// Neither removed nor expired.
    fn is_good(&self, now: Wall) -> bool {
        !self.gone && self.expires_at > now
    }
}

/// A binding that can be reached through its owner now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// Its key.
    pub key: BindingKey,
    /// `tenant/user@domain`.
    pub name: Text,
    /// The owner.
    pub edge: Text,
    /// Where the owner takes it.
    pub address: SocketAddr,
    /// Preference, 0 to 1000.
    pub q: u16,
    /// The REGISTER.
    pub registered: Registered,
}

/// What a look-up found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What can be reached, the newest of each key.
    pub away: SmallVec<[Away; 1]>,
    /// Whether there are others whose owner is lost: somebody is registered, and nobody can reach him.
    pub lost: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    edges: Vec<(Text, Peer)>,
    bindings: HashMap<BindingKey, SmallVec<[Entry; 1]>>,
    names: HashMap<Text, SmallVec<[BindingKey; 1]>>,
    due: BinaryHeap<Reverse<(Wall, BindingKey)>>,
    backends: BTreeMap<(Text, Text), Opinion>,
}

impl Cache {
    /// Takes in what an edge said. `true` when it changed something.
    pub fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Bound(bound) => self.bind(bound),
            Update::Unbound { edge, version, key } => self.unbind(&edge, version, key),
            Update::Peer { edge, address, liveness } => {
                let at = self.edge(&edge);
                let peer = &mut self.edges[at].1;
                let changed = peer.address != address || peer.liveness != liveness;
                (peer.address, peer.liveness) = (address, liveness);
                changed
            }
            Update::Started { edge, version, continues } => self.started(&edge, version, continues),
            Update::Backend { edge, version, backend, state } => {
                let key = (edge, backend);
                let known = self.backends.get(&key);
                let news = known.is_none_or(|known| version.is_after(&known.version));
                if news {
                    self.backends.insert(key, Opinion { state, version });
                }
                news
            }
        }
    }

    /// Whether there is no binding: nothing needs to be looked up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Bindings held, those of lost edges among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.values().flatten().filter(|entry| !entry.gone).count()
    }

    /// The edges known.
    pub fn edges(&self) -> impl Iterator<Item = (&Text, &Peer)> {
        self.edges.iter().map(|(name, peer)| (name, peer))
    }

    /// An edge.
    #[must_use]
    pub fn peer(&self, edge: &str) -> Option<&Peer> {
        self.index_of(edge).map(|at| &self.edges[at].1)
    }

    /// Bindings of one edge.
    #[must_use]
    pub fn len_of(&self, edge: &str) -> usize {
        let at = self.index_of(edge);
        let own = |entry: &&Entry| !entry.gone && Some(usize::from(entry.edge)) == at;
        self.bindings.values().flatten().filter(own).count()
    }

    /// Whether all edges that live and have judged a backend (`tenant/name`) found it down.
    #[must_use]
    pub fn is_down(&self, backend: &str) -> bool {
        let lives = |edge: &Text| self.peer(edge).is_some_and(|peer| peer.liveness == Liveness::Alive);
        let of_it = self.backends.iter().filter(|((edge, name), _)| **name == *backend && lives(edge));
        // What an operator wishes at one edge is no judgement.
        let seen = [BackendState::Up, BackendState::Degraded, BackendState::Down];
        let judgement = |state: &str| seen.into_iter().find(|seen| seen.as_str() == state);
        let mut judged = of_it.filter_map(|(_, opinion)| judgement(&opinion.state)).peekable();
        judged.peek().is_some() && judged.all(|state| state == BackendState::Down)
    }

    /// The name (`tenant/user@domain`) of the AoR that a binding belongs to, whoever owns it.
    #[must_use]
    pub fn name_of(&self, key: BindingKey) -> Option<&Text> {
        self.bindings.get(&key)?.iter().find(|entry| !entry.gone).map(|entry| &entry.name)
    }

    /// A binding by its key, within a tenant.
    #[must_use]
    pub fn find(&self, tenant: &str, key: BindingKey, now: Wall) -> Found {
        let mut found = Found::default();
        self.collect(key, now, &mut found, |entry| NameParts(&entry.name).tenant() == tenant);
        found
    }

    /// All bindings of an AoR (`tenant/user@domain`), the most preferred first.
    #[must_use]
    pub fn find_all(&self, name: &str, now: Wall) -> Found {
        let mut found = Found::default();
        for key in self.names.get(name).into_iter().flatten() {
            self.collect(*key, now, &mut found, |entry| *entry.name == *name);
        }
        found.away.sort_by_key(|away| Reverse((away.q, away.registered.at)));
        found
    }

    /// Whether a device registered elsewhere after `here`, at an edge that lives.
    #[must_use]
    pub fn is_newer(&self, key: BindingKey, here: &Registered, now: Wall) -> bool {
        let Some(entries) = self.bindings.get(&key) else { return false };
        entries.iter().any(|entry| {
            entry.registered.is_later_than(here) && entry.is_good(now) && self.way(entry).is_some()
        })
    }

    /// Forgets what has expired, a bounded number of entries. `true` when more may be due.
    pub fn sweep(&mut self, now: Wall) -> bool {
        for _ in 0..SWEEP_MAX {
            match self.due.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => return false,
            }
            let Some(Reverse((_, key))) = self.due.pop() else { return false };
            self.retain(key, |entry| entry.expires_at > now);
        }
        true
    }

    /// All of it as updates that make the same cache of an empty one, in an order that does.
    pub fn dump(&self) -> impl Iterator<Item = Update> {
        let edges = self.edges.iter().flat_map(|(edge, peer)| {
            let edge = edge.clone();
            let version = Version { journal: peer.journal, seq: EventSeq(0), at: Wall(0) };
            let started = Update::Started { edge: edge.clone(), version, continues: Some(peer.journal) };
            [started, Update::Peer { edge, address: peer.address, liveness: peer.liveness }]
        });
        let bindings = self.bindings.iter().flat_map(|(key, entries)| {
            entries.iter().filter(|entry| !entry.gone).map(|entry| Update::Bound(self.bound(*key, entry)))
        });
        let backends = self.backends.iter().map(|((edge, backend), opinion)| Update::Backend {
            edge: edge.clone(),
            version: opinion.version,
            backend: backend.clone(),
            state: opinion.state.clone(),
        });
        edges.chain(bindings).chain(backends)
    }

    fn bound(&self, key: BindingKey, entry: &Entry) -> Bound {
        let Entry { edge, q, version, expires_at, registered, name, .. } = entry.clone();
        let edge = self.edges[usize::from(edge)].0.clone();
        Bound { edge, version, name, key, expires_at, q, registered }
    }

    fn edge(&mut self, name: &Text) -> usize {
        if let Some(at) = self.index_of(name) {
            return at;
        }
        self.edges.push((name.clone(), Peer::default()));
        self.edges.len() - 1
    }

    fn bind(&mut self, bound: Bound) -> bool {
        let Bound { edge, version, name, key, expires_at, q, registered } = bound;
        let Ok(edge) = u16::try_from(self.edge(&edge)) else { return false };
        let new = Entry { edge, gone: false, q, version, expires_at, registered, name: name.clone() };
        let entries = self.bindings.entry(key).or_default();
        match entries.iter_mut().find(|entry| entry.edge == edge) {
            Some(known) if !version.is_after(&known.version) => return false,
            Some(known) => {
                // A refresh tells only what changed.
                let (call, q) = (registered.call.or(known.registered.call), q.or(known.q));
                *known = Entry { q, registered: Registered { call, ..registered }, ..new };
            }
            None => entries.push(new),
        }
        let keys = self.names.entry(name).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
        self.due.push(Reverse((expires_at, key)));
        true
    }

    /// Only the owner's word counts. What is gone is remembered until it would have expired: an event that comes again must
    /// not bring it back.
    fn unbind(&mut self, edge: &Text, version: Version, key: BindingKey) -> bool {
        let Some(at) = self.index_of(edge) else { return false };
        let entries = self.bindings.get_mut(&key).into_iter().flatten();
        let mut own = entries.filter(|entry| usize::from(entry.edge) == at);
        match own.next() {
            Some(entry) if version.is_after(&entry.version) => {
                (entry.gone, entry.version) = (true, version);
                true
            }
            _ => false,
        }
    }

    fn started(&mut self, edge: &Text, version: Version, continues: Option<JournalId>) -> bool {
        let at = self.edge(edge);
        let before = std::mem::replace(&mut self.edges[at].1.journal, version.journal);
        if before == version.journal {
            return false;
        }
        if continues.is_none() && before != JournalId::default() {
            // A new disk: it knows nobody of those who registered before.
            let is_of_before = |entry: &Entry| {
                usize::from(entry.edge) == at
                    && entry.version.journal != version.journal
                    && entry.version.at <= version.at
            };
            let keys: Vec<BindingKey> = self
                .bindings
                .iter()
                .filter(|(_, all)| all.iter().any(is_of_before))
                .map(|(key, _)| *key)
                .collect();
            for key in keys {
                self.retain(key, |entry| !is_of_before(entry));
            }
        }
        true
    }

    fn retain(&mut self, key: BindingKey, keep: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.bindings.get_mut(&key) else { return };
        let names: SmallVec<[Text; 1]> = entries.iter().map(|entry| entry.name.clone()).collect();
        entries.retain(|entry| keep(entry));
        let left: SmallVec<[Text; 1]> = entries.iter().map(|entry| entry.name.clone()).collect();
        if left.is_empty() {
            self.bindings.remove(&key);
        }
        for name in names.into_iter().filter(|name| !left.contains(name)) {
            if let Some(keys) = self.names.get_mut(&name) {
                keys.retain(|known| *known != key);
                if keys.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        if self.bindings.capacity() > 1024 && self.bindings.len() < self.bindings.capacity() / 8 {
            self.bindings.shrink_to(self.bindings.len() * 2);
            self.names.shrink_to(self.names.len() * 2);
        }
    }

    /// The newest of a key that lives.
    fn collect(&self, key: BindingKey, now: Wall, found: &mut Found, wanted: impl Fn(&Entry) -> bool) {
        let mut best: Option<(&Entry, SocketAddr)> = None;
        for entry in self.bindings.get(&key).into_iter().flatten() {
            if !entry.is_good(now) || !wanted(entry) {
                continue;
            }
            match self.way(entry) {
                None => found.lost = true,
                Some(address) if best.is_none_or(|(b, _)| entry.registered.is_later_than(&b.registered)) => {
                    best = Some((entry, address));
                }
                Some(_) => {}
            }
        }
        found.away.extend(best.map(|(entry, address)| Away {
            key,
            name: entry.name.clone(),
            edge: self.edges[usize::from(entry.edge)].0.clone(),
            address,
            q: entry.q.unwrap_or(1000),
            registered: entry.registered,
        }));
    }

    /// Where its owner takes requests, while that lives.
    fn way(&self, entry: &Entry) -> Option<SocketAddr> {
        let owner = &self.edges[usize::from(entry.edge)].1;
        owner.address.filter(|_| owner.liveness == Liveness::Alive)
    }

    fn index_of(&self, edge: &str) -> Option<usize> {
        self.edges.iter().position(|(name, _)| **name == *edge)
    }
}
