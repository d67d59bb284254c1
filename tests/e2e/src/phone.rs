//! A phone of the story's own: one UDP socket or one connection, driven step by step, so that a story says exactly what is sent when.
//!
//! It repeats unanswered requests and answers repeated ones, as UDP demands, and answers OPTIONS by itself.

mod dialog;
mod digest;
mod wire;

pub use dialog::{Dialing, Dialog};
pub use wire::Wire;

use crate::message::{Message, address, parameter};
use crate::wait::{self, Deadline};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Repetition of unanswered requests (RFC 3261 T1).
const REPEAT: Duration = Duration::from_millis(500);

/// Who a phone is.
#[derive(Clone, Debug)]
pub struct Account {
    /// `401`
    pub user: String,
    /// `acme.test`
    pub domain: String,
    /// Of the PBX's account.
    pub password: String,
}

/// A phone.
#[derive(Debug)]
pub struct Phone {
    /// Who it is.
    pub account: Account,
    wire: Wire,
    /// What it writes into Via, Contact and SDP: what it believes its address to be.
    pub local: SocketAddr,
    inbox: Vec<Message>,
    /// All that passed, both ways.
    pub seen: Vec<Message>,
    /// Answers by branch and method, for repetitions.
    answered: Vec<(String, String, Vec<u8>)>,
    cseq: u32,
    register_id: String,
}

impl Phone {
    /// A phone on an address, that sends everything to the edge.
    ///
    /// # Panics
    /// The address is in use.
    #[must_use]
    pub fn new(user: &str, domain: &str, local: SocketAddr, edge: SocketAddr) -> Self {
        Self::on(UdpSocket::bind(local).unwrap_or_else(|e| panic!("{local}: {e}")), user, domain, edge)
    }

    /// A phone on a socket that was opened elsewhere, in another network namespace for example.
    ///
    /// # Panics
    /// The socket has no address.
    #[must_use]
    pub fn on(socket: UdpSocket, user: &str, domain: &str, edge: SocketAddr) -> Self {
        let local = socket.local_addr().expect("it is bound");
        Self::over(Wire::udp(socket, edge), local, user, domain)
    }

    /// A phone that reaches the edge over this, and has this address there.
    #[must_use]
    pub fn over(wire: Wire, local: SocketAddr, user: &str, domain: &str) -> Self {
        let account = Account { user: user.into(), domain: domain.into(), password: format!("pw-{user}") };
        let register_id = unique("register");
        Self {
            account,
            wire,
            local,
            inbox: Vec::new(),
            seen: Vec::new(),
            answered: Vec::new(),
            cseq: 0,
            register_id,
        }
    }

    /// Loses its connection and makes another: its calls and registrations are the same.
    pub fn reconnect(&mut self, wire: Wire, local: SocketAddr) {
        (self.wire, self.local) = (wire, local);
    }

    /// Its Contact.
    #[must_use]
    pub fn contact(&self) -> String {
        format!("sip:{}@{}{}", self.account.user, self.local, self.wire.parameter)
    }

    /// Registers, with the account's password when asked for it, and again when told to come back later, as phones do
    /// (a machine that is busy with other tests may keep a disk waiting); the final answer.
    pub fn register(&mut self, expires: u32) -> Message {
        wait::until("a place for a registration", || {
            let answer = self.register_once(expires);
            (answer.status() != Some(503) || answer.header("Retry-After").is_none()).then_some(answer)
        })
    }

    /// Registers without patience.
    pub fn register_once(&mut self, expires: u32) -> Message {
        let contact = format!("<{}>;expires={expires}", self.contact());
        let Account { user, domain, .. } = self.account.clone();
        let aor = format!("sip:{user}@{domain}");
        let call_id = self.register_id.clone();
        let tag = unique("r");
        self.transaction(&format!("sip:{domain}"), "REGISTER", |cseq| {
            format!(
                "From: <{aor}>;tag={tag}\r\nTo: <{aor}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
                 Contact: {contact}\r\nExpires: {expires}\r\nUser-Agent: story\r\n"
            )
        }, "")
    }

    /// Calls somebody; returns at the first answer that is final, with the dialog it made if it was a 2xx (its ACK is sent).
    pub fn call(&mut self, target: &str) -> (Message, Option<Dialog>) {
        let call = self.dial(target);
        self.conclude(call)
    }

