//! The stream thread: one epoll, a round at a time.

use super::config::{StreamLimits, StreamListener};
use super::conn::{Conn, Ended};
use super::gate::Gate;
use super::mail::{Arrivals, Orders, StreamEnd};
use super::session::Piece;
use super::{SendFailure, Streams, place, socket};
use crate::clock::Clock;
use crate::error::{BindError, Fault};
use crate::tls;
use crate::wake::Waker;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use signalbox_base::{ConnId, Flow, Mono, Text, Transport, canonical};
use signalbox_sip::{Limits, Message};
use socket2::Socket;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Connections told of in one wait; the others are told of in the next.
const EVENTS_MAX: usize = 256;
/// Connections accepted from one listener before the others have their turn.
const ACCEPTS_MAX: usize = 128;
/// One read takes this much at most.
const READ_BYTES: usize = 64 * 1024;
/// Between looks for connections that are overdue.
const SWEEP: Duration = Duration::from_secs(1);
/// While the engine is behind, it is waited for this long before orders are looked at again.
const CROWDED_WAIT: Duration = Duration::from_millis(20);
/// What waits at the end is written within this.
const LAST_WRITES: Duration = Duration::from_secs(1);

const WAKER: u64 = u64::MAX;
/// Marks of listeners count down from here; connections' numbers never come near.
const LISTENERS: u64 = u64::MAX - 1;
/// The first number of a process: those of processes before it are in durable state, and mean nobody.
const IDS_A_MILLISECOND: u64 = 1 << 22;

type Conns = HashMap<ConnId, Box<Conn>, foldhash::fast::RandomState>;
type Targets = HashMap<(u16, Transport, SocketAddr), ConnId, foldhash::fast::RandomState>;

/// Accepts, dials, reads and writes; runs on a thread of its own.
#[derive(Debug)]
pub struct StreamDriver {
    streams: Streams,
    clock: Clock,
    limits: StreamLimits,
    epoll: Epoll,
    waker: Waker,
    listeners: Vec<Listening>,
    gate: Gate,
    conns: Conns,
    /// Connections of our own making, by what they were made for.
    targets: Targets,
    next: u64,
    /// Of this round, for the engine.
    batch: Arrivals,
    /// To be written to in this round.
    touched: Vec<ConnId>,
    buffer: Box<[u8]>,
    orders: Orders,
    /// Listeners rest until the next sweep: the process is out of descriptors.
    resting: bool,
}

#[derive(Debug)]
struct Listening {
    socket: Socket,
    bound: SocketAddr,
    about: StreamListener,
}

