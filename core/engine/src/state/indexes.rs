//! Bindings with the ways to find them: by AoR, by token, by flow.

use crate::state::binding::{Aor, Binding};
use crate::state::keys::{BindingKey, NameParts};
use crate::tidy::is_sparse;
use foldhash::fast::RandomState;
use foldhash::{HashMap, HashSet};
use hashbrown::HashTable;
use signalbox_base::{CompactFlow, EventSeq, Flow, Text, Transport};
use smallvec::SmallVec;
use std::hash::BuildHasher;
use std::net::SocketAddr;

/// All AoRs of this edge. Places are stable while an AoR lives, so that a snapshot can be taken a few at a time.
#[derive(Clone, Debug, Default)]
pub struct Registrations {
    places: Vec<Option<Box<Aor>>>,
    free: Vec<u32>,
    // Places only: what is looked for stands where they lead, and is not held twice.
    by_name: HashTable<u32>,
    by_key: HashTable<Known>,
    by_flow: HashTable<Over>,
    seed: RandomState,
    per_tenant: HashMap<Text, u32>,
    /// Texts that many bindings share: User-Agents, methods, names of backends.
    shared: HashSet<Text>,
    /// Those met before `shared` was last full. What is met again moves over, what came once is let go.
    shared_before: HashSet<Text>,
}

/// A binding of the AoR at a place, with the half of its key's hash that a growing table asks for.
#[derive(Clone, Copy, Debug)]
struct Known {
    half: u32,
    place: u32,
}

/// AoRs reached over one address.
#[derive(Clone, Debug)]
struct Over {
    half: u32,
    places: Places,
}

/// Never empty. Sorted: thousands of AoRs may share one flow, behind one gateway.
#[derive(Clone, Debug)]
enum Places {
    One(u32),
    Many(Box<Sorted>),
}

#[derive(Clone, Debug)]
struct Sorted(Vec<u32>);

impl Places {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Many(sorted) => &sorted.0,
        }
    }

    fn insert(&mut self, place: u32) {
        match self {
            Self::One(one) if *one == place => {}
            Self::One(one) => {
                *self = Self::Many(Box::new(Sorted(vec![place.min(*one), place.max(*one)])));
            }
            Self::Many(sorted) => {
                if let Err(at) = sorted.0.binary_search(&place) {
                    sorted.0.insert(at, place);
                }
            }
        }
    }

    /// `false` when it was the last one, which stays.
    fn remove(&mut self, place: u32) -> bool {
        let Self::Many(sorted) = self else { return self.as_slice() != [place] };
        if let Ok(at) = sorted.0.binary_search(&place) {
            sorted.0.remove(at);
        }
        if let [one] = *sorted.0 {
            *self = Self::One(one);
        }
        true
    }
}

fn is_over(flow: &CompactFlow, transport: Transport, remote: SocketAddr) -> bool {
    flow.transport() == transport && flow.remote() == remote
}

/// Half of a key is as good a hash as any: it is one of a keyed function.
fn half_of(key: BindingKey) -> u32 {
    key.0 as u32
}

