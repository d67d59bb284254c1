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
}

#[derive(Clone, Debug)]
struct Place<T> {
    generation: u32,
    occupant: Option<T>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { places: Chunks::new(), free: Vec::new() }
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
        let index = self.places.push(Place { generation: 0, occupant: Some(occupant) });
        Handle { index, generation: 0 }
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
