//! Places reused by number, where an old number with a stale generation finds nothing.

use super::chunks::Chunks;

/// Names one occupant of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Handle {
    pub(super) index: u32,
    generation: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    places: Chunks<Place<T>>,
    free: Vec<u32>,
    /// Of new places: above those of places that were given back, whose handles stay stale.
    first: u32,
}

#[derive(Clone, Debug)]
struct Place<T> {
    generation: u32,
    occupant: Option<T>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { places: Chunks::new(), free: Vec::new(), first: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, occupant: T) -> Handle {
        if let Some(index) = self.free.pop() {
            let place = self.places.get_mut(index).expect("a free place is one of these");
            place.occupant = Some(occupant);
            return Handle { index, generation: place.generation };
        }
        let generation = self.first;
        let index = self.places.push(Place { generation, occupant: Some(occupant) });
        Handle { index, generation }
    }

    /// Whether most places are empty.
    pub(super) fn is_sparse(&self) -> bool {
        self.places.last_piece().is_some() && self.len() < self.places.len() / 8
    }

    /// Gives back the last places if they are empty. `false` when they are not.
    pub(super) fn give_back(&mut self) -> bool {
        let Some(last) = self.places.last_piece().filter(|_| self.is_sparse()) else { return false };
        let start = last.start;
        let mut highest = self.first;
        for place in last.filter_map(|index| self.places.get(index)) {
            if place.occupant.is_some() {
                return false;
            }
            highest = highest.max(place.generation);
        }
        self.first = highest.wrapping_add(1);
        self.places.pop_piece();
        self.free.retain(|index| *index < start);
        if self.free.capacity() / 4 > self.free.len() {
            self.free.shrink_to(self.free.len() * 2);
        }
        true
    }

    /// The occupant of a place, whatever its generation, with its handle.
    pub(super) fn at(&self, index: u32) -> Option<(Handle, &T)> {
        let place = self.places.get(index)?;
        Some((Handle { index, generation: place.generation }, place.occupant.as_ref()?))
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&T> {
        let place = self.places.get(handle.index)?;
        place.occupant.as_ref().filter(|_| place.generation == handle.generation)
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let place = self.places.get_mut(handle.index)?;
        place.occupant.as_mut().filter(|_| place.generation == handle.generation)
    }

    pub(super) fn remove(&mut self, handle: Handle) -> Option<T> {
        let place = self.places.get_mut(handle.index)?;
        if place.generation != handle.generation {
            return None;
        }
        let occupant = place.occupant.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(handle.index);
        Some(occupant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_were_given_back_and_come_again_do_not_answer_to_old_handles() {
        let mut slab = Slab::new();
        let all: Vec<Handle> = (0..5_000).map(|n| slab.insert(n)).collect();
        assert!(!slab.give_back(), "all are taken");
        for handle in &all[1..] {
            slab.remove(*handle);
        }
        let mut steps = 0;
        while slab.give_back() {
            steps += 1;
        }
        assert_eq!((slab.len(), slab.get(all[0]), slab.is_sparse()), (1, Some(&0), false));
        assert!(steps >= 8 && slab.places.len() <= 512 && slab.free.len() == slab.places.len() - 1);
        let again: Vec<Handle> = (0..5_000).map(|n| slab.insert(n)).collect();
        assert!(all[1..].iter().all(|old| slab.get(*old).is_none()));
        assert!(again.iter().zip(0..).all(|(new, n)| slab.get(*new) == Some(&n)));
    }

    #[test]
    fn a_stale_handle_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.get(second), slab.len()), (Some(&'b'), 1));
    }
}
