//! The gate: what is judged on raw bytes, before parsing costs anything.

pub mod blocks;
pub mod fingerprints;
pub mod noise;
pub mod sources;
