//! Each bus against its real broker.
