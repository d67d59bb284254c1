//! Integration tests of the message layer, through its public API alone. The messages of RFC 4475 and RFC 5118 are in
//! tests/torture, where the engine meets them too.

mod forward;
mod mutation;
