//! Receiving: one `recvmmsg` into buffers that are used again.

use super::socket::UdpSocket;
use super::to_std;
use crate::error::Fault;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg};
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Datagrams received by one call.
pub const BATCH: usize = 64;

/// The largest UDP payload, so that nothing is ever cut off.
const DATAGRAM_MAX: usize = 65_535;

/// Attempts at a receive that fails with the report of an earlier send.
const PENDING_ERRORS_MAX: usize = 16;

/// One socket's receive buffers. Memory is touched as far as datagrams reach: 256 KiB for usual ones, 4 MiB at most.
/// Lives in the thread that receives.
#[derive(Debug)]
pub struct Receiver {
    headers: MultiHeaders<SockaddrStorage>,
    buffer: Box<[u8]>,
    meta: [Meta; BATCH],
    count: usize,
    bound: SocketAddr,
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Our address it was sent to, canonical.
    pub local: SocketAddr,
    /// The sender's address, canonical.
    pub remote: SocketAddr,
    /// The payload.
    pub bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    /// `None` for a sender of another address family, which does not occur.
    remote: Option<SocketAddr>,
    local: Option<IpAddr>,
    len: usize,
}

impl Receiver {
    /// Buffers for `socket`.
    #[must_use]
    pub fn new(socket: &UdpSocket) -> Self {
        let control = socket.is_wildcard().then(|| nix::cmsg_space!(libc::in6_pktinfo));
        Self {
            headers: MultiHeaders::preallocate(BATCH, control),
            buffer: vec![0; BATCH * DATAGRAM_MAX].into_boxed_slice(),
            meta: [Meta { remote: None, local: None, len: 0 }; BATCH],
            count: 0,
            bound: signalbox_base::canonical(socket.local_addr()),
        }
    }

    /// Takes what waits, at most [`BATCH`] datagrams, and says how many. Fewer than [`BATCH`] mean that the socket is
    /// empty now. What it took is in [`Receiver::datagrams`] until the next call.
    ///
    /// # Errors
    /// Only when the socket itself is broken; reports about earlier sends are left to [`UdpSocket::take_errors`].
    pub fn receive(&mut self, socket: &UdpSocket) -> Result<usize, Fault> {
        self.count = 0;
        for _ in 0..PENDING_ERRORS_MAX {
            match self.receive_once(socket) {
                Ok(count) => {
                    self.count = count;
                    return Ok(count);
                }
                Err(Errno::EAGAIN) => return Ok(0),
                Err(Errno::EINTR) => {}
                // The socket's pending error is an earlier send's; reading it has cleared it.
                Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EMSGSIZE) => {}
                Err(
                    Errno::EACCES | Errno::EPROTO | Errno::ENOPROTOOPT | Errno::ENETDOWN | Errno::EHOSTDOWN,
                ) => {}
                Err(errno) => return Err(Fault::new("recvmmsg", errno)),
            }
        }
        Ok(0)
    }

    /// What the last [`Receiver::receive`] took, in order of arrival.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.meta[..self.count].iter().zip(self.buffer.chunks_exact(DATAGRAM_MAX)).filter_map(
            |(meta, slot)| {
                let local = SocketAddr::new(meta.local.unwrap_or(self.bound.ip()), self.bound.port());
                Some(Datagram { local, remote: meta.remote?, bytes: &slot[..meta.len] })
            },
        )
    }

    fn receive_once(&mut self, socket: &UdpSocket) -> Result<usize, Errno> {
        let mut slots = self.buffer.chunks_exact_mut(DATAGRAM_MAX);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
        let received =
            recvmmsg(socket.raw(), &mut self.headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        let mut count = 0;
        for (message, meta) in received.zip(self.meta.iter_mut()) {
            *meta = Meta {
                remote: message.address.as_ref().and_then(to_std),
                local: local_address(&message),
                len: message.bytes,
            };
            count += 1;
        }
        Ok(count)
    }
}

/// The address the datagram was sent to, where the socket is bound to all of them.
fn local_address(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<IpAddr> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(signalbox_base::canonical_ip(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()))
        }
        _ => None,
    })
}
