//! Sending: one `sendmmsg` for everything that leaves by the same socket.

use super::socket::UdpSocket;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

/// Datagrams sent by one call.
pub const BATCH: usize = 64;

/// How long a full socket buffer is waited for before its datagrams count as not sent, milliseconds.
const BUSY_WAIT_MS: u8 = 5;

/// Attempts at one datagram while the socket reports errors of earlier ones.
const PENDING_ERRORS_MAX: u8 = 4;

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Index of the socket it leaves by.
    pub socket: usize,
    /// Our address it leaves from, where the socket is bound to all of them.
    pub source: IpAddr,
    /// Where it goes.
    pub remote: SocketAddr,
    /// The payload.
    pub bytes: &'a [u8],
    /// The caller's mark, told with a failure.
    pub ticket: Option<u64>,
}

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// The destination refuses datagrams.
    Refused,
    /// No route, or forbidden by a filter of this machine.
    Unreachable,
    /// Larger than UDP carries.
    TooLarge,
    /// The socket's buffer stayed full.
    Busy,
    /// The connection that it should have left by is over.
    Gone,
    /// Anything else.
    Other,
}

/// Sends batches on any of the sockets. Lives in one thread; several threads may each have one.
#[derive(Debug)]
pub struct Sender {
    plain: MultiHeaders<SockaddrStorage>,
    from_v4: MultiHeaders<SockaddrStorage>,
    from_v6: MultiHeaders<SockaddrStorage>,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            plain: MultiHeaders::preallocate(BATCH, None),
            from_v4: MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(libc::in_pktinfo))),
            from_v6: MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(libc::in6_pktinfo))),
        }
    }
}

/// What the datagrams of one system call have in common.
struct Lane<'a> {
    socket: &'a UdpSocket,
    source: Option<IpAddr>,
}

impl Sender {
    /// Sends all of `messages`, in their order for each socket, and tells of each that could not be sent. A message for
    /// a socket that does not exist counts as not sent.
    pub fn send<'a>(
        &mut self,
        sockets: &[UdpSocket],
        messages: impl Iterator<Item = Outgoing<'a>> + Clone,
        mut failed: impl FnMut(Outgoing<'a>, SendFailure),
    ) {
        for (index, socket) in sockets.iter().enumerate() {
            let mut batch = Batch::default();
            let mut source = None;
            for message in messages.clone().filter(|message| message.socket == index) {
                let wanted = socket.is_wildcard().then_some(message.source).filter(|ip| !ip.is_unspecified());
                if batch.len == BATCH || (wanted != source && batch.len > 0) {
                    self.flush(&Lane { socket, source }, &mut batch, &mut failed);
                }
                source = wanted;
                batch.push(message);
            }
            self.flush(&Lane { socket, source }, &mut batch, &mut failed);
        }
        for message in messages.filter(|message| message.socket >= sockets.len()) {
            failed(message, SendFailure::Other);
        }
    }

    /// Sends the batch and empties it.
    fn flush<'a>(
        &mut self,
        lane: &Lane<'_>,
        batch: &mut Batch<'a>,
        failed: &mut impl FnMut(Outgoing<'a>, SendFailure),
    ) {
        let mut at = 0;
        let mut attempts = 0;
        while at < batch.len {
            match self.send_once(lane, &batch.messages[at..batch.len]) {
                Ok(sent) => {
                    at += sent.max(1);
                    attempts = 0;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    attempts += 1;
                    // An error may be the report of an earlier datagram, cleared by having been read: the one at hand
                    // has had its turn only when the error comes again.
                    let retry = attempts < PENDING_ERRORS_MAX && is_report(errno);
                    let waited = errno == Errno::EAGAIN && attempts == 1 && writable(lane.socket);
                    if !retry && !waited {
                        if let Some(message) = batch.messages[at] {
                            failed(message, failure(errno));
                        }
                        at += 1;
                        attempts = 0;
                    }
                }
            }
        }
        batch.len = 0;
    }

    /// One system call; how many of `messages` were taken.
    fn send_once(&mut self, lane: &Lane<'_>, messages: &[Option<Outgoing<'_>>]) -> Result<usize, Errno> {
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        let mut addresses: [Option<SockaddrStorage>; BATCH] = [None; BATCH];
        for ((slice, address), message) in
            slices.iter_mut().zip(&mut addresses).zip(messages.iter().flatten())
        {
            *slice = [IoSlice::new(message.bytes)];
            *address = Some(SockaddrStorage::from(message.remote));
        }
        let (slices, addresses) = (&slices[..messages.len()], &addresses[..messages.len()]);
        let (fd, flags) = (lane.socket.raw(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        let results = match lane.source {
            None => sendmmsg(fd, &mut self.plain, slices.iter(), addresses, [], flags)?,
            Some(IpAddr::V4(ip)) => {
                let from = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&from)];
                return Ok(sendmmsg(fd, &mut self.from_v4, slices.iter(), addresses, control, flags)?.count());
            }
            Some(IpAddr::V6(ip)) => {
                let from =
                    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                let control = [ControlMessage::Ipv6PacketInfo(&from)];
                return Ok(sendmmsg(fd, &mut self.from_v6, slices.iter(), addresses, control, flags)?.count());
            }
        };
        Ok(results.count())
    }
}

struct Batch<'a> {
    messages: [Option<Outgoing<'a>>; BATCH],
    len: usize,
}

impl Default for Batch<'_> {
    fn default() -> Self {
        Self { messages: [None; BATCH], len: 0 }
    }
}

impl<'a> Batch<'a> {
    fn push(&mut self, message: Outgoing<'a>) {
        self.messages[self.len] = Some(message);
        self.len += 1;
    }
}

/// Whether the error may be the network's report about an earlier datagram.
fn is_report(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::EACCES
    )
}

fn failure(errno: Errno) -> SendFailure {
    match errno {
        Errno::ECONNREFUSED => SendFailure::Refused,
        Errno::EHOSTUNREACH
        | Errno::ENETUNREACH
        | Errno::ENETDOWN
        | Errno::EHOSTDOWN
        | Errno::EPERM
        | Errno::EACCES => SendFailure::Unreachable,
        Errno::EMSGSIZE => SendFailure::TooLarge,
        Errno::EAGAIN | Errno::ENOBUFS => SendFailure::Busy,
        _ => SendFailure::Other,
    }
}

/// Waits a moment for room in the socket's buffer.
fn writable(socket: &UdpSocket) -> bool {
    let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut wanted, PollTimeout::from(BUSY_WAIT_MS)).is_ok_and(|ready| ready > 0)
}
