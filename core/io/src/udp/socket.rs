//! Opening a UDP socket, and the errors the network reports back for it.

use super::to_std;
use crate::error::BindError;
use nix::libc;
use nix::sys::socket::sockopt::{
    Ipv4PacketInfo, Ipv4RecvErr, Ipv6RecvErr, Ipv6RecvPacketInfo, RcvBufForce, SndBufForce,
};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use signalbox_base::Transport;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Asked of the kernel for each direction: at 2,000 messages/s of 700 bytes, 4 MiB (which the kernel counts with its own
/// overhead) bridge about a second without reading.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Errors read in one [`UdpSocket::take_errors`].
const ERRORS_MAX: usize = 64;

/// A bound socket; shared by reference between the threads that send on it.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    local: SocketAddr,
}

/// The network said that a datagram did not reach its destination (ICMP). Anybody can forge it who guesses the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// Where the datagram had been sent.
    pub remote: SocketAddr,
    /// Whether the host answered that nobody listens there; else there was no way to the host.
    pub refused: bool,
}

impl UdpSocket {
    /// Binds `address`; port 0 takes a free one. IPv6 sockets carry IPv6 only. Large datagrams are fragmented rather
    /// than lost: no don't-fragment bit is set.
    ///
    /// # Errors
    /// [`BindError`] says what is in the way and what to do.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let open = || -> std::io::Result<Self> {
            let v4 = address.is_ipv4();
            let socket =
                Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
            enlarge(&socket);
            if !v4 {
                socket.set_only_v6(true)?;
            }
            if address.ip().is_unspecified() {
                if v4 {
                    setsockopt(&socket, Ipv4PacketInfo, &true)
                } else {
                    setsockopt(&socket, Ipv6RecvPacketInfo, &true)
                }?;
            }
            if v4 {
                set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
                setsockopt(&socket, Ipv4RecvErr, &true)?;
            } else {
                setsockopt(&socket, Ipv6RecvErr, &true)?;
            }
            socket.bind(&address.into())?;
            let local = socket.local_addr()?.as_socket().unwrap_or(address);
            Ok(Self { socket, local })
        };
        open().map_err(|cause| BindError::new(Transport::Udp, address, cause))
    }

    /// The bound address; with the real port where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether it is bound to every address of the machine, so that each datagram has its own local one.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.local.ip().is_unspecified()
    }

    /// Reads what the network reported back, at most 64 reports; the rest come at the next call.
    pub fn take_errors(&self, mut each: impl FnMut(Unreachable)) {
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, libc::in6_pktinfo);
        for _ in 0..ERRORS_MAX {
            // The report repeats the start of the datagram; only its address is of interest.
            let mut ignored = [0u8; 1];
            let mut slices = [IoSliceMut::new(&mut ignored)];
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let read = recvmsg::<SockaddrStorage>(self.raw(), &mut slices, Some(&mut control), flags);
            let Ok(report) = read else { break };
            let Some(remote) = report.address.as_ref().and_then(to_std) else { continue };
            let Ok(messages) = report.cmsgs() else { continue };
            let error = messages.into_iter().find_map(|message| match message {
                ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                    Some(error)
                }
                _ => None,
            });
            match error.map(|e| e.ee_errno.cast_signed()) {
                Some(libc::ECONNREFUSED) => each(Unreachable { remote, refused: true }),
                Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES) => {
                    each(Unreachable { remote, refused: false });
                }
                // A changed path MTU and the like: the datagram may have arrived.
                _ => {}
            }
        }
    }

    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Beyond the system's limit where the process may, up to it where not; a small buffer is no reason to refuse.
fn enlarge(socket: &Socket) {
    if setsockopt(socket, RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    }
    if setsockopt(socket, SndBufForce, &BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    }
}
