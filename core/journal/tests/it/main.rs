//! The journal under crashes, damage, retention and readers.
