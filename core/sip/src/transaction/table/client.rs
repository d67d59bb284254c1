//! The client side of the table.

use super::{
    Action, Branch, Client, ClientEntry, ClientInvite, ClientKey, ClientMachine, ClientTx, End, Gate,
    MethodTag, OpenError, Output, Rules, Table, Tx,
};
use signalbox_base::{CompactFlow, Flow, Mono};
use std::sync::Arc;

/// A request about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct NewClient<'a> {
    /// The branch of its top Via; a CANCEL bears the INVITE's (RFC 3261 §9.1).
    pub branch: Branch,
    /// Its method; never ACK, which has no transaction.
    pub method: MethodTag,
    /// Where it goes.
    pub flow: Flow,
    /// The message. Copied only when it may be repeated, or built upon (INVITE).
    pub bytes: &'a [u8],
    /// When it goes.
    pub gate: Gate,
}

/// What a response is to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnResponse {
    /// A 1xx for the user.
    Provisional {
        /// Of which.
        tx: ClientTx,
    },
    /// The first final response, for the user.
    Final {
        /// Of which.
        tx: ClientTx,
        /// The request, where it was kept (INVITE; any over UDP): the table has no more use for it.
        request: Option<Arc<[u8]>>,
        /// A 300–699 of an INVITE: the user builds the ACK, sends it, and gives it to [`Table::ack`].
        needs_ack: bool,
    },
    /// Another 2xx of an INVITE that has one: the same answer repeated, or another fork's (RFC 6026 §7.2). Each wants an
    /// ACK from the user.
    Again {
        /// Of which.
        tx: ClientTx,
    },
    /// A 2xx of an INVITE that had a 300–699: it wants an ACK and a BYE.
    Late {
        /// Of which.
        tx: ClientTx,
    },
    /// A repetition. If an ACK was due again, it is in the outputs.
    Absorbed {
        /// Of which.
        tx: ClientTx,
    },
    /// No transaction has it. A 2xx of an INVITE is for its leg, anything else is dropped (RFC 6026 §8.9).
    Stray,
}

impl ClientMachine {
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

    fn released(self, rules: &Rules, now: Mono) -> Self {
        match self {
            Self::Invite(machine) => Self::Invite(machine.released(rules, now)),
            Self::Other(machine) => Self::Other(machine.released(rules, now)),
        }
    }

    fn is_held(&self) -> bool {
        matches!(self, Self::Invite(ClientInvite::Held) | Self::Other(Client::Held))
    }

    fn on_response(self, status: u16, rules: &Rules, now: Mono) -> (Self, Action) {
        match self {
            Self::Invite(machine) => {
                let (machine, action) = machine.on_response(status, rules, now);
                (Self::Invite(machine), action)
            }
            Self::Other(machine) => {
                let (machine, action) = machine.on_response(status, rules, now);
                (Self::Other(machine), action)
            }
        }
    }

    /// Whether a 2xx was passed up before.
    fn is_accepted(&self) -> bool {
        matches!(self, Self::Invite(ClientInvite::Accepted { .. }))
    }
}

impl<U> Table<U> {
    /// Opens the transaction of a request. The caller sends its bytes: now, or when the gate opens.
    ///
    /// # Errors
    /// When the table is full, or the branch is in use with this method.
    pub fn start(&mut self, new: NewClient<'_>, user: U, now: Mono) -> Result<ClientTx, OpenError> {
        if self.clients.len() >= self.transactions_max {
            return Err(OpenError::Full);
        }
        let key = ClientKey { branch: new.branch, method: new.method };
        if self.client_of(&key).is_some() {
            return Err(OpenError::Duplicate);
        }
        let invite = new.method == MethodTag::INVITE;
        let flow = CompactFlow::from(new.flow);
        let rules = Self::rules(self.timing, &flow);
        let held = if invite {
            ClientMachine::Invite(ClientInvite::Held)
        } else {
            ClientMachine::Other(Client::Held)
        };
        let machine = match new.gate {
            Gate::Now => held.released(&rules, now),
            Gate::Held => held,
        };
        let bytes = (invite || !rules.reliable).then(|| Arc::from(new.bytes));
        let entry = ClientEntry { machine, key, flow, bytes, timer: None, user };
        let tx = ClientTx(self.clients.insert(entry));
        self.index_client(tx, &key);
        self.arm(tx.into());
        Ok(tx)
    }

