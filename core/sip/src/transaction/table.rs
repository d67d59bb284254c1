//! Many transactions: handles, keys, the bytes to repeat, and their timers.
//!
//! The caller sends the first transmission of everything, when its gate lets it; the table sends repetitions, as
//! [`Output::Send`]. It keeps one exactly sized copy of what may have to be repeated or built upon, and drops it as soon
//! as it cannot be asked for any more: a call that is up holds no message here, and no transaction 32 s after its answer.

use super::key::{Branch, ClientKey, MethodTag, ServerKey};
use super::slab::{Handle, Slab};
use super::timing::{Rules, Timing};
use super::wheel::{TimerId, Wheel};
use super::{Action, Client, ClientInvite, End, Server, ServerInvite};
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use signalbox_base::{CompactFlow, Flow, Mono};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

mod client;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod model;
mod server;
#[cfg(test)]
mod tests;

pub use client::{NewClient, OnResponse};
pub use server::{NewServer, OnAck, OnRequest, RespondError};

/// A client transaction of one [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientTx(Handle);

/// A server transaction of one [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerTx(Handle);

/// Either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tx {
    /// We sent the request.
    Client(ClientTx),
    /// We received it.
    Server(ServerTx),
}

impl From<ClientTx> for Tx {
    fn from(tx: ClientTx) -> Self {
        Self::Client(tx)
    }
}

impl From<ServerTx> for Tx {
    fn from(tx: ServerTx) -> Self {
        Self::Server(tx)
    }
}

/// When the caller puts a message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// In this turn.
    Now,
    /// After its record is durable; [`Table::released`] or [`Table::withdraw`] follows.
    Held,
}

/// What the table wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<U> {
    /// Send these bytes again.
    Send {
        /// Whose they are, to report a failure by [`Table::transport_error`].
        tx: Tx,
        /// Where they go.
        flow: Flow,
        /// The message.
        bytes: Arc<[u8]>,
    },
    /// A timer asks the user to act; the transaction lives on.
    Tell {
        /// Which.
        tx: Tx,
        /// What.
        what: Tell,
    },
    /// The transaction is over and its handle stale. The last that is heard of it.
    Ended {
        /// Which.
        tx: Tx,
        /// What the user had attached.
        user: U,
        /// Why.
        why: End,
    },
}

/// What a timer asks of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// The INVITE rings for too long: cancel it (RFC 3261 §16.8).
    TimerC,
    /// Send 100 Trying if nothing else is at hand (RFC 3261 §17.2.1).
    TryingDue,
}

/// Why a transaction cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The limit given to [`Table::new`] is reached, on this side.
    Full,
    /// One with this key exists.
    Duplicate,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many transactions",
            Self::Duplicate => "a transaction with this key exists",
        })
    }
}

impl std::error::Error for OpenError {}

/// Transactions, each with a small context `U` of the user's (such as a leg's id).
#[derive(Debug)]
pub struct Table<U> {
    timing: Timing,
    transactions_max: usize,
    clients: Slab<ClientEntry<U>>,
    servers: Slab<ServerEntry<U>>,
    /// Places of transactions; the keys are in the entries.
    by_branch: HashTable<u32>,
    by_request: HashTable<u32>,
    seed: FixedState,
    wheel: Wheel<Tx>,
    due: Vec<Tx>,
}

#[derive(Debug)]
struct ClientEntry<U> {
    machine: ClientMachine,
    key: ClientKey,
    flow: CompactFlow,
    /// The request, then (INVITE, 300–699) the ACK.
    bytes: Option<Arc<[u8]>>,
    timer: Option<TimerId>,
    user: U,
}

#[derive(Clone, Copy, Debug)]
enum ClientMachine {
    Invite(ClientInvite),
    Other(Client),
}

