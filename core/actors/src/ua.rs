//! Transactions over datagrams: what every actor has.

use crate::datagram::Datagram;
use crate::devices::{Device, Rport, dress, fill};
use crate::random::Random;
use signalbox_base::{ConnId, Flow, ListenerId, Mono, Transport};
use signalbox_sip::message::{Put, is_keepalive};
use signalbox_sip::transaction::{
    Branch, ClientKey, ClientTx, End, Gate, KeyHasher, MethodTag, NewClient, NewServer, OnAck, OnRequest,
    OnResponse, Output, RequestFields, ServerTx, Table, Tell, Timing, Tx,
};
use signalbox_sip::{HeaderName, Limits, Message, Method, RequestBuilder, ResponseBuilder, ResponseHead};
use std::net::SocketAddr;
use std::sync::Arc;

/// A header with the actor's name, which edges pass on also where they hide software.
pub const ACTOR: &str = "X-Actor";
/// Transactions alive on each side; a load generator's phone carries many calls.
const TRANSACTIONS_MAX: usize = 1 << 20;
/// Timers worked off at once.
const DUE_MAX: usize = 1024;

/// Sends requests and responses, and tells what came of them. `U` says what a transaction is for.
pub(crate) struct Ua<U> {
    pub(crate) local: SocketAddr,
    pub(crate) agent: String,
    pub(crate) device: &'static Device,
    pub(crate) transport: Transport,
    pub(crate) random: Random,
    table: Table<U>,
    hasher: KeyHasher,
    outputs: Vec<Output<U>>,
}

