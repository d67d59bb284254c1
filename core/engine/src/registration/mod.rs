//! The proxy-registrar: the backend decides, the edge remembers where the phone is. Of domains that it knows the users of
//! itself, the edge is the registrar ([`own`]).

mod accept;
mod admit;
mod auth;
mod binding;
mod expiry;
mod forward;
mod outbound;
mod own;
mod register;
mod removed;
mod service_route;
mod throttle;
mod token;
mod withdraw;

pub(crate) use auth::{Access, Nonces};
pub use outbound::Registered;
pub(crate) use outbound::arrived;
pub(crate) use own::source;
pub(crate) use register::Pending;
pub use register::Registrar;
pub(crate) use service_route::service_routes;
pub use token::{TokenKey, key_of};
