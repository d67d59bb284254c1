//! Connections: accepted and made by one thread, which frames what they bring and writes what they are sent.
//!
//! ```text
//!  peers ──► epoll ──► session (framing) ──► arrivals, a batch a round ──► engine thread (woken once a batch)
//!    ▲                                                                         │
//!    └──── queue of each connection ◄──── orders, a batch at a time ◄──── engine and journal threads
//! ```
//!
//! One thread with epoll instead of a task for each connection: a silent connection is a socket and one small struct
//! without buffers, a round takes one wake-up whatever number of connections it serves, and the engine is fed in batches as
//! it is from UDP sockets. Whoever reads or writes slowly is bounded by [`StreamLimits`] and costs the others nothing.

mod config;
mod conn;
mod driver;
mod gate;
mod mail;
mod session;
mod socket;
mod websocket;

pub use config::{StreamLimits, StreamListener};
pub use driver::{OpenError, StreamDriver};
pub use mail::{Arrival, Arrivals, StreamEnd, StreamOutgoing};

use crate::tls::Tls;
use crate::udp::SendFailure;
use crate::wake::Waker;
use mail::Orders;
use session::{Framing, Session};
use signalbox_base::{Flow, Transport, Wall};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use websocket::Upgrade;

/// Bytes that may wait for the engine thread; beyond it nothing is read from connections.
const ARRIVALS_BYTES_MAX: usize = 8 << 20;

/// The stream thread as the edge's threads see it; cloned freely.
#[derive(Clone, Debug)]
pub struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    arrivals: Mutex<Arrivals>,
    arrived: AtomicBool,
    taken: Condvar,
    /// Whoever takes arrivals.
    taker: Waker,
    orders: Mutex<Orders>,
    driver: Waker,
    counts: Counts,
    /// What connections over TLS are made with from now on.
    tls: Mutex<Option<Arc<Tls>>>,
    /// Names of backends and edges by their addresses: what their certificates must be good for.
    names: Mutex<HashMap<SocketAddr, String>>,
}

/// What is counted, for metrics.
#[derive(Debug, Default)]
struct Counts {
    open: [AtomicU64; TRANSPORTS],
    accepted: AtomicU64,
    refused: AtomicU64,
    closed: [AtomicU64; StreamEnd::ALL.len()],
}

const TRANSPORTS: usize = 4;

/// Counts of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFigures {
    /// Open ones over TCP, TLS, WS and WSS.
    pub open: [u64; TRANSPORTS],
    /// Accepted since start.
    pub accepted: u64,
    /// Not accepted for a limit.
    pub refused: u64,
    /// Ended since start, in the order of [`StreamEnd::ALL`].
    pub closed: [u64; StreamEnd::ALL.len()],
}

impl StreamEnd {
    /// Every way.
    pub const ALL: [Self; 7] =
        [Self::Closed, Self::Idle, Self::Slow, Self::Unread, Self::Junk, Self::Untrusted, Self::Failed];

    /// Its name in metrics and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Unread => "unread",
            Self::Junk => "junk",
            Self::Untrusted => "untrusted",
            Self::Failed => "failed",
        }
    }
}

/// The place of a transport in [`StreamFigures::open`].
const fn place(transport: Transport) -> usize {
    match transport {
        Transport::Udp | Transport::Tcp => 0,
        Transport::Tls => 1,
        Transport::Ws => 2,
        Transport::Wss => 3,
    }
}

impl Streams {
    /// `taker` is woken when something has arrived.
    fn new(taker: Waker, driver: Waker) -> Self {
        Self(Arc::new(Shared {
            arrivals: Mutex::default(),
            arrived: AtomicBool::new(false),
            taken: Condvar::new(),
            taker,
            orders: Mutex::default(),
            driver,
            counts: Counts::default(),
            tls: Mutex::default(),
            names: Mutex::default(),
        }))
    }

    /// What connections over TLS are made with from now on; those that are there keep what they have.
    pub fn set_tls(&self, tls: Arc<Tls>) {
        *lock(&self.0.tls) = Some(tls);
    }

    /// What the certificate of the peer at this address must be good for; without it, for the address.
    pub fn set_name(&self, address: SocketAddr, name: &str) {
        lock(&self.0.names).insert(address, name.to_owned());
    }

    /// The session of a connection that a listener has accepted.
    fn serving(&self, listener: &StreamListener) -> Option<Session> {
        let (tls, named) = match listener.transport {
            Transport::Tls | Transport::Wss => {
                let tls = Arc::clone(lock(&self.0.tls).as_ref()?);
                (Some(tls.accept(listener.id)?), tls.names(listener.id))
            }
            Transport::Udp | Transport::Tcp | Transport::Ws => (None, false),
        };
        let framing = match listener.transport {
            Transport::Ws | Transport::Wss => {
                Framing::Upgrade(Box::new(Upgrade::new(Arc::clone(&listener.origins))))
            }
            Transport::Udp | Transport::Tcp | Transport::Tls => Framing::sip(),
        };
        let session = Session::new(tls, framing);
        Some(if named { session.showing() } else { session })
    }

