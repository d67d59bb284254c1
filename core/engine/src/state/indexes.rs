//! Bindings with the ways to find them: by AoR, by token, by flow.

use crate::state::binding::{Aor, Binding};
use crate::state::keys::BindingKey;
use foldhash::{HashMap, HashSet};
use signalbox_base::{EventSeq, Flow, Text, Transport};
use smallvec::SmallVec;
use std::net::SocketAddr;

/// All AoRs of this edge. Places are stable while an AoR lives, so that a snapshot can be taken a few at a time.
#[derive(Clone, Debug, Default)]
pub struct Registrations {
    places: Vec<Option<Box<Aor>>>,
    free: Vec<u32>,
    by_name: HashMap<Text, u32>,
    by_key: HashMap<BindingKey, u32>,
    by_flow: HashMap<(Transport, SocketAddr), SmallVec<[u32; 2]>>,
    per_tenant: HashMap<Text, u32>,
    /// Texts that many bindings share: User-Agents, methods, names of backends.
    shared: HashSet<Text>,
}

/// Texts shared at most; what comes later stands alone.
const SHARED_MAX: usize = 4096;

impl Registrations {
    /// The AoR of this name (`tenant/user@domain`).
    #[must_use]
    pub fn aor(&self, name: &str) -> Option<&Aor> {
        self.at(*self.by_name.get(name)?)
    }

    /// The AoR that a binding belongs to.
    #[must_use]
    pub fn aor_of(&self, key: BindingKey) -> Option<&Aor> {
        self.at(*self.by_key.get(&key)?)
    }

    /// The binding of this key, with its AoR.
    #[must_use]
    pub fn binding(&self, key: BindingKey) -> Option<(&Aor, &Binding)> {
        let aor = self.aor_of(key)?;
        aor.binding(key).map(|binding| (aor, binding))
    }

    /// Bindings reached over this flow (same transport, same remote address, same connection).
    pub fn over_flow(&self, flow: &Flow) -> impl Iterator<Item = (&Aor, &Binding)> {
        let (remote, conn) = (flow.remote, flow.conn);
        self.by_flow
            .get(&(flow.transport, remote))
            .into_iter()
            .flatten()
            .filter_map(|place| self.at(*place))
            .flat_map(|aor| aor.bindings.iter().map(move |b| (aor, &**b)))
            .filter(move |(_, b)| b.flow.remote == remote && b.flow.conn == conn)
    }

    /// A binding of this AoR (`tenant/user@domain`) that is reached over this flow.
    #[must_use]
    pub fn of_aor_over_flow(&self, name: &str, flow: &Flow) -> Option<&Binding> {
        let same = |b: &Flow| b.transport == flow.transport && b.remote == flow.remote && b.conn == flow.conn;
        self.aor(name)?.bindings.iter().find(|b| same(&b.flow)).map(|b| &**b)
    }

    /// Whether any binding is reached over this flow.
    #[must_use]
    pub fn knows_flow(&self, flow: &Flow) -> bool {
        self.over_flow(flow).next().is_some()
    }

    /// Whether any binding is reached at this address.
    #[must_use]
    pub fn knows_address(&self, transport: Transport, remote: SocketAddr) -> bool {
        self.by_flow.contains_key(&(transport, remote))
    }

    /// Bindings in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is no binding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Bindings of a tenant.
    #[must_use]
    pub fn of_tenant(&self, tenant: &str) -> u32 {
        self.per_tenant.get(tenant).copied().unwrap_or(0)
    }

    /// All AoRs, in no promised order.
    pub fn iter(&self) -> impl Iterator<Item = &Aor> {
        self.places.iter().flatten().map(|aor| &**aor)
    }

    /// The AoR at a place, and whether there may be more behind it; for snapshots.
    pub(crate) fn place(&self, at: usize) -> Option<Option<&Aor>> {
        self.places.get(at).map(|aor| aor.as_deref())
    }

    /// A text off the wire: the one that other bindings bear, where one does.
    pub(crate) fn shared(&self, bytes: &[u8]) -> Text {
        let known = std::str::from_utf8(bytes).ok().and_then(|text| self.shared.get(text));
        known.cloned().unwrap_or_else(|| Text::lossy(bytes))
    }

    /// The same text, held once for all bindings that bear it.
    pub(crate) fn share(&mut self, text: &Text) -> Text {
        if let Some(known) = self.shared.get(&**text) {
            return known.clone();
        }
        if self.shared.len() < SHARED_MAX {
            self.shared.insert(text.clone());
        }
        text.clone()
    }