    /// A response came.
    pub fn on_response(
        &mut self,
        key: ClientKey,
        status: u16,
        now: Mono,
        out: &mut Vec<Output<U>>,
    ) -> OnResponse {
        let Some(tx) = self.client_of(&key) else { return OnResponse::Stray };
        let entry = self.clients.get_mut(tx.0).expect("the index names living transactions");
        let rules = Self::rules(self.timing, &entry.flow);
        let accepted_before = entry.machine.is_accepted();
        let (machine, action) = entry.machine.on_response(status, &rules, now);
        entry.machine = machine;
        let told = match action {
            Action::Deliver if status < 200 => OnResponse::Provisional { tx },
            Action::Deliver if accepted_before => OnResponse::Again { tx },
            Action::Deliver => OnResponse::Final { tx, request: entry.bytes.take(), needs_ack: false },
            Action::DeliverAndAck => OnResponse::Final { tx, request: entry.bytes.take(), needs_ack: true },
            Action::DeliverLate => OnResponse::Late { tx },
            Action::ResendAck => {
                push_send(tx.into(), &entry.flow, entry.bytes.as_ref(), out);
                OnResponse::Absorbed { tx }
            }
            _ => OnResponse::Absorbed { tx },
        };
        self.arm(tx.into());
        told
    }

    /// The user has sent this ACK to a 300–699: it is repeated whenever that response is (RFC 3261 §17.1.1.2). Over a
    /// reliable transport nothing is kept.
    pub fn ack(&mut self, tx: ClientTx, bytes: &[u8]) {
        let Some(entry) = self.clients.get_mut(tx.0) else { return };
        let completed = matches!(entry.machine, ClientMachine::Invite(ClientInvite::Completed { .. }));
        if completed && !entry.flow.transport().reliable() {
            entry.bytes = Some(Arc::from(bytes));
        }
    }

    /// Whether a CANCEL may be sent for this INVITE now: a provisional response came, a final one did not, and none was
    /// sent before (RFC 3261 §9.1).
    #[must_use]
    pub fn may_cancel(&self, tx: ClientTx) -> bool {
        let machine = self.clients.get(tx.0).map(|entry| entry.machine);
        matches!(machine, Some(ClientMachine::Invite(machine)) if machine.may_cancel())
    }

    /// The user sends a CANCEL (a transaction of its own, with the same branch): the INVITE has 64·T1 left for its final
    /// response (RFC 3261 §9.1).
    pub fn cancelled(&mut self, tx: ClientTx, now: Mono) {
        let Some(entry) = self.clients.get_mut(tx.0) else { return };
        if let ClientMachine::Invite(machine) = entry.machine {
            let rules = Self::rules(self.timing, &entry.flow);
            entry.machine = ClientMachine::Invite(machine.cancelled(&rules, now));
            self.arm(tx.into());
        }
    }

    /// The request as sent, until its first final response (INVITE; any over UDP): what a CANCEL is built from.
    #[must_use]
    pub fn request(&self, tx: ClientTx) -> Option<&[u8]> {
        let entry = self.clients.get(tx.0)?;
        let completed = matches!(entry.machine, ClientMachine::Invite(ClientInvite::Completed { .. }));
        entry.bytes.as_deref().filter(|_| !completed)
    }

    /// The client transaction that a response with this key belongs to.
    #[must_use]
    pub fn find_client(&self, key: ClientKey) -> Option<ClientTx> {
        self.client_of(&key)
    }

    pub(super) fn release_client(&mut self, tx: ClientTx, now: Mono) -> bool {
        let Some(entry) = self.clients.get_mut(tx.0).filter(|entry| entry.machine.is_held()) else {
            return false;
        };
        entry.machine = entry.machine.released(&Self::rules(self.timing, &entry.flow), now);
        self.arm(tx.into());
        true
    }

    pub(super) fn client_due(&mut self, tx: ClientTx, now: Mono, out: &mut Vec<Output<U>>) -> Action {
        let Some(entry) = self.clients.get_mut(tx.0) else { return Action::None };
        entry.timer = None;
        let rules = Self::rules(self.timing, &entry.flow);
        let (machine, action) = match entry.machine {
            ClientMachine::Invite(machine) => {
                let (machine, action) = machine.on_due(now);
                (ClientMachine::Invite(machine), action)
            }
            ClientMachine::Other(machine) => {
                let (machine, action) = machine.on_due(&rules, now);
                (ClientMachine::Other(machine), action)
            }
        };
        entry.machine = machine;
        if action == Action::Resend {
            push_send(tx.into(), &entry.flow, entry.bytes.as_ref(), out);
        }
        action
    }
}

/// A repetition, when there is something to repeat.
pub(super) fn push_send<U>(tx: Tx, flow: &CompactFlow, bytes: Option<&Arc<[u8]>>, out: &mut Vec<Output<U>>) {
    if let Some(bytes) = bytes {
        out.push(Output::Send { tx, flow: flow.get(), bytes: Arc::clone(bytes) });
    }
}
