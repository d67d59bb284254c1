//! Errors that name what failed, where, and what to do about it.

use nix::errno::Errno;
use std::net::SocketAddr;

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error(
        "udp:{0} is already in use; stop the program that has it (`ss -ulpn sport = :{port}` names it) or choose another port",
        port = .0.port()
    )]
    Busy(SocketAddr),
    /// Ports below 1024 need a right.
    #[error(
        "no right to bind udp:{0}; use a port of 1024 or above, or grant CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities)"
    )]
    Forbidden(SocketAddr),
    /// No interface has the address.
    #[error(
        "udp:{0} is no address of this machine; list them with `ip address`, or bind 0.0.0.0 and set `advertise`"
    )]
    NotOurs(SocketAddr),
    /// Address family switched off in the kernel.
    #[error("udp:{0}: this machine has no support for the address family; remove the listener or enable it")]
    NoFamily(SocketAddr),
    /// Out of file descriptors.
    #[error("udp:{0}: too many open files; raise the limit (systemd: LimitNOFILE)")]
    TooManyFiles(SocketAddr),
    /// Anything else.
    #[error("udp:{address} could not be opened: {cause}")]
    Other {
        /// What should have been bound.
        address: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
}

impl BindError {
    pub(crate) fn new(address: SocketAddr, cause: std::io::Error) -> Self {
        match cause.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => Self::Busy(address),
            Some(Errno::EACCES | Errno::EPERM) => Self::Forbidden(address),
            Some(Errno::EADDRNOTAVAIL) => Self::NotOurs(address),
            Some(Errno::EAFNOSUPPORT) => Self::NoFamily(address),
            Some(Errno::EMFILE | Errno::ENFILE) => Self::TooManyFiles(address),
            _ => Self::Other { address, cause },
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