/// A datagram, understood.
pub(crate) enum Heard<'b, U> {
    /// A repetition, a keep-alive, an ACK that a transaction wanted.
    Absorbed,
    /// Bytes that are no SIP message.
    Malformed(String),
    /// A new request; it has a transaction unless it is an ACK.
    Request { message: Message<&'b [u8]>, tx: ServerTx },
    /// An ACK to a 2xx.
    Ack { message: Message<&'b [u8]> },
    /// The answer to a request of ours.
    Response { message: Message<&'b [u8]>, user: U, tx: ClientTx, kind: Kind },
    /// A response that no transaction knows.
    Stray { message: Message<&'b [u8]> },
}

/// Which response it is.
pub(crate) enum Kind {
    Provisional,
    /// The first final one, with the request where it was kept.
    Final {
        request: Option<Arc<[u8]>>,
    },
    /// Another 2xx to an INVITE that has one, or that had failed.
    Another2xx,
}

/// What time did to a transaction.
pub(crate) enum Lapsed<U> {
    /// It ended without an answer or an ACK.
    Ended { user: U, end: End },
    /// An INVITE of ours had no final answer for three minutes (RFC 3261 §16.8): no person waits longer.
    Unanswered { user: U },
}

impl<U: Clone + Default> Ua<U> {
    pub(crate) fn new(local: SocketAddr, agent: &str, device: &'static Device, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let table = Table::new(Timing::RFC, TRANSACTIONS_MAX, random.bits());
        let hasher = KeyHasher::new([random.bits(), random.bits()]);
        let transport = Transport::Udp;
        Self { local, agent: agent.to_owned(), device, transport, random, table, hasher, outputs: Vec::new() }
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.table.next_due()
    }

    pub(crate) fn branch(&mut self) -> Branch {
        Branch(self.random.bits())
    }

    /// A new Call-ID.
    pub(crate) fn call_id(&mut self) -> String {
        self.fill(self.device.names.call_id)
    }

    /// A new tag.
    pub(crate) fn tag(&mut self) -> String {
        self.fill(self.device.names.tag)
    }

    /// The CSeq number that requests begin with.
    pub(crate) fn first_cseq(&mut self) -> u32 {
        let (first, above) = self.device.names.cseq;
        let above = self.random.below(u64::from(above) + 1);
        first + u32::try_from(above).unwrap_or_default()
    }

    /// An identifier by its pattern.
    pub(crate) fn fill(&mut self, pattern: &str) -> String {
        fill(pattern, self.local, &mut self.random)
    }

    /// What it calls itself in User-Agent and Server.
    fn software(&self) -> &str {
        Some(self.device.agent).filter(|agent| !agent.is_empty()).unwrap_or(&self.agent)
    }

    /// Begins a request: request line, Via, Max-Forwards, User-Agent and [`ACTOR`].
    pub(crate) fn begin<'o>(
        &self,
        bytes: &'o mut Vec<u8>,
        method: Method,
        uri: impl Put,
        branch: Branch,
    ) -> RequestBuilder<'o> {
        let (before, behind) = match self.device.form.rport {
            Rport::BehindBranch => ("", ";rport"),
            Rport::BeforeBranch => (";rport", ""),
            Rport::Never => ("", ""),
        };
        RequestBuilder::new(bytes, method, uri)
            .header(
                HeaderName::Via,
                format_args!(
                    "SIP/2.0/{} {}{before};branch={branch}{behind}",
                    self.transport.via(),
                    self.local
                ),
            )
            .header(HeaderName::MaxForwards, 70_u32)
            .header(HeaderName::UserAgent, self.software())
            .extension(ACTOR, self.agent.as_str())
    }

    /// Sends a request that [`Ua::begin`] began with this branch.
    pub(crate) fn send(
        &mut self,
        now: Mono,
        request: Request<U>,
        out: &mut Vec<Datagram>,
    ) -> Option<ClientTx> {
        let Request { to, branch, method, bytes, user } = request;
        let (bytes, flow) = (self.dressed(bytes), self.flow(to));
        let method = MethodTag::new(method.as_bytes());
        let new = NewClient { branch, method, flow, bytes: &bytes, gate: Gate::Now };
        let tx = self.table.start(new, user, now).ok()?;
        self.transmit(to, bytes, out);
        Some(tx)
    }

    /// A message as the device writes it.
    pub(crate) fn dressed(&self, message: Vec<u8>) -> Vec<u8> {
        dress(self.device, self.transport, message)
    }

    /// The way to a peer; over a stream there is one connection.
    fn flow(&self, to: SocketAddr) -> Flow {
        let conn = self.transport.reliable().then_some(ConnId(0));
        Flow { transport: self.transport, conn, ..Flow::udp(ListenerId(0), self.local, to) }
    }

    /// Sends bytes that belong to no transaction.
    pub(crate) fn transmit(&self, to: SocketAddr, bytes: Vec<u8>, out: &mut Vec<Datagram>) {
        out.push(Datagram { from: self.local, to, bytes });
    }

    /// Answers a request where it came from (RFC 3581). `write` adds headers and ends the message.
    pub(crate) fn respond<B: AsRef<[u8]>>(
        &mut self,
        now: Mono,
        answer: Answering<'_, B>,
        write: impl FnOnce(ResponseBuilder<'_>),
        out: &mut Vec<Datagram>,
    ) {
        let Answering { tx, request, status, to_tag } = answer;
        let Some(to) = self.table.flow(tx).map(|flow| flow.remote) else { return };
        let head = ResponseHead { status, reason: reason(status), to_tag: Some(to_tag), source: Some(to) };
        let mut bytes = Vec::with_capacity(512);
        let response = ResponseBuilder::new(&mut bytes, request, &head);
        write(response.header(HeaderName::Server, self.software()).extension(ACTOR, self.agent.as_str()));
        let bytes = self.dressed(bytes);
        if self.table.respond(tx, status, &bytes, Gate::Now, now).is_ok() {
            self.transmit(to, bytes, out);
        }
    }

    /// Reads a datagram.
    pub(crate) fn hear<'b>(
        &mut self,
        now: Mono,
        bytes: &'b [u8],
        from: SocketAddr,
        out: &mut Vec<Datagram>,
    ) -> Heard<'b, U> {
        if is_keepalive(bytes) {
            return Heard::Absorbed;
        }
        let message = match Message::parse(bytes, &Limits::DATAGRAM) {
            Ok(message) => message,
            Err(malformed) => return Heard::Malformed(format!("{malformed:?}")),
        };
        let heard = if message.is_request() {
            self.hear_request(now, message, from)
        } else {
            self.hear_response(now, message)
        };
        self.flush(out);
        heard
    }

    fn hear_request<'b>(&mut self, now: Mono, message: Message<&'b [u8]>, from: SocketAddr) -> Heard<'b, U> {
        let Some(fields) = fields(&message) else { return Heard::Malformed("no readable Via".to_owned()) };
        let key = self.hasher.key(&fields);
        if message.method() == Method::Ack {
            return match self.table.on_ack(key, now) {
                OnAck::Absorbed { .. } => Heard::Absorbed,
                OnAck::Deliver { .. } | OnAck::Unmatched => Heard::Ack { message },
            };
        }
        if self.table.on_request(key, &mut self.outputs) != OnRequest::New {
            return Heard::Absorbed;
        }
        let invite = message.method() == Method::Invite;
        let flow = self.flow(from);
        // Actors send 100 at once, so nothing need be asked of them later.
        let new = NewServer { key, invite, flow, trying_after: None, repeat_2xx: true };
        match self.table.open(new, U::default(), now) {
            Ok(tx) => Heard::Request { message, tx },
            Err(_) => Heard::Absorbed,
        }
    }

    fn hear_response<'b>(&mut self, now: Mono, message: Message<&'b [u8]>) -> Heard<'b, U> {
        let branch = message.top_via().ok().and_then(|via| via.branch()).unwrap_or_default();
        let Some(key) = ClientKey::of_response(branch, message.cseq().method) else {
            return Heard::Stray { message };
        };
        let status = message.status().unwrap_or_default();
        let (tx, kind) = match self.table.on_response(key, status, now, &mut self.outputs) {
            OnResponse::Provisional { tx } => (tx, Kind::Provisional),
            OnResponse::Final { tx, request, .. } => (tx, Kind::Final { request }),
            OnResponse::Again { tx } | OnResponse::Late { tx } => (tx, Kind::Another2xx),
            OnResponse::Absorbed { .. } => return Heard::Absorbed,
            OnResponse::Stray => return Heard::Stray { message },
        };
        let user = self.table.user(tx).cloned().unwrap_or_default();
        Heard::Response { message, user, tx, kind }
    }

    /// The INVITE that a CANCEL means, while its transaction lives.
    pub(crate) fn cancelled<B: AsRef<[u8]>>(&self, cancel: &Message<B>) -> Option<(ServerTx, U)> {
        let key = self.hasher.cancelled(&fields(cancel)?);
        let tx = self.table.find_server(key)?;
        Some((tx, self.table.user(tx)?.clone()))
    }

    /// Says what a transaction is for.
    pub(crate) fn assign(&mut self, tx: impl Into<Tx>, user: U) {
        if let Some(slot) = self.table.user_mut(tx) {
            *slot = user;
        }
    }

    /// The 2xx of this INVITE has its ACK.
    pub(crate) fn acked(&mut self, tx: ServerTx, now: Mono) {
        self.table.acked(tx, now);
    }

    /// Where this transaction's messages go.
    pub(crate) fn peer(&self, tx: ClientTx) -> Option<SocketAddr> {
        self.table.flow(tx).map(|flow| flow.remote)
    }

    /// The ACK to a 300–699 was sent.
    pub(crate) fn remember_ack(&mut self, tx: ClientTx, bytes: &[u8]) {
        self.table.ack(tx, bytes);
    }

    /// The INVITE to build a CANCEL from, when one may be sent now.
    pub(crate) fn cancellable(&self, tx: ClientTx) -> Option<Vec<u8>> {
        self.table.may_cancel(tx).then(|| self.table.request(tx).map(<[u8]>::to_vec))?
    }

    /// A CANCEL was sent for this INVITE.
    pub(crate) fn cancel_sent(&mut self, tx: ClientTx, now: Mono) {
        self.table.cancelled(tx, now);
    }

    /// Runs timers: sends repetitions, and tells which transactions lapsed.
    pub(crate) fn due(&mut self, now: Mono, out: &mut Vec<Datagram>) -> Vec<Lapsed<U>> {
        let mut lapsed = Vec::new();
        while self.table.next_due().is_some_and(|at| at <= now) {
            self.table.due(now, DUE_MAX, &mut self.outputs);
            for output in self.outputs.drain(..) {
                match output {
                    Output::Send { flow, bytes, .. } => {
                        out.push(Datagram { from: self.local, to: flow.remote, bytes: bytes.to_vec() });
                    }
                    Output::Ended { why: End::Done, .. } => {}
                    Output::Ended { user, why, .. } => lapsed.push(Lapsed::Ended { user, end: why }),
                    Output::Tell { tx, what: Tell::TimerC } => {
                        lapsed.extend(
                            self.table.user(tx).map(|user| Lapsed::Unanswered { user: user.clone() }),
                        );
                    }
                    // Actors send 100 at once.
                    Output::Tell { what: Tell::TryingDue, .. } => {}
                }
            }
        }
        lapsed
    }

    fn flush(&mut self, out: &mut Vec<Datagram>) {
        for output in self.outputs.drain(..) {
            if let Output::Send { flow, bytes, .. } = output {
                out.push(Datagram { from: self.local, to: flow.remote, bytes: bytes.to_vec() });
            }
        }
    }
}