    /// The session of a connection of our own; none over WebSocket, which only clients open.
    fn calling(&self, flow: &Flow) -> Option<Session> {
        let tls = match flow.transport {
            Transport::Tcp => None,
            Transport::Tls => {
                let name = self.name_of(flow.remote);
                Some(lock(&self.0.tls).as_ref()?.connect(flow.listener, &name)?)
            }
            Transport::Udp | Transport::Ws | Transport::Wss => return None,
        };
        Some(Session::new(tls, Framing::sip()))
    }

    /// Whether a session's peer is who would be dialled there.
    fn is_peer(&self, session: &Session, stands_for: &Flow, now: Wall) -> bool {
        let Some(shown) = session.certificates() else { return stands_for.transport == Transport::Tcp };
        let name = self.name_of(stands_for.remote);
        lock(&self.0.tls).as_ref().is_some_and(|tls| tls.is_good(shown, &name, now))
    }

    fn name_of(&self, address: SocketAddr) -> String {
        lock(&self.0.names).get(&address).cloned().unwrap_or_else(|| address.ip().to_string())
    }

    /// Sends messages, in their order for each connection, and says how many. What cannot be sent arrives as
    /// [`Arrival::Unsent`]. Nothing is locked where there is none.
    pub fn send<'a>(&self, messages: impl Iterator<Item = StreamOutgoing<'a>>) -> usize {
        let mut messages = messages.peekable();
        if messages.peek().is_none() {
            return 0;
        }
        let mut orders = lock(&self.0.orders);
        let before = orders.sends.len();
        messages.for_each(|message| orders.push(message));
        let count = orders.sends.len() - before;
        drop(orders);
        self.0.driver.wake();
        count
    }

    /// Closes a connection once what waits for it is written.
    pub fn close(&self, flow: Flow) {
        lock(&self.0.orders).closes.push(flow);
        self.0.driver.wake();
    }

    /// What is to be sent as `stands_for` goes over a connection that a peer has made, unless there is one already: over
    /// TLS only if its certificate is good for whoever would be dialled there (RFC 5923).
    pub fn reuse(&self, flow: Flow, stands_for: Flow) {
        lock(&self.0.orders).reuses.push((flow, stands_for));
        self.0.driver.wake();
    }

    /// Closes everything, once what waits is written or a second has passed, and ends the thread.
    pub fn stop(&self) {
        lock(&self.0.orders).stop = true;
        self.0.driver.wake();
    }

    /// Whether [`Streams::take`] would find something. One load.
    #[must_use]
    pub fn has_arrivals(&self) -> bool {
        self.0.arrived.load(Ordering::SeqCst)
    }

    /// Takes what has arrived; `into` is emptied first.
    pub fn take(&self, into: &mut Arrivals) {
        into.clear();
        if self.0.arrived.swap(false, Ordering::SeqCst) {
            std::mem::swap(&mut *lock(&self.0.arrivals), into);
            self.0.taken.notify_one();
        }
    }

    /// Counts of the moment.
    #[must_use]
    pub fn figures(&self) -> StreamFigures {
        let Counts { open, accepted, refused, closed } = &self.0.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StreamFigures {
            open: std::array::from_fn(|at| read(&open[at])),
            accepted: read(accepted),
            refused: read(refused),
            closed: std::array::from_fn(|at| read(&closed[at])),
        }
    }

    /// Hands a batch to the taker.
    fn deliver(&self, batch: &mut Arrivals) {
        if batch.is_empty() {
            return;
        }
        lock(&self.0.arrivals).append(batch);
        self.0.arrived.store(true, Ordering::SeqCst);
        self.0.taker.wake();
    }

    /// Whether the taker is behind; waits a moment for it then.
    fn is_crowded(&self, wait: Duration) -> bool {
        let arrivals = lock(&self.0.arrivals);
        let crowded = |arrivals: &mut Arrivals| arrivals.bytes() > ARRIVALS_BYTES_MAX;
        let waited = self.0.taken.wait_timeout_while(arrivals, wait, crowded);
        waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn take_orders(&self, into: &mut Orders) {
        std::mem::swap(&mut *lock(&self.0.orders), into);
    }

    fn has_orders(&self) -> bool {
        let orders = lock(&self.0.orders);
        let Orders { sends, closes, reuses, stop, .. } = &*orders;
        *stop || !sends.is_empty() || !closes.is_empty() || !reuses.is_empty()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
