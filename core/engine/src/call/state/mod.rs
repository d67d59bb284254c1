//! The states of a call: a struct each, which consumes itself and gives the next.

mod answered;
mod challenged;
mod ending;

pub(crate) use answered::Answered;
pub(crate) use challenged::Challenged;
pub(crate) use ending::Ending;
