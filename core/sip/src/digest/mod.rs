//! digest (being written).
