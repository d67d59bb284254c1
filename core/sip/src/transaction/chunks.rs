//! A list that grows by pieces: what is in it never moves, and no more than one piece is empty.
//!
//! A `Vec` of a hundred thousand entries doubles: it copies megabytes within one turn, and then half of it is unused.

/// Entries of a piece.
const PIECE: usize = 512;
/// Entries that the first piece starts with; it grows like any `Vec`, since small tables are common.
const FIRST: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Chunks<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    pub(super) const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// Appends an entry and gives its number.
    ///
    /// # Panics
    /// At 2^32 - 1 entries: memory ends before.
    pub(super) fn push(&mut self, entry: T) -> u32 {
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            let room = if self.pieces.is_empty() { FIRST } else { PIECE };
            self.pieces.push(Vec::with_capacity(room));
        }
        let before = (self.pieces.len() - 1) * PIECE;
        let piece = self.pieces.last_mut().expect("one was pushed just above");
        let index = u32::try_from(before + piece.len()).ok().filter(|index| *index != u32::MAX);
        piece.push(entry);
        index.expect("fewer than 2^32 entries fit in memory")
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    /// Numbers of the entries in the last piece; none of the only one, which stays.
    pub(super) fn last_piece(&self) -> Option<std::ops::Range<u32>> {
        let behind_first = self.pieces.len() > 1;
        behind_first.then(|| ((self.pieces.len() - 1) * PIECE) as u32..self.len() as u32)
    }

    /// Drops the last piece.
    pub(super) fn pop_piece(&mut self) {
        self.pieces.pop();
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.pieces.get(index as usize / PIECE)?.get(index as usize % PIECE)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.pieces.get_mut(index as usize / PIECE)?.get_mut(index as usize % PIECE)
    }
}

impl<T> std::ops::Index<u32> for Chunks<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.pieces[index as usize / PIECE][index as usize % PIECE]
    }
}

impl<T> std::ops::IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pieces[index as usize / PIECE][index as usize % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_numbers_and_pieces_do_not_grow_beyond_their_size() {
        let mut chunks = Chunks::new();
        let count = 3 * PIECE as u32 + 7;
        for entry in 0..count {
            assert_eq!(chunks.push(entry), entry);
        }
        chunks[5] = 77;
        assert_eq!(
            (chunks.get(5), chunks.get(count - 1), chunks.get(count)),
            (Some(&77), Some(&(count - 1)), None)
        );
        *chunks.get_mut(PIECE as u32).expect("there") += 1;
        assert_eq!(chunks[PIECE as u32], PIECE as u32 + 1);
        assert!(chunks.pieces.iter().all(|piece| piece.capacity() <= PIECE));
    }
}