impl StreamDriver {
    /// Opens the listeners. `taker` is woken when something has arrived.
    ///
    /// # Errors
    /// [`BindError`] says what is in the way; [`Fault`] when the process is out of descriptors.
    pub fn bind(
        listeners: &[StreamListener],
        limits: StreamLimits,
        clock: Clock,
        taker: Waker,
    ) -> Result<(Self, Streams), OpenError> {
        let fault = |errno| Fault::new("epoll", errno);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fault)?;
        let waker = Waker::new()?;
        epoll.add(&waker, EpollEvent::new(EpollFlags::EPOLLIN, WAKER)).map_err(fault)?;
        let mut bound = Vec::new();
        for about in listeners {
            let socket = socket::listen(about.transport, about.address)?;
            let local = socket.local_addr().ok().and_then(|a| a.as_socket()).unwrap_or(about.address);
            bound.push(Listening { socket, bound: local, about: about.clone() });
        }
        let streams = Streams::new(taker, waker.clone());
        let first_ms = u64::try_from(clock.now().wall.0 / 1000).unwrap_or(0);
        let driver = Self {
            streams: streams.clone(),
            clock,
            limits,
            epoll,
            waker,
            listeners: bound,
            gate: Gate::default(),
            conns: Conns::default(),
            targets: Targets::default(),
            next: first_ms.saturating_mul(IDS_A_MILLISECOND),
            batch: Arrivals::default(),
            touched: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            orders: Orders::default(),
            resting: true,
        };
        Ok((driver, streams))
    }

    /// Bound addresses, in the order of the listeners.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listening| listening.bound).collect()
    }

    /// Works until [`Streams::stop`].
    ///
    /// # Errors
    /// Only when the process's own state is broken.
    pub fn run(mut self) -> Result<(), Fault> {
        self.listen_again();
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let mut swept = self.clock.now().mono;
        loop {
            self.waker.arm();
            let timeout = if self.streams.has_orders() { Duration::ZERO } else { SWEEP };
            let count = match self.epoll.wait(&mut events, timeout_of(timeout)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(Fault::new("epoll_wait", errno)),
            };
            self.waker.disarm();
            // While the engine is behind, peers wait: their bytes stay in the kernel, which tells again.
            let crowded = self.streams.is_crowded(CROWDED_WAIT);
            for event in &events[..count] {
                self.on_event(event, crowded);
            }
            if self.obey() {
                break;
            }
            let now = self.clock.now().mono;
            if now.since(swept) >= SWEEP {
                swept = now;
                self.sweep(now);
            }
            self.streams.deliver(&mut self.batch);
        }
        self.finish(&mut events);
        Ok(())
    }

    fn on_event(&mut self, event: &EpollEvent, crowded: bool) {
        let flags = event.events();
        match event.data() {
            WAKER => self.waker.drain(),
            mark if LISTENERS - mark < self.listeners.len() as u64 => {
                self.accept((LISTENERS - mark) as usize);
            }
            number => {
                let id = ConnId(number);
                let ended = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
                if flags.intersects(EpollFlags::EPOLLOUT | ended) {
                    self.writable(id);
                }
                if !crowded && flags.intersects(EpollFlags::EPOLLIN | ended) {
                    self.read(id);
                }
            }
        }
    }

    fn accept(&mut self, at: usize) {
        for _ in 0..ACCEPTS_MAX {
            let listening = &self.listeners[at];
            match listening.socket.accept() {
                Ok((socket, from)) => {
                    let Some(remote) = from.as_socket().map(canonical) else { continue };
                    self.accepted(at, socket, remote);
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return,
                    Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                        tracing::warn!(%error, "no connection can be accepted for a second");
                        return self.rest();
                    }
                    // What was wrong with this one connection is over with it.
                    _ => {}
                },
            }
        }
    }

    fn accepted(&mut self, at: usize, socket: Socket, remote: SocketAddr) {
        let counts = &self.streams.0.counts;
        if !self.gate.enter(remote.ip(), &self.limits) {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        let listening = &self.listeners[at];
        let local = socket.local_addr().ok().and_then(|a| a.as_socket()).unwrap_or(listening.bound);
        let id = ConnId(self.next);
        let about = &listening.about;
        let flow = Flow {
            listener: about.id,
            transport: about.transport,
            local: canonical(local),
            remote,
            conn: Some(id),
        };
        let session = match socket.set_nonblocking(true) {
            Ok(()) => self.streams.serving(about),
            Err(_) => None,
        };
        let Some(session) = session else { return self.gate.leave(remote.ip()) };
        socket::tune(&socket);
        let conn = Conn::accepted(socket, flow, session, self.clock.now().mono);
        self.insert(conn);
    }

    /// Watches a connection under the next number; `None` when the kernel does not take it.
    fn insert(&mut self, conn: Conn) -> Option<ConnId> {
        let id = ConnId(self.next);
        self.next += 1;
        if self.epoll.add(conn.socket().as_fd(), interest(id, conn.wants_write)).is_err() {
            if conn.flow.conn.is_some() {
                self.gate.leave(conn.flow.remote.ip());
            }
            return None;
        }
        self.streams.0.counts.open[place(conn.flow.transport)].fetch_add(1, Ordering::Relaxed);
        self.conns.insert(id, Box::new(conn));
        Some(id)
    }

    fn read(&mut self, id: ConnId) {
        let now = self.clock.now().mono;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let batch = &mut self.batch;
        let outcome = conn.read(now, &mut self.buffer, |flow, piece| match piece {
            Piece::Message(bytes) => batch.message(flow, bytes),
            Piece::Ping => batch.message(flow, b"\r\n\r\n"),
            Piece::Pong => batch.message(flow, b"\r\n"),
            Piece::Unframed(bytes, fault) => batch.unframed(flow, bytes, fault),
            Piece::Shown(certificate) => {
                batch.shown(flow, tls::names_of(certificate).into_iter().map(Text::from).collect());
            }
            Piece::TlsFailed(reason) => batch.tls_failed(flow, Text::new(reason)),
        });
        match outcome {
            Ok(()) if conn.has_output() => self.write(id, now),
            Ok(()) => {}
            Err(end) => self.end(id, end),
        }
    }

    fn writable(&mut self, id: ConnId) {
        let now = self.clock.now().mono;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match conn.dialled_through(now) {
            Ok(()) => self.write(id, now),
            Err(end) => self.end(id, end),
        }
    }

    fn write(&mut self, id: ConnId, now: Mono) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match conn.write(now) {
            Ok(all) => {
                let wants = !all;
                if conn.wants_write != wants {
                    conn.wants_write = wants;
                    let _ = self.epoll.modify(conn.socket().as_fd(), &mut interest(id, wants));
                }
            }
            Err(end) => self.end(id, end),
        }
    }

    /// Does what the edge's threads asked for; whether it is the end.
    fn obey(&mut self) -> bool {
        let mut orders = std::mem::take(&mut self.orders);
        self.streams.take_orders(&mut orders);
        let now = self.clock.now().mono;
        for (flow, stands_for) in orders.reuses.drain(..) {
            self.reuse(&flow, stands_for);
        }
        for send in &orders.sends {
            self.send(send.flow, &orders.arena[send.bytes.clone()], send.ticket, now);
        }
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.touched = false;
            }
            self.write(id, now);
        }
        self.touched = touched;
        for flow in orders.closes.drain(..) {
            if let Some(id) = self.find(&flow) {
                self.end(id, StreamEnd::Closed);
            }
        }
        let stop = orders.stop;
        orders.clear();
        self.orders = orders;
        stop
    }

    fn find(&self, flow: &Flow) -> Option<ConnId> {
        match flow.conn {
            Some(id) => self.conns.contains_key(&id).then_some(id),
            None => self.targets.get(&target(flow)).copied(),
        }
    }

    /// A connection that a peer has made is found as if the edge had made it, where there is none of the edge's own.
    fn reuse(&mut self, flow: &Flow, stands_for: Flow) {
        let (Some(id), now) = (self.find(flow), self.clock.now().wall) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.stands_for.is_some() || !self.streams.is_peer(&conn.session, &stands_for, now) {
            return;
        }
        if let Entry::Vacant(vacant) = self.targets.entry(target(&stands_for)) {
            vacant.insert(id);
            conn.stands_for = Some(Box::new(stands_for));
        }
    }

    fn send(&mut self, flow: Flow, bytes: &[u8], ticket: Option<u64>, now: Mono) {
        let found = self.find(&flow);
        let id = match (found, flow.conn) {
            (Some(id), _) => id,
            // Nobody can be dialled who came to us: a phone's address is its NAT's. Who answers where it says it does gets
            // its responses there (RFC 3261 §18.2.2).
            (None, Some(_)) => {
                match sent_by(bytes, flow.transport).filter(|to| to.ip() == flow.remote.ip()) {
                    Some(remote) => {
                        return self.send(Flow { remote, conn: None, ..flow }, bytes, ticket, now);
                    }
                    None => return self.batch.unsent(flow, ticket, SendFailure::Gone),
                }
            }
            (None, None) => match self.dial(flow, now) {
                Some(id) => id,
                None => return self.batch.unsent(flow, ticket, SendFailure::Unreachable),
            },
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match conn.send(bytes, ticket, &self.limits) {
            Ok(()) if !conn.touched => {
                conn.touched = true;
                self.touched.push(id);
            }
            Ok(()) => {}
            Err(end) => {
                self.batch.unsent(flow, ticket, SendFailure::Gone);
                self.end(id, end);
            }
        }
    }

    fn dial(&mut self, flow: Flow, now: Mono) -> Option<ConnId> {
        let from = self.listeners.iter().find(|listening| listening.about.id == flow.listener)?.bound;
        let session = self.streams.calling(&flow)?;
        let socket = match socket::dial(from, flow.remote) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(%flow, %error, "no connection");
                return None;
            }
        };
        let id = self.insert(Conn::dialled(socket, flow, session, now))?;
        self.targets.insert(target(&flow), id);
        Some(id)
    }

    /// A connection is over: what waited is told as lost, and then that it is gone.
    fn end(&mut self, id: ConnId, end: Ended) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        let flow = conn.flow;
        let why = conn.failure();
        for ticket in conn.lost() {
            self.batch.unsent(flow, Some(ticket), why);
        }
        conn.part(self.clock.now().mono);
        let _ = self.epoll.delete(conn.socket().as_fd());
        let counts = &self.streams.0.counts;
        counts.open[place(flow.transport)].fetch_sub(1, Ordering::Relaxed);
        let kind = StreamEnd::ALL.iter().position(|known| *known == end).unwrap_or(0);
        counts.closed[kind].fetch_add(1, Ordering::Relaxed);
        match flow.conn {
            Some(_) => self.gate.leave(flow.remote.ip()),
            None => drop(self.targets.remove(&target(&flow))),
        }
        if let Some(stands_for) = conn.stands_for.take() {
            self.targets.remove(&target(&stands_for));
            self.batch.closed(*stands_for, end);
        }
        tracing::debug!(%flow, end = end.as_str(), "connection ended");
        self.batch.closed(flow, end);
    }

    fn sweep(&mut self, now: Mono) {
        let limits = &self.limits;
        let overdue: Vec<(ConnId, Ended)> =
            self.conns.iter().filter_map(|(id, conn)| Some((*id, conn.overdue(now, limits)?))).collect();
        for (id, end) in overdue {
            self.end(id, end);
        }
        self.listen_again();
    }

    fn listen_again(&mut self) {
        if std::mem::take(&mut self.resting) {
            for (at, listening) in self.listeners.iter().enumerate() {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENERS - at as u64);
                let _ = self.epoll.add(listening.socket.as_fd(), event);
            }
        }
    }

    fn rest(&mut self) {
        if !std::mem::replace(&mut self.resting, true) {
            for listening in &self.listeners {
                let _ = self.epoll.delete(listening.socket.as_fd());
            }
        }
    }

    /// The last writes; nothing is read or accepted any more.
    fn finish(&mut self, events: &mut [EpollEvent]) {
        self.listeners.clear();
        let until = self.clock.now().mono.plus(LAST_WRITES);
        loop {
            let now = self.clock.now().mono;
            let waiting: Vec<ConnId> =
                self.conns.iter().filter(|(_, conn)| conn.wants_write).map(|(id, _)| *id).collect();
            if waiting.is_empty() || now >= until {
                return;
            }
            for id in waiting {
                self.writable(id);
            }
            let _ = self.epoll.wait(events, timeout_of(Duration::from_millis(10)));
        }
    }
}

/// Why the stream thread cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A listener could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operating system refused something else.
    #[error(transparent)]
    System(#[from] Fault),
}

/// What a connection is found by that the edge makes, or would make.
fn target(flow: &Flow) -> (u16, Transport, SocketAddr) {
    (flow.listener.0, flow.transport, flow.remote)
}

/// Where the top Via of a response says that its receiver listens, when that is an address.
fn sent_by(bytes: &[u8], transport: Transport) -> Option<SocketAddr> {
    let response = Message::parse(bytes, &Limits::DATAGRAM).ok().filter(|message| !message.is_request())?;
    let via = response.top_via().ok()?;
    let host = std::str::from_utf8(via.host).ok()?;
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(canonical(SocketAddr::new(ip, via.port.unwrap_or(transport.default_port()))))
}

fn interest(id: ConnId, write: bool) -> EpollEvent {
    let flags = if write { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
    EpollEvent::new(flags, id.0)
}

fn timeout_of(timeout: Duration) -> EpollTimeout {
    EpollTimeout::try_from(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))
        .unwrap_or(EpollTimeout::MAX)
}