    /// Stores or replaces a binding of the same key. `backend` is where its AoR's traffic goes from now on.
    pub(crate) fn put(&mut self, name: &Text, backend: &Text, home: &Text, mut binding: Binding) {
        let (backend, home) = (&self.share(backend), &self.share(home));
        binding.user_agent = binding.user_agent.map(|text| self.share(&text));
        binding.methods = binding.methods.map(|text| self.share(&text));
        let place = self.place_of(name, backend, home);
        let (flow, key, seq) = (binding.flow, binding.key, binding.seq);
        let aor = self.places[place as usize].as_deref_mut().expect("place_of returns a taken place");
        aor.backend.clone_from(backend);
        aor.home.clone_from(home);
        aor.seq = seq;
        let before = match aor.bindings.iter_mut().find(|b| b.key == key) {
            Some(old) => Some(std::mem::replace(&mut **old, binding).flow),
            None => {
                aor.bindings.push(Box::new(binding));
                None
            }
        };
        match before {
            Some(old) if old == flow => {}
            Some(old) => {
                self.unlink_flow(place, &old);
                self.link_flow(place, &flow);
            }
            None => {
                self.link_flow(place, &flow);
                self.by_key.insert(key, place);
                self.count(name, 1);
            }
        }
    }

    /// Takes a binding out, and its AoR with the last one.
    pub(crate) fn remove(&mut self, key: BindingKey, seq: EventSeq) -> Option<Binding> {
        let place = self.by_key.remove(&key)?;
        let aor = self.places[place as usize].as_deref_mut()?;
        let at = aor.bindings.iter().position(|b| b.key == key)?;
        let binding = *aor.bindings.remove(at);
        aor.seq = seq;
        let name = aor.name.clone();
        let empty = aor.bindings.is_empty();
        self.unlink_flow(place, &binding.flow);
        self.count(&name, -1);
        if empty {
            self.by_name.remove(&*name);
            self.places[place as usize] = None;
            self.free.push(place);
        }
        Some(binding)
    }

    /// Puts a whole AoR back, from a snapshot.
    pub(crate) fn restore(&mut self, aor: Aor) {
        for binding in aor.bindings {
            self.put(&aor.name, &aor.backend, &aor.home, *binding);
        }
        if let Some(place) = self.by_name.get(&*aor.name).copied()
            && let Some(stored) = self.places[place as usize].as_deref_mut()
        {
            stored.seq = aor.seq;
        }
    }

    fn at(&self, place: u32) -> Option<&Aor> {
        self.places.get(place as usize)?.as_deref()
    }

    fn place_of(&mut self, name: &Text, backend: &Text, home: &Text) -> u32 {
        if let Some(place) = self.by_name.get(&**name) {
            return *place;
        }
        let aor = Box::new(Aor {
            name: name.clone(),
            backend: backend.clone(),
            home: home.clone(),
            bindings: SmallVec::new(),
            seq: Default::default(),
        });
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(aor);
                place
            }
            None => {
                self.places.push(Some(aor));
                u32::try_from(self.places.len() - 1).expect("fewer than 2^32 AoRs fit in memory")
            }
        };
        self.by_name.insert(name.clone(), place);
        place
    }

    fn link_flow(&mut self, place: u32, flow: &Flow) {
        // Sorted: thousands of AoRs may share one flow, behind one gateway.
        let places = self.by_flow.entry((flow.transport, flow.remote)).or_default();
        if let Err(at) = places.binary_search(&place) {
            places.insert(at, place);
        }
    }

    fn unlink_flow(&mut self, place: u32, flow: &Flow) {
        let still = self.at(place).is_some_and(|aor| {
            aor.bindings.iter().any(|b| b.flow.transport == flow.transport && b.flow.remote == flow.remote)
        });
        if still {
            return;
        }
        let key = (flow.transport, flow.remote);
        if let Some(places) = self.by_flow.get_mut(&key) {
            if let Ok(at) = places.binary_search(&place) {
                places.remove(at);
            }
            if places.is_empty() {
                self.by_flow.remove(&key);
            }
        }
    }

    fn count(&mut self, name: &str, by: i32) {
        let tenant = name.split_once('/').map_or("", |(tenant, _)| tenant);
        if let Some(count) = self.per_tenant.get_mut(tenant) {
            *count = count.saturating_add_signed(by);
        } else {
            self.per_tenant.insert(Text::new(tenant), by.max(0).unsigned_abs());
        }
    }
}
