//! Memory that many have needed and few do now: hash tables and lists keep what they once grew to. It is given back when nothing
//! else is to be done, a piece at a time.
//!
//! A table that shrinks moves what is left in it, at most an eighth of what it has room for: its growth has cost a turn more.

use crate::engine::Rooms;
use crate::net::Timer;
use crate::turn::Turn;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

/// Between one piece and the next.
const EVERY: Duration = Duration::from_millis(20);
/// Until it is tried again when what is left stands in the way.
const AGAIN: Duration = Duration::from_secs(60);
/// What has room for less is kept.
const ENTRIES_MIN: usize = 1_024;
/// And what is filled to more than one in so many.
const FILLED_MIN: usize = 8;

/// Whether so many entries have far too much room (entries, room).
pub(crate) fn is_sparse((len, capacity): (usize, usize)) -> bool {
    capacity > ENTRIES_MIN && len < capacity / FILLED_MIN
}

/// Shrinks a map that has far too much room. `false` when it has not.
pub(crate) fn shrink<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) -> bool {
    let sparse = is_sparse((map.len(), map.capacity()));
    if sparse {
        map.shrink_to(map.len() * 2);
    }
    sparse
}

/// Sees to it that memory is given back, where there is some.
pub(crate) fn look(turn: &mut Turn<'_>, rooms: &Rooms) {
    if !turn.net.tidying && is_due(turn, rooms) {
        arm(turn, EVERY);
    }
}

/// One piece.
pub(crate) fn on_timer(turn: &mut Turn<'_>, rooms: &mut Rooms) {
    turn.net.tidying = false;
    let given = turn.state.registrations.give_back()
        || rooms.registrar.give_back()
        || rooms.calls.give_back()
        || turn.net.table.give_back()
        || turn.net.timers.give_back();
    if is_due(turn, rooms) {
        arm(turn, if given { EVERY } else { AGAIN });
    }
}

fn is_due(turn: &Turn<'_>, rooms: &Rooms) -> bool {
    turn.state.registrations.is_sparse()
        || rooms.registrar.is_sparse()
        || rooms.calls.is_sparse()
        || turn.net.table.is_sparse()
        || turn.net.timers.is_sparse()
}

fn arm(turn: &mut Turn<'_>, after: Duration) {
    turn.net.tidying = true;
    let at = turn.now.mono.plus(after);
    turn.start_timer(at, Timer::Tidy);
}