#[derive(Debug)]
struct ServerEntry<U> {
    machine: ServerMachine,
    key: ServerKey,
    flow: CompactFlow,
    repeat_2xx: bool,
    /// The last released response, while it may have to be repeated.
    bytes: Option<Arc<[u8]>>,
    held: Option<HeldResponse>,
    timer: Option<TimerId>,
    user: U,
}

#[derive(Clone, Copy, Debug)]
enum ServerMachine {
    Invite(ServerInvite),
    Other(Server),
}

#[derive(Debug)]
struct HeldResponse {
    status: u16,
    bytes: Option<Arc<[u8]>>,
}

impl<U> Table<U> {
    /// At most `transactions_max` on each side (below 2³²); `seed` is random and stays in the process.
    #[must_use]
    pub fn new(timing: Timing, transactions_max: usize, seed: u64) -> Self {
        Self {
            timing,
            transactions_max: transactions_max.min(u32::MAX as usize - 1),
            clients: Slab::new(),
            servers: Slab::new(),
            by_branch: HashTable::new(),
            by_request: HashTable::new(),
            seed: FixedState::with_seed(seed),
            wheel: Wheel::new(),
            due: Vec::new(),
        }
    }

    /// Client and server transactions alive.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.clients.len(), self.servers.len())
    }

    /// Whether no transaction is alive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// When to call [`Table::due`]; it may be early ([`Wheel::next_due`]).
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        self.wheel.next_due()
    }

    /// Runs at most `max` timers. More are due while [`Table::next_due`] is not later than `now`.
    pub fn due(&mut self, now: Mono, max: usize, out: &mut Vec<Output<U>>) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.pop_due(now, max, &mut due);
        for tx in due.drain(..) {
            let action = match tx {
                Tx::Client(tx) => self.client_due(tx, now, out),
                Tx::Server(tx) => self.server_due(tx, now, out),
            };
            match action {
                Action::TimerC => out.push(Output::Tell { tx, what: Tell::TimerC }),
                Action::TryingDue => out.push(Output::Tell { tx, what: Tell::TryingDue }),
                _ => {}
            }
            self.settle(tx, out);
        }
        self.due = due;
    }

    /// The gate has put the held request or response on the wire at `now`: its timers start. `false` when nothing was
    /// held: it was withdrawn, or the peer's reaction came first and released it.
    pub fn released(&mut self, tx: impl Into<Tx>, now: Mono) -> bool {
        match tx.into() {
            Tx::Client(tx) => self.release_client(tx, now),
            Tx::Server(tx) => self.release_server(tx, now),
        }
    }

    /// Takes back what the gate will not send: a held request's transaction ends ([`End::Withdrawn`]); a held response is
    /// forgotten and another may be given. A client transaction that is not held ends too, without a message: for when
    /// nobody wants its answer. `false` when there was nothing to take back.
    pub fn withdraw(&mut self, tx: impl Into<Tx>, out: &mut Vec<Output<U>>) -> bool {
        match tx.into() {
            Tx::Server(tx) => self.servers.get_mut(tx.0).is_some_and(|entry| entry.held.take().is_some()),
            Tx::Client(client) => {
                let Some(entry) = self.clients.get_mut(client.0) else { return false };
                entry.machine = match entry.machine {
                    ClientMachine::Invite(_) => {
                        ClientMachine::Invite(ClientInvite::Terminated(End::Withdrawn))
                    }
                    ClientMachine::Other(_) => ClientMachine::Other(Client::Terminated(End::Withdrawn)),
                };
                self.settle(client.into(), out);
                true
            }
        }
    }

    /// Whether much more memory is held than is needed.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        let spacious =
            |table: &HashTable<u32>| table.capacity() > 1_024 && table.len() < table.capacity() / 8;
        self.clients.is_sparse()
            || self.servers.is_sparse()
            || self.wheel.is_sparse()
            || spacious(&self.by_branch)
            || spacious(&self.by_request)
    }

    /// Gives back a piece of it, at the cost of moving at most an eighth of what an index has room for. `false` when there is
    /// nothing to give, or what is left stands in the way.
    pub fn give_back(&mut self) -> bool {
        let spacious =
            |table: &HashTable<u32>| table.capacity() > 1_024 && table.len() < table.capacity() / 8;
        if spacious(&self.by_branch) {
            let (clients, seed) = (&self.clients, &self.seed);
            let hash_of = |at: &u32| clients.at(*at).map_or(0, |(_, entry)| seed.hash_one(entry.key));
            self.by_branch.shrink_to(self.by_branch.len() * 2, hash_of);
            return true;
        }
        if spacious(&self.by_request) {
            let servers = &self.servers;
            let hash_of = |at: &u32| servers.at(*at).map_or(0, |(_, entry)| entry.key.hash());
            self.by_request.shrink_to(self.by_request.len() * 2, hash_of);
            return true;
        }
        self.clients.give_back() || self.servers.give_back() || self.wheel.give_back()
    }

    /// Ends a server transaction without an answer: its sender is known to wait for none. What it held is forgotten.
    pub fn abandon(&mut self, tx: ServerTx, out: &mut Vec<Output<U>>) {
        let Some(entry) = self.servers.get_mut(tx.0) else { return };
        entry.held = None;
        entry.machine = match entry.machine {
            ServerMachine::Invite(_) => ServerMachine::Invite(ServerInvite::Terminated(End::Withdrawn)),
            ServerMachine::Other(_) => ServerMachine::Other(Server::Terminated(End::Withdrawn)),
        };
        self.settle(tx.into(), out);
    }

    /// What the transaction sent could not be delivered (RFC 3261 §17.1.4, §17.2.4; RFC 6026 §7.1: an INVITE server
    /// transaction stays, and a timer ends it).
    pub fn transport_error(&mut self, tx: impl Into<Tx>, out: &mut Vec<Output<U>>) {
        let tx = tx.into();
        match tx {
            Tx::Client(tx) => {
                let Some(entry) = self.clients.get_mut(tx.0) else { return };
                entry.machine = match entry.machine {
                    ClientMachine::Invite(machine) => ClientMachine::Invite(machine.on_transport_error()),
                    ClientMachine::Other(machine) => ClientMachine::Other(machine.on_transport_error()),
                };
            }
            Tx::Server(tx) => {
                let Some(entry) = self.servers.get_mut(tx.0) else { return };
                if let ServerMachine::Other(machine) = entry.machine {
                    entry.machine = ServerMachine::Other(machine.on_transport_error());
                }
            }
        }
        self.settle(tx, out);
    }

    /// What the user attached; `None` once over.
    #[must_use]
    pub fn user(&self, tx: impl Into<Tx>) -> Option<&U> {
        match tx.into() {
            Tx::Client(tx) => self.clients.get(tx.0).map(|entry| &entry.user),
            Tx::Server(tx) => self.servers.get(tx.0).map(|entry| &entry.user),
        }
    }

    /// The same, to change.
    pub fn user_mut(&mut self, tx: impl Into<Tx>) -> Option<&mut U> {
        match tx.into() {
            Tx::Client(tx) => self.clients.get_mut(tx.0).map(|entry| &mut entry.user),
            Tx::Server(tx) => self.servers.get_mut(tx.0).map(|entry| &mut entry.user),
        }
    }

    /// Where its messages go; `None` once over.
    #[must_use]
    pub fn flow(&self, tx: impl Into<Tx>) -> Option<Flow> {
        match tx.into() {
            Tx::Client(tx) => self.clients.get(tx.0).map(|entry| entry.flow.get()),
            Tx::Server(tx) => self.servers.get(tx.0).map(|entry| entry.flow.get()),
        }
    }

    /// Bytes of messages kept, for metrics and the tests of the memory promise.
    #[must_use]
    pub fn bytes_kept(&self, tx: impl Into<Tx>) -> usize {
        let len = |bytes: &Option<Arc<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        match tx.into() {
            Tx::Client(tx) => self.clients.get(tx.0).map_or(0, |entry| len(&entry.bytes)),
            Tx::Server(tx) => self.servers.get(tx.0).map_or(0, |entry| {
                len(&entry.bytes) + entry.held.as_ref().map_or(0, |held| len(&held.bytes))
            }),
        }
    }

    fn rules(timing: Timing, flow: &CompactFlow) -> Rules {
        Rules { timing, reliable: flow.transport().reliable() }
    }

    fn client_of(&self, key: &ClientKey) -> Option<ClientTx> {
        let is_it = |at: &u32| self.clients.at(*at).is_some_and(|(_, entry)| entry.key == *key);
        let place = self.by_branch.find(self.seed.hash_one(key), is_it)?;
        self.clients.at(*place).map(|(handle, _)| ClientTx(handle))
    }

    fn server_of(&self, key: &ServerKey) -> Option<ServerTx> {
        let is_it = |at: &u32| self.servers.at(*at).is_some_and(|(_, entry)| entry.key == *key);
        let place = self.by_request.find(key.hash(), is_it)?;
        self.servers.at(*place).map(|(handle, _)| ServerTx(handle))
    }

    fn index_client(&mut self, tx: ClientTx, key: &ClientKey) {
        let (clients, seed) = (&self.clients, &self.seed);
        let hash_of = |at: &u32| clients.at(*at).map_or(0, |(_, entry)| seed.hash_one(entry.key));
        self.by_branch.insert_unique(seed.hash_one(key), tx.0.index, hash_of);
    }

    fn index_server(&mut self, tx: ServerTx, key: &ServerKey) {
        let servers = &self.servers;
        let hash_of = |at: &u32| servers.at(*at).map_or(0, |(_, entry)| entry.key.hash());
        self.by_request.insert_unique(key.hash(), tx.0.index, hash_of);
    }

    /// After every step: removes what ended, and sets the timer to the machine's wish.
    fn settle(&mut self, tx: Tx, out: &mut Vec<Output<U>>) {
        let ended = match tx {
            Tx::Client(client) => self.clients.get(client.0).and_then(|entry| entry.machine.end()),
            Tx::Server(server) => self.servers.get(server.0).and_then(|entry| entry.machine.end()),
        };
        let Some(why) = ended else { return self.arm(tx) };
        let removed = match tx {
            Tx::Client(client) => self.clients.remove(client.0).map(|entry| {
                let found =
                    self.by_branch.find_entry(self.seed.hash_one(entry.key), |at| *at == client.0.index);
                found.map(|found| found.remove()).ok();
                (entry.timer, entry.user)
            }),
            Tx::Server(server) => self.servers.remove(server.0).map(|entry| {
                let found = self.by_request.find_entry(entry.key.hash(), |at| *at == server.0.index);
                found.map(|found| found.remove()).ok();
                (entry.timer, entry.user)
            }),
        };
        let (timer, user) = removed.expect("it was found just above");
        if let Some(timer) = timer {
            self.wheel.cancel(timer);
        }
        out.push(Output::Ended { tx, user, why });
    }

    fn arm(&mut self, tx: Tx) {
        let (wake, timer) = match tx {
            Tx::Client(client) => match self.clients.get_mut(client.0) {
                Some(entry) => (entry.machine.wake(), &mut entry.timer),
                None => return,
            },
            Tx::Server(server) => match self.servers.get_mut(server.0) {
                Some(entry) => (entry.machine.wake(), &mut entry.timer),
                None => return,
            },
        };
        match (*timer, wake) {
            (None, None) => {}
            // Its place in the wheel is used again.
            (Some(running), Some(at)) if self.wheel.restart(running, at) => {}
            (_, Some(at)) => *timer = Some(self.wheel.start(at, tx)),
            (Some(running), None) => {
                self.wheel.cancel(running);
                *timer = None;
            }
        }
    }
}