/// A request ready to be sent.
pub(crate) struct Request<U> {
    pub(crate) to: SocketAddr,
    pub(crate) branch: Branch,
    pub(crate) method: Method,
    pub(crate) bytes: Vec<u8>,
    pub(crate) user: U,
}

/// A request about to be answered.
pub(crate) struct Answering<'a, B> {
    pub(crate) tx: ServerTx,
    pub(crate) request: &'a Message<B>,
    pub(crate) status: u16,
    pub(crate) to_tag: &'a [u8],
}

fn fields<B: AsRef<[u8]>>(message: &Message<B>) -> Option<RequestFields<'_>> {
    let via = message.top_via().ok()?;
    let uri = message.request_uri()?;
    Some(RequestFields {
        method: message.cseq().method,
        branch: via.branch(),
        sent_by_host: via.host,
        sent_by_port: via.port,
        via: via.raw,
        uri,
        from_tag: message.from_tag().unwrap_or_default(),
        to_tag: message.to_tag().unwrap_or_default(),
        call_id: message.call_id(),
        cseq: message.cseq().number,
        scope: 0,
    })
}

/// The usual phrase for a status (RFC 3261 §21).
pub(crate) const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        422 => "Session Interval Too Small",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        603 => "Decline",
        _ => "Unknown",
    }
}
