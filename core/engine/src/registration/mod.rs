//! The proxy-registrar: the backend decides, the edge remembers where the phone is.

mod accept;
mod binding;
mod expiry;
mod forward;
mod register;
mod removed;
mod token;

pub(crate) use register::Pending;
pub use register::Registrar;
pub use token::{TokenKey, key_of};
