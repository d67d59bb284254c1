//! The server side of the table.

use super::client::push_send;
use super::{
    Action, End, Gate, HeldResponse, OpenError, Output, Server, ServerEntry, ServerInvite, ServerKey,
    ServerMachine, ServerTx, Table,
};
use signalbox_base::{CompactFlow, Flow, Mono};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A request that has just come and matched nothing.
#[derive(Clone, Copy, Debug)]
pub struct NewServer {
    /// Its key.
    pub key: ServerKey,
    /// Whether it is an INVITE. Never an ACK, which has no transaction of its own.
    pub invite: bool,
    /// Where it came from and where responses go.
    pub flow: Flow,
    /// Ask for 100 by [`TryingDue`](super::Tell::TryingDue) when nothing is released within this time
    /// ([`TRYING_WITHIN`](crate::transaction::TRYING_WITHIN); [`Timing::non_invite_trying`](super::Timing) for other methods).
    pub trying_after: Option<Duration>,
    /// For an INVITE: repeat its 2xx until [`Table::acked`] (RFC 3261 §13.3.1.4).
    pub repeat_2xx: bool,
}

/// What a request is to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRequest {
    /// Never seen: for the user, who may [`Table::open`] a transaction for it.
    New,
    /// Seen before: absorbed. If a response was released, it is in the outputs again.
    Repeated {
        /// Of which.
        tx: ServerTx,
    },
}

/// What an ACK is to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAck {
    /// It acknowledged a 300–699, or came twice.
    Absorbed {
        /// Of which.
        tx: ServerTx,
    },
    /// It bears the branch of an INVITE that was answered 2xx (RFC 6026 §7.1): for the dialog.
    Deliver {
        /// Of which.
        tx: ServerTx,
    },
    /// The usual ACK to a 2xx, with a branch of its own: for the dialog.
    Unmatched,
}

/// Why a response cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespondError {
    /// The transaction is over.
    Gone,
    /// A final response was released before.
    Answered,
    /// Another response waits for its record; withdraw it first.
    Held,
}

impl fmt::Display for RespondError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the transaction is over",
            Self::Answered => "the request was answered",
            Self::Held => "another response waits for its record",
        })
    }
}

impl std::error::Error for RespondError {}

impl ServerMachine {
    pub(super) fn end(&self) -> Option<End> {
        match self {
            Self::Invite(machine) => machine.end(),
            Self::Other(machine) => machine.end(),
        }
    }

    pub(super) fn wake(&self) -> Option<Mono> {
        match self {
            Self::Invite(machine) => machine.wake(),
            Self::Other(machine) => machine.wake(),
        }
    }

    fn may_respond(&self, status: u16) -> bool {
        match self {
            Self::Invite(machine) => machine.may_respond(status),
            Self::Other(machine) => machine.may_respond(),
        }
    }

    fn on_repeated_request(&self) -> Action {
        match self {
            Self::Invite(machine) => machine.on_repeated_request(),
            Self::Other(machine) => machine.on_repeated_request(),
        }
    }
}

impl<U> Table<U> {
    /// A request other than ACK came.
    pub fn on_request(&mut self, key: ServerKey, out: &mut Vec<Output<U>>) -> OnRequest {
        let Some(tx) = self.server_of(&key) else { return OnRequest::New };
        let entry = self.servers.get(tx.0).expect("the index names living transactions");
        if entry.machine.on_repeated_request() == Action::Resend {
            push_send(tx.into(), &entry.flow, entry.bytes.as_ref(), out);
        }
        OnRequest::Repeated { tx }
    }

    /// An ACK came. One that arrives before the table was told that its response was released proves that it was.
    pub fn on_ack(&mut self, key: ServerKey, now: Mono) -> OnAck {
        let Some(tx) = self.server_of(&key) else { return OnAck::Unmatched };
        let final_held = |entry: &ServerEntry<U>| entry.held.as_ref().is_some_and(|held| held.status >= 200);
        if self.servers.get(tx.0).is_some_and(final_held) {
            self.release_server(tx, now);
        }
        let entry = self.servers.get_mut(tx.0).expect("the index names living transactions");
        let ServerMachine::Invite(machine) = entry.machine else { return OnAck::Absorbed { tx } };
        let (machine, action) = machine.on_ack(&Self::rules(self.timing, &entry.flow), now);
        entry.machine = ServerMachine::Invite(machine);
        if matches!(machine, ServerInvite::Confirmed { .. }) {
            entry.bytes = None;
        }
        self.arm(tx.into());
        if action == Action::Deliver { OnAck::Deliver { tx } } else { OnAck::Absorbed { tx } }
    }

    /// Opens the transaction of a new request.
    ///
    /// # Errors
    /// When the table is full, or one with this key exists.
    pub fn open(&mut self, new: NewServer, user: U, now: Mono) -> Result<ServerTx, OpenError> {
        if self.servers.len() >= self.transactions_max {
            return Err(OpenError::Full);
        }
        if self.server_of(&new.key).is_some() {
            return Err(OpenError::Duplicate);
        }
        let flow = CompactFlow::from(new.flow);
        let machine = if new.invite {
            ServerMachine::Invite(ServerInvite::new(new.trying_after, now))
        } else {
            let rules = Self::rules(self.timing, &flow);
            ServerMachine::Other(Server::new(new.trying_after, &rules, now))
        };
        let NewServer { key, repeat_2xx, .. } = new;
        let entry =
            ServerEntry { machine, key, flow, repeat_2xx, bytes: None, held: None, timer: None, user };
        let tx = ServerTx(self.servers.insert(entry));
        self.index_server(tx, &key);
        self.arm(tx.into());
        Ok(tx)
    }

