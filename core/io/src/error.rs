//! Errors that name what failed, where, and what to do about it.

use nix::errno::Errno;
use signalbox_base::Transport;
use std::fmt;
use std::net::SocketAddr;

/// A socket to listen on: `tcp:192.0.2.1:5060`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its transport.
    pub transport: Transport,
    /// Its address.
    pub address: SocketAddr,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.address)
    }
}

impl Place {
    /// The option of `ss` that lists sockets of this kind.
    fn listing(&self) -> &'static str {
        if self.transport.reliable() { "-tlpn" } else { "-ulpn" }
    }
}

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error(
        "{0} is already in use; stop the program that has it (`ss {listing} sport = :{port}` names it) or choose another port",
        listing = .0.listing(), port = .0.address.port()
    )]
    Busy(Place),
    /// Ports below 1024 need a right.
    #[error(
        "no right to bind {0}; use a port of 1024 or above, or grant CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities)"
    )]
    Forbidden(Place),
    /// No interface has the address.
    #[error(
        "{0} is no address of this machine; list them with `ip address`, or bind 0.0.0.0 and set `advertise`"
    )]
    NotOurs(Place),
    /// Address family switched off in the kernel.
    #[error("{0}: this machine has no support for the address family; remove the listener or enable it")]
    NoFamily(Place),
    /// Out of file descriptors.
    #[error("{0}: too many open files; raise the limit (systemd: LimitNOFILE)")]
    TooManyFiles(Place),
    /// Anything else.
    #[error("{place} could not be opened: {cause}")]
    Other {
        /// What should have been bound.
        place: Place,
        /// What the operating system said.
        cause: std::io::Error,
    },
}

impl BindError {
    pub(crate) fn new(transport: Transport, address: SocketAddr, cause: std::io::Error) -> Self {
        let place = Place { transport, address };
        match cause.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => Self::Busy(place),
            Some(Errno::EACCES | Errno::EPERM) => Self::Forbidden(place),
            Some(Errno::EADDRNOTAVAIL) => Self::NotOurs(place),
            Some(Errno::EAFNOSUPPORT) => Self::NoFamily(place),
            Some(Errno::EMFILE | Errno::ENFILE) => Self::TooManyFiles(place),
            _ => Self::Other { place, cause },
        }
    }
}

/// A failure of the operating system that no peer caused; the caller cannot go on with what failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} failed: {cause}")]
pub struct Fault {
    /// The call that failed.
    pub what: &'static str,
    /// What the operating system said.
    pub cause: std::io::Error,
}

impl Fault {
    pub(crate) fn new(what: &'static str, errno: Errno) -> Self {
        Self { what, cause: errno.into() }
    }
}