    /// Sends an INVITE and does not wait.
    pub fn dial(&mut self, target: &str) -> Dialing {
        let Account { user, domain, .. } = self.account.clone();
        let (from, call_id) = (format!("<sip:{user}@{domain}>;tag={}", unique("f")), unique("call"));
        let mut dialing =
            Dialing { target: target.into(), from, call_id, request: String::new(), authorization: None };
        self.send_invite(&mut dialing);
        dialing
    }

    fn send_invite(&mut self, dialing: &mut Dialing) {
        self.cseq += 1;
        let (cseq, contact) = (self.cseq, self.contact());
        let Dialing { target, from, call_id, .. } = &*dialing;
        let authorization = dialing.authorization.as_deref().unwrap_or_default();
        let headers = format!(
            "From: {from}\r\nTo: <{target}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} INVITE\r\nContact: <{contact}>\r\n\
             Content-Type: application/sdp\r\nUser-Agent: story\r\n{authorization}"
        );
        dialing.request = self.request(target, "INVITE", &headers, &self.sdp("sendrecv"));
        self.send(dialing.request.as_bytes());
    }

    /// Waits for the final answer of a call, answering one challenge.
    ///
    /// # Panics
    /// There is none.
    pub fn conclude(&mut self, mut dialing: Dialing) -> (Message, Option<Dialog>) {
        loop {
            let answer = self.final_answer(&dialing.request.clone());
            let status = answer.status().unwrap_or(0);
            if status >= 300 {
                self.ack_failure(&dialing, &answer);
            }
            if matches!(status, 401 | 407) && dialing.authorization.is_none() {
                dialing.authorization = digest::answer(&answer, &self.account, "INVITE", &dialing.target);
                self.send_invite(&mut dialing);
                continue;
            }
            let dialog = (status < 300).then(|| Dialog::of_caller(&dialing, &answer));
            if let Some(dialog) = &dialog {
                self.ack(dialog, answer.cseq());
            }
            return (answer, dialog);
        }
    }

    fn ack_failure(&mut self, dialing: &Dialing, answer: &Message) {
        let cseq = answer.cseq();
        let headers = format!(
            "From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} ACK\r\n",
            dialing.from,
            answer.header("To").unwrap_or_default(),
            dialing.call_id
        );
        let branch = Message::read(dialing.request.as_bytes()).expect("it is ours").branch().to_owned();
        let text = self.with_branch(&branch, &dialing.target, "ACK", &headers, "");
        self.send(text.as_bytes());
    }

    /// Cancels a call that rings.
    pub fn cancel(&mut self, dialing: &Dialing) -> Message {
        let invite = Message::read(dialing.request.as_bytes()).expect("it is ours");
        let headers = format!(
            "From: {}\r\nTo: <{}>\r\nCall-ID: {}\r\nCSeq: {} CANCEL\r\n",
            dialing.from,
            dialing.target,
            dialing.call_id,
            invite.cseq()
        );
        let text = self.with_branch(invite.branch(), &dialing.target, "CANCEL", &headers, "");
        self.send(text.as_bytes());
        self.final_answer(&text)
    }

    /// ACK of a 2xx.
    pub fn ack(&mut self, dialog: &Dialog, cseq: u32) {
        let text = self.in_dialog(dialog, "ACK", cseq, "", "");
        self.send(text.as_bytes());
    }

    /// A request inside a dialog, and its final answer; a 2xx to INVITE has its ACK.
    pub fn ask(&mut self, dialog: &mut Dialog, method: &str, more: &str, body: &str) -> Message {
        dialog.cseq += 1;
        let text = self.in_dialog(dialog, method, dialog.cseq, more, body);
        self.send(text.as_bytes());
        let answer = self.final_answer(&text);
        if method == "INVITE" && answer.status().is_some_and(|s| s < 300) {
            self.ack(&dialog.clone(), dialog.cseq);
        }
        answer
    }

    /// Puts the call on hold, or takes it back.
    pub fn offer_again(&mut self, dialog: &mut Dialog, direction: &str) -> Message {
        let sdp = self.sdp(direction);
        self.ask(
            dialog,
            "INVITE",
            &format!("Contact: <{}>\r\nContent-Type: application/sdp\r\n", self.contact()),
            &sdp,
        )
    }

    /// Hangs up.
    pub fn hang_up(&mut self, dialog: &mut Dialog) -> Message {
        self.ask(dialog, "BYE", "", "")
    }