    /// The user responds. The caller sends the bytes: now, or when the gate opens; until then repeated requests get the
    /// response released before, if any, and no timer starts. The bytes are copied only when they may be repeated.
    ///
    /// # Errors
    /// When it is too late, or a held response waits; nothing may be sent then.
    pub fn respond(
        &mut self,
        tx: ServerTx,
        status: u16,
        bytes: &[u8],
        gate: Gate,
        now: Mono,
    ) -> Result<(), RespondError> {
        let entry = self.servers.get_mut(tx.0).ok_or(RespondError::Gone)?;
        if entry.held.is_some() {
            return Err(RespondError::Held);
        }
        if !entry.machine.may_respond(status) {
            return Err(RespondError::Answered);
        }
        let bytes = entry.may_repeat(status).then(|| Arc::from(bytes));
        let response = HeldResponse { status, bytes };
        entry.held = Some(response);
        if gate == Gate::Now {
            self.release_server(tx, now);
        }
        Ok(())
    }

    /// The user has the ACK of its 2xx: the table stops repeating it and drops its bytes. A 2xx that was still thought
    /// held is released by this.
    pub fn acked(&mut self, tx: ServerTx, now: Mono) {
        let held_2xx = |entry: &&mut ServerEntry<U>| {
            entry.held.as_ref().is_some_and(|held| matches!(held.status, 200..=299))
        };
        if self.servers.get_mut(tx.0).as_ref().is_some_and(held_2xx) {
            self.release_server(tx, now);
        }
        let Some(entry) = self.servers.get_mut(tx.0) else { return };
        if let ServerMachine::Invite(machine @ ServerInvite::Accepted { .. }) = entry.machine {
            entry.machine = ServerMachine::Invite(machine.acked());
            entry.bytes = None;
            self.arm(tx.into());
        }
    }

    /// The living server transaction with this key; with [`KeyHasher::cancelled`](crate::transaction::KeyHasher::cancelled), the INVITE that a
    /// CANCEL means (RFC 3261 §9.2).
    #[must_use]
    pub fn find_server(&self, key: ServerKey) -> Option<ServerTx> {
        self.server_of(&key)
    }

    /// Whether a response of `status` may be given now: no final one was released and none waits.
    #[must_use]
    pub fn may_respond(&self, tx: ServerTx, status: u16) -> bool {
        self.servers.get(tx.0).is_some_and(|entry| entry.held.is_none() && entry.machine.may_respond(status))
    }

    pub(super) fn release_server(&mut self, tx: ServerTx, now: Mono) -> bool {
        let Some(entry) = self.servers.get_mut(tx.0) else { return false };
        let Some(HeldResponse { status, bytes }) = entry.held.take() else { return false };
        let rules = Self::rules(self.timing, &entry.flow);
        let answered = matches!(entry.machine, ServerMachine::Invite(ServerInvite::Accepted { .. }));
        entry.machine = match entry.machine {
            ServerMachine::Invite(machine) => {
                ServerMachine::Invite(machine.released(status, entry.repeat_2xx, &rules, now))
            }
            ServerMachine::Other(machine) => ServerMachine::Other(machine.released(status, &rules, now)),
        };
        // Another 2xx in Accepted is the user's own repetition: the table's copy stays as it is.
        if !answered {
            entry.bytes = bytes;
        }
        self.arm(tx.into());
        true
    }

    pub(super) fn server_due(&mut self, tx: ServerTx, now: Mono, out: &mut Vec<Output<U>>) -> Action {
        let Some(entry) = self.servers.get_mut(tx.0) else { return Action::None };
        entry.timer = None;
        let (machine, action) = match entry.machine {
            ServerMachine::Invite(machine) => {
                let (machine, action) = machine.on_due(&Self::rules(self.timing, &entry.flow), now);
                (ServerMachine::Invite(machine), action)
            }
            ServerMachine::Other(machine) => {
                let (machine, action) = machine.on_due(now);
                (ServerMachine::Other(machine), action)
            }
        };
        entry.machine = machine;
        if action == Action::Resend {
            push_send(tx.into(), &entry.flow, entry.bytes.as_ref(), out);
        }
        action
    }
}

impl<U> ServerEntry<U> {
    /// Whether a response of `status` can ever be asked of the table again: over UDP all but a 2xx to INVITE, which is
    /// the user's to repeat; that one over every transport when the table was asked to.
    fn may_repeat(&self, status: u16) -> bool {
        let invite = matches!(self.machine, ServerMachine::Invite(_));
        match (invite, status) {
            (true, 200..=299) => self.repeat_2xx,
            _ => !self.flow.transport().reliable(),
        }
    }
}
