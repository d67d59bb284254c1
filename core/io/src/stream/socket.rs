//! Opening stream sockets: to listen, and towards a peer.

use crate::error::BindError;
use nix::errno::Errno;
use signalbox_base::Transport;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// A silent connection's peer is asked by TCP whether it is there after this, and then this often.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;
/// What was sent and is not acknowledged after this, or not read, ends the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// A socket that listens.
pub(super) fn listen(transport: Transport, address: SocketAddr) -> Result<Socket, BindError> {
    let open = || -> io::Result<Socket> {
        let socket = new(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections of a process before this one may still be in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        // Only now: another process's listener is still refused, our own connections may leave from this port.
        socket.set_reuse_port(true)?;
        Ok(socket)
    };
    open().map_err(|cause| BindError::new(transport, address, cause))
}

/// A socket on its way to a peer, from the listener's own address and port: a PBX that has a request for what it knows us
/// by finds this connection, and is known by its own port then. Where the port is taken towards this peer, from another.
pub(super) fn dial(listener: SocketAddr, to: SocketAddr) -> io::Result<Socket> {
    dial_from(listener, to).or_else(|_| dial_from(SocketAddr::new(listener.ip(), 0), to))
}

fn dial_from(from: SocketAddr, to: SocketAddr) -> io::Result<Socket> {
    let socket = new(to)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if from.is_ipv4() == to.is_ipv4() {
        socket.bind(&from.into())?;
    }
    tune(&socket);
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket),
    }
}

/// What every connection gets; one that does not take it is served all the same.
pub(super) fn tune(socket: &Socket) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
}

fn new(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))
}