    fn in_dialog(&self, dialog: &Dialog, method: &str, cseq: u32, more: &str, body: &str) -> String {
        let routes: String = dialog.routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
        let Dialog { local, remote, call_id, target, .. } = dialog;
        let headers = format!(
            "{routes}From: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{more}"
        );
        self.request(target, method, &headers, body)
    }

    /// A request outside a dialog, and its final answer; a challenge is answered once.
    pub fn transaction(
        &mut self,
        uri: &str,
        method: &str,
        headers: impl Fn(u32) -> String,
        body: &str,
    ) -> Message {
        let mut authorization = String::new();
        loop {
            self.cseq += 1;
            let text = self.request(uri, method, &format!("{}{authorization}", headers(self.cseq)), body);
            self.send(text.as_bytes());
            let answer = self.final_answer(&text);
            if !matches!(answer.status(), Some(401 | 407)) || !authorization.is_empty() {
                return answer;
            }
            match digest::answer(&answer, &self.account, method, uri) {
                Some(line) => authorization = line,
                None => return answer,
            }
        }
    }

    /// A call of this phone is wanted: the INVITE.
    ///
    /// # Panics
    /// None comes.
    pub fn rung(&mut self) -> Message {
        self.await_message("an INVITE", |m| m.status().is_none() && m.method() == "INVITE")
    }

    /// A request of some method.
    ///
    /// # Panics
    /// None comes.
    pub fn asked(&mut self, method: &str) -> Message {
        self.await_message(method, |m| m.status().is_none() && m.method() == method)
    }

    /// A response to what it dialled.
    ///
    /// # Panics
    /// None comes.
    pub fn hears(&mut self, dialing: &Dialing, status: u16) -> Message {
        let call_id = dialing.call_id.clone();
        self.await_message(&format!("{status}"), move |m| {
            m.status() == Some(status) && m.call_id() == call_id
        })
    }

    /// Answers a request.
    pub fn answer(&mut self, request: &Message, status: u16, reason: &str) {
        self.answer_with(request, status, reason, "", "");
    }

    /// Accepts a call; the dialog from the side of who was called. Its ACK is waited for.
    ///
    /// # Panics
    /// No ACK comes.
    pub fn accept(&mut self, invite: &Message) -> Dialog {
        let more = format!("Contact: <{}>\r\nContent-Type: application/sdp\r\n", self.contact());
        let sdp = self.sdp(if invite.body.contains("a=sendonly") { "recvonly" } else { "sendrecv" });
        self.answer_with(invite, 200, "OK", &more, &sdp);
        let (call_id, cseq) = (invite.call_id().to_owned(), invite.cseq());
        self.await_message("an ACK", |m| {
            m.method() == "ACK" && m.status().is_none() && m.call_id() == call_id && m.cseq() == cseq
        });
        self.dialog_of(invite)
    }