/// All 64 bits of a hash from a half of one: the table takes some from either end.
const fn spread(half: u32) -> u64 {
    (half as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Empty places that are given back in one step.
const PLACES_A_STEP: usize = 16_384;

/// Texts of one generation; two are held.
const SHARED_MAX: usize = 4096;

impl Registrations {
    /// The AoR of this name (`tenant/user@domain`).
    #[must_use]
    pub fn aor(&self, name: &str) -> Option<&Aor> {
        self.at(self.place_named(name)?)
    }

    /// The AoR that a binding belongs to.
    #[must_use]
    pub fn aor_of(&self, key: BindingKey) -> Option<&Aor> {
        self.at(self.place_with(key)?)
    }

    /// The binding of this key, with its AoR.
    #[must_use]
    pub fn binding(&self, key: BindingKey) -> Option<(&Aor, &Binding)> {
        let aor = self.aor_of(key)?;
        aor.binding(key).map(|binding| (aor, binding))
    }

    /// The same within a tenant: another's binding is as good as none.
    #[must_use]
    pub fn binding_of(&self, tenant: &str, key: BindingKey) -> Option<(&Aor, &Binding)> {
        self.binding(key).filter(|(aor, _)| aor.tenant() == tenant)
    }

    /// Bindings reached over this flow (same transport, same remote address, same connection).
    pub fn over_flow(&self, flow: &Flow) -> impl Iterator<Item = (&Aor, &Binding)> {
        let (remote, conn) = (flow.remote, flow.conn);
        self.places_over(flow.transport, remote)
            .iter()
            .filter_map(|place| self.at(*place))
            .flat_map(|aor| aor.bindings.iter().map(move |b| (aor, &**b)))
            .filter(move |(_, b)| b.flow.remote() == remote && b.flow.conn() == conn)
    }

    /// A binding of this AoR (`tenant/user@domain`) that is reached over this flow.
    #[must_use]
    pub fn of_aor_over_flow(&self, name: &str, flow: &Flow) -> Option<&Binding> {
        let same = |b: &CompactFlow| is_over(b, flow.transport, flow.remote) && b.conn() == flow.conn;
        self.aor(name)?.bindings.iter().find(|b| same(&b.flow)).map(|b| &**b)
    }

    /// Whether any binding is reached over this flow.
    #[must_use]
    pub fn knows_flow(&self, flow: &Flow) -> bool {
        self.over_flow(flow).next().is_some()
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
        let known = |text| self.shared.get(text).or_else(|| self.shared_before.get(text));
        let known = std::str::from_utf8(bytes).ok().and_then(known);
        known.cloned().unwrap_or_else(|| Text::lossy(bytes))
    }

    /// The same text, held once for all bindings that bear it.
    pub(crate) fn share(&mut self, text: &Text) -> Text {
        if let Some(known) = self.shared.get(&**text) {
            return known.clone();
        }
        if self.shared.len() >= SHARED_MAX {
            self.shared_before = std::mem::take(&mut self.shared);
        }
        let text = self.shared_before.take(&**text).unwrap_or_else(|| text.clone());
        self.shared.insert(text.clone());
        text
    }

    /// Stores or replaces a binding of the same key. `backend` is where its AoR's traffic goes from now on.
    pub(crate) fn put(&mut self, name: &Text, backend: &Text, home: &Text, mut binding: Binding) {
        let (backend, home) = (&self.share(backend), &self.share(home));
        binding.user_agent = binding.user_agent.map(|text| self.share(&text));
        binding.methods = binding.methods.map(|text| self.share(&text));
        let place = self.place_of(name, backend, home);
        let (flow, key, seq) = (binding.flow.clone(), binding.key, binding.seq);
        let before = self.at(place).and_then(|aor| aor.binding(key)).map(|old| old.flow.clone());
        let moved = before.as_ref().is_some_and(|old| *old != flow);
        if let Some(old) = before.as_ref().filter(|_| moved) {
            self.unlink_flow(place, key, old);
        }
        let aor = self.places[place as usize].as_deref_mut().expect("place_of returns a taken place");
        aor.backend.clone_from(backend);
        aor.home.clone_from(home);
        aor.seq = seq;
        match aor.bindings.iter_mut().find(|b| b.key == key) {
            Some(old) => **old = binding,
            None => aor.bindings.push(Box::new(binding)),
        }
        if moved || before.is_none() {
            self.link_flow(place, &flow);
        }
        if before.is_none() {
            let half = half_of(key);
            self.by_key.insert_unique(spread(half), Known { half, place }, |known| spread(known.half));
            self.count(name, 1);
        }
    }

    /// Changes a binding where it stands, if `stays` says that nothing moves which an index knows of, or that is shared: its
    /// key, its flow, its AoR's backend and home, its User-Agent and methods. `false` when there is none, or it does not stay.
    pub(crate) fn extend(
        &mut self,
        key: BindingKey,
        stays: impl FnOnce(&Aor, &Binding) -> bool,
        change: impl FnOnce(&mut Binding),
    ) -> bool {
        let Some(place) = self.place_with(key) else { return false };
        let Some(aor) = self.places[place as usize].as_deref_mut() else { return false };
        let Some(at) = aor.bindings.iter().position(|b| b.key == key) else { return false };
        if !stays(aor, &aor.bindings[at]) {
            return false;
        }
        let binding = &mut aor.bindings[at];
        change(binding);
        aor.seq = binding.seq;
        true
    }

    /// Takes a binding out, and its AoR with the last one.
    pub(crate) fn remove(&mut self, key: BindingKey, seq: EventSeq) -> Option<Binding> {
        let (half, places) = (half_of(key), &self.places);
        let is_it = |known: &Known| {
            let aor = places.get(known.place as usize).and_then(Option::as_deref);
            known.half == half && aor.is_some_and(|aor| aor.binding(key).is_some())
        };
        let found = self.by_key.find_entry(spread(half), is_it).ok()?;
        let place = found.remove().0.place;
        let flow = self.at(place)?.binding(key)?.flow.clone();
        self.unlink_flow(place, key, &flow);
        let aor = self.places[place as usize].as_deref_mut()?;
        let at = aor.bindings.iter().position(|b| b.key == key)?;
        let binding = *aor.bindings.remove(at);
        aor.seq = seq;
        let name = aor.name.clone();
        let empty = aor.bindings.is_empty();
        self.count(&name, -1);
        if empty {
            let named = self.by_name.find_entry(self.seed.hash_one(&*name), |at| *at == place);
            named.map(|named| named.remove()).ok();
            self.places[place as usize] = None;
            self.free.push(place);
        }
        Some(binding)
    }

    /// Puts a whole AoR back, from a snapshot. It may come twice, if it went and came again at another place while the
    /// snapshot was taken: the later one is all there is of it.
    pub(crate) fn restore(&mut self, aor: Aor) {
        let earlier = self.aor(&aor.name).map(|aor| aor.bindings.iter().map(|b| b.key).collect::<Vec<_>>());
        for key in earlier.unwrap_or_default() {
            self.remove(key, aor.seq);
        }
        for binding in aor.bindings {
            self.put(&aor.name, &aor.backend, &aor.home, *binding);
        }
        if let Some(place) = self.place_named(&aor.name)
            && let Some(stored) = self.places[place as usize].as_deref_mut()
        {
            stored.seq = aor.seq;
        }
    }

    /// Whether much more memory is held than is needed.
    pub(crate) fn is_sparse(&self) -> bool {
        let tables = [
            (self.by_key.len(), self.by_key.capacity()),
            (self.by_name.len(), self.by_name.capacity()),
            (self.by_flow.len(), self.by_flow.capacity()),
            (self.places.len(), self.places.capacity()),
        ];
        tables.into_iter().any(is_sparse) || self.places.last().is_some_and(Option::is_none)
    }

    /// Gives back some of it: one table, or empty places behind the last taken one. `false` when there is nothing to give.
    pub(crate) fn give_back(&mut self) -> bool {
        let (places, seed) = (&self.places, &self.seed);
        if is_sparse((self.by_key.len(), self.by_key.capacity())) {
            self.by_key.shrink_to(self.by_key.len() * 2, |known| spread(known.half));
        } else if is_sparse((self.by_flow.len(), self.by_flow.capacity())) {
            self.by_flow.shrink_to(self.by_flow.len() * 2, |over| spread(over.half));
        } else if is_sparse((self.by_name.len(), self.by_name.capacity())) {
            let hash_of = |at: &u32| places[*at as usize].as_ref().map_or(0, |aor| seed.hash_one(&*aor.name));
            self.by_name.shrink_to(self.by_name.len() * 2, hash_of);
        } else if self.places.last().is_some_and(Option::is_none) {
            let empty = self.places.iter().rev().take(PLACES_A_STEP).take_while(|aor| aor.is_none()).count();
            self.places.truncate(self.places.len() - empty);
            let end = self.places.len();
            self.free.retain(|place| (*place as usize) < end);
        } else if is_sparse((self.places.len(), self.places.capacity())) {
            self.places.shrink_to(self.places.len() * 2);
            self.free.shrink_to_fit();
        } else {
            return false;
        }
        true
    }

    /// Entries that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        let tables = self.by_key.capacity() + self.by_name.capacity() + self.by_flow.capacity();
        tables + self.places.capacity() + self.free.capacity()
    }

    fn at(&self, place: u32) -> Option<&Aor> {
        self.places.get(place as usize)?.as_deref()
    }

    fn place_of(&mut self, name: &Text, backend: &Text, home: &Text) -> u32 {
        if let Some(place) = self.place_named(name) {
            return place;
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
        let (places, seed) = (&self.places, &self.seed);
        let hash_of = |at: &u32| places[*at as usize].as_ref().map_or(0, |aor| seed.hash_one(&*aor.name));
        self.by_name.insert_unique(seed.hash_one(&**name), place, hash_of);
        place
    }

    fn place_with(&self, key: BindingKey) -> Option<u32> {
        let half = half_of(key);
        let is_it = |known: &Known| {
            known.half == half && self.at(known.place).is_some_and(|aor| aor.binding(key).is_some())
        };
        self.by_key.find(spread(half), is_it).map(|known| known.place)
    }

    fn place_named(&self, name: &str) -> Option<u32> {
        let is_it = |at: &u32| self.at(*at).is_some_and(|aor| *aor.name == *name);
        self.by_name.find(self.seed.hash_one(name), is_it).copied()
    }

    fn half_over(&self, transport: Transport, remote: SocketAddr) -> u32 {
        (self.seed.hash_one((transport, remote)) >> 32) as u32
    }

    fn places_over(&self, transport: Transport, remote: SocketAddr) -> &[u32] {
        let half = self.half_over(transport, remote);
        let is_it = |over: &Over| over.half == half && self.leads_to(over, transport, remote);
        self.by_flow.find(spread(half), is_it).map_or(&[], |over| over.places.as_slice())
    }

    /// Whether an entry is this address's: its first AoR says so, as all of them do.
    fn leads_to(&self, over: &Over, transport: Transport, remote: SocketAddr) -> bool {
        let first = over.places.as_slice().first().and_then(|place| self.at(*place));
        first.is_some_and(|aor| aor.bindings.iter().any(|b| is_over(&b.flow, transport, remote)))
    }

    /// The binding over this flow is in its place already.
    fn link_flow(&mut self, place: u32, flow: &CompactFlow) {
        let (transport, remote) = (flow.transport(), flow.remote());
        let half = self.half_over(transport, remote);
        let mut by_flow = std::mem::take(&mut self.by_flow);
        let is_it = |over: &Over| over.half == half && self.leads_to(over, transport, remote);
        match by_flow.find_mut(spread(half), is_it) {
            Some(over) => over.places.insert(place),
            None => {
                let over = Over { half, places: Places::One(place) };
                by_flow.insert_unique(spread(half), over, |over| spread(over.half));
            }
        }
        self.by_flow = by_flow;
    }

    /// The binding that leaves this flow is still in its place: an entry is known by what it leads to.
    fn unlink_flow(&mut self, place: u32, leaving: BindingKey, flow: &CompactFlow) {
        let (transport, remote) = (flow.transport(), flow.remote());
        let others =
            |aor: &Aor| aor.bindings.iter().any(|b| b.key != leaving && is_over(&b.flow, transport, remote));
        if self.at(place).is_some_and(others) {
            return;
        }
        let half = self.half_over(transport, remote);
        let mut by_flow = std::mem::take(&mut self.by_flow);
        let is_it = |over: &Over| over.half == half && self.leads_to(over, transport, remote);
        if let Ok(mut found) = by_flow.find_entry(spread(half), is_it)
            && !found.get_mut().places.remove(place)
        {
            found.remove();
        }
        self.by_flow = by_flow;
    }

    fn count(&mut self, name: &str, by: i32) {
        let tenant = NameParts(name).tenant();
        if let Some(count) = self.per_tenant.get_mut(tenant) {
            *count = count.saturating_add_signed(by);
        } else {
            self.per_tenant.insert(Text::new(tenant), by.max(0).unsigned_abs());
        }
    }
}

#[cfg(test)]
mod tests;
