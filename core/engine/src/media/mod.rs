//! Media as far as the edge touches it: addresses in session descriptions. RTP itself goes past the edge.

pub mod fixup;