    /// Answers with more header lines and a body.
    pub fn answer_with(&mut self, request: &Message, status: u16, reason: &str, more: &str, body: &str) {
        let copied = ["Via", "Record-Route", "From", "Call-ID", "CSeq"];
        let kept = |name: &str| request.all(name).map(|v| format!("{name}: {v}\r\n")).collect::<String>();
        let headers: String = copied.iter().map(|name| kept(name)).collect();
        let to = self.to_of(request);
        let text = format!(
            "SIP/2.0 {status} {reason}\r\n{headers}To: {to}\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.answered.push((
            request.branch().to_owned(),
            request.method().to_owned(),
            text.clone().into_bytes(),
        ));
        self.send(text.as_bytes());
    }

    /// The dialog of who accepted this request.
    #[must_use]
    pub fn dialog_of(&self, request: &Message) -> Dialog {
        Dialog::of_callee(request, &self.to_of(request))
    }

    /// The To of our answers: with the dialog's tag, or one made from the Call-ID.
    fn to_of(&self, request: &Message) -> String {
        let to = request.header("To").unwrap_or_default();
        if request.tag("To").is_some() {
            return to.to_owned();
        }
        let tag: String = request.call_id().chars().filter(char::is_ascii_alphanumeric).take(20).collect();
        format!("{to};tag=t{}{tag}", self.account.user)
    }

    /// An offer or answer of one audio stream.
    #[must_use]
    pub fn sdp(&self, direction: &str) -> String {
        let ip = self.local.ip();
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n\
             a=rtpmap:0 PCMU/8000\r\na={direction}\r\n",
            20_000
        )
    }

    /// A request with a branch of its own.
    #[must_use]
    pub fn request(&self, uri: &str, method: &str, headers: &str, body: &str) -> String {
        self.with_branch(&format!("z9hG4bK{}", unique("b")), uri, method, headers, body)
    }

    fn with_branch(&self, branch: &str, uri: &str, method: &str, headers: &str, body: &str) -> String {
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{} {};branch={branch};rport\r\nMax-Forwards: 70\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            self.wire.via,
            self.local,
            body.len()
        )
    }

    /// Sends bytes to the edge.
    pub fn send(&mut self, bytes: &[u8]) {
        self.seen.extend(Message::read(bytes));
        self.wire.send(bytes);
    }

    /// The final answer to a request of ours, which is repeated until it is answered.
    ///
    /// # Panics
    /// There is none.
    pub fn final_answer(&mut self, request: &str) -> Message {
        let sent = Message::read(request.as_bytes()).expect("it is ours");
        let (branch, method) = (sent.branch().to_owned(), sent.method().to_owned());
        let deadline = Deadline::within(wait::LONG);
        let mut repeat = Some(Deadline::within(REPEAT)).filter(|_| !self.wire.is_reliable());
        while deadline.left().is_some() {
            let is_ours = |m: &Message| m.status().is_some() && m.branch() == branch && m.method() == method;
            match self.take(is_ours) {
                Some(answer) if answer.status() >= Some(200) => return answer,
                Some(_) if method == "INVITE" => repeat = None,
                Some(_) => {}
                None => self.listen(),
            }
            if repeat.is_some_and(|at| at.left().is_none()) {
                self.send(request.as_bytes());
                repeat = Some(Deadline::within(REPEAT));
            }
        }
        panic!("{} has no answer to:\n{request}", self.account.user)
    }

    /// The next message that fits.
    ///
    /// # Panics
    /// None comes.
    pub fn await_message(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        let deadline = Deadline::within(wait::LONG);
        while deadline.left().is_some() {
            match self.take(&fits) {
                Some(message) => return message,
                None => self.listen(),
            }
        }
        panic!("{} waited in vain for {what}; it has {:#?}", self.account.user, self.inbox)
    }

    /// What has come so far and was not asked for.
    pub fn unexpected(&mut self) -> &[Message] {
        self.listen();
        &self.inbox
    }

    fn take(&mut self, fits: impl Fn(&Message) -> bool) -> Option<Message> {
        let at = self.inbox.iter().position(fits)?;
        Some(self.inbox.remove(at))
    }

    /// Takes in what has come, waiting a moment for it.
    fn listen(&mut self) {
        let Some(message) = self.wire.receive() else { return };
        self.seen.push(message.clone());
        if message.status().is_none() {
            let repeated =
                self.answered.iter().rev().find(|(b, m, _)| b == message.branch() && m == message.method());
            if let Some((_, _, answer)) = repeated {
                self.wire.send(answer);
                return;
            }
            if message.method() == "OPTIONS" {
                self.answer(&message, 200, "OK");
                return;
            }
            let known = self.inbox.iter().any(|m| m.start == message.start && m.branch() == message.branch());
            if known && message.method() != "ACK" {
                return;
            }
        }
        self.inbox.push(message);
    }
}

/// The expiry that an answer to REGISTER grants to a Contact.
#[must_use]
pub fn granted(answer: &Message, contact: &str) -> Option<u32> {
    answer
        .all("Contact")
        .find(|value| address(value) == contact)
        .and_then(|value| parameter(value, "expires")?.parse().ok())
}

/// A word that nobody else has.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether something answers an OPTIONS there, whatever it says.
#[must_use]
pub fn answers(address: SocketAddr) -> bool {
    let Ok(socket) = UdpSocket::bind((address.ip(), 0)) else { return false };
    let Ok(local) = socket.local_addr() else { return false };
    let id = unique("o");
    let text = format!(
        "OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{id};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:story@{local}>;tag={id}\r\nTo: <sip:{address}>\r\nCall-ID: {id}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(Duration::from_millis(200))).is_ok()
        && socket.send_to(text.as_bytes(), address).is_ok()
        && socket.recv_from(&mut buffer).is_ok()
}
