//! An open-loop load generator: caller and called side in one thread, so that one clock stamps both ends of every hop.

use crate::messages::{DOMAIN, Request, answer};
use anyhow::Result;
use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signalbox_sip::{HeaderName, Limits, Message, Method};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Users that are registered before calls begin.
pub(crate) const CALLERS: u64 = 500;

/// What a run does with each slot of its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A REGISTER of a user of its own.
    Register,
    /// INVITE–180–200–ACK–BYE.
    Call,
    /// A call that stays up.
    CallAndStay,
    /// An INFO in one of the calls that are up.
    Inside,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub offered: u64,
    pub done: u64,
    pub wall: Duration,
    /// From one socket's send to the other's receive, microseconds, every message through the subject.
    pub hop_us: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn lost(&self) -> u64 {
        self.offered - self.done
    }
}

struct Call {
    to_tag: String,
    target: String,
    routes: Vec<String>,
    acked: bool,
}

/// Both ends of the traffic through one subject.
pub(crate) struct Load {
    caller: UdpSocket,
    called: UdpSocket,
    caller_address: SocketAddr,
    called_address: SocketAddr,
    subject: SocketAddr,
    next: u64,
    calls: HashMap<u64, Call>,
    up: Vec<u64>,
    sent: HashMap<(u64, u8), Instant>,
    text: String,
    done: u64,
    hop: Histogram<u64>,
}

fn bound() -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let raw = socket2::SockRef::from(&socket);
    raw.set_recv_buffer_size(8 << 20)?;
    raw.set_send_buffer_size(8 << 20)?;
    Ok(socket)
}

impl Load {
    /// Opens both sockets; the subject is told where the called side is.
    pub(crate) fn new() -> Result<Self> {
        let (caller, called) = (bound()?, bound()?);
        let (caller_address, called_address) = (caller.local_addr()?, called.local_addr()?);
        Ok(Self {
            caller,
            called,
            caller_address,
            called_address,
            subject: called_address,
            next: 0,
            calls: HashMap::new(),
            up: Vec::new(),
            sent: HashMap::new(),
            text: String::with_capacity(2048),
            done: 0,
            hop: Histogram::new(3)?,
        })
    }

    /// Address of the called side: the subject's backend.
    pub(crate) fn backend(&self) -> SocketAddr {
        self.called_address
    }

    /// Turns to a subject.
    pub(crate) fn aim(&mut self, subject: SocketAddr) {
        self.subject = subject;
    }

    /// Offers `rate` a second for `seconds`, then waits a little for the last answers.
    pub(crate) fn run(&mut self, work: Work, rate: u64, seconds: u64) -> Result<Outcome> {
        self.offer(work, rate, |_| rate * seconds)
    }

    /// Offers `rate` a second until something else is over, then waits a little for the last answers.
    pub(crate) fn run_until(
        &mut self,
        work: Work,
        rate: u64,
        mut over: impl FnMut() -> bool,
    ) -> Result<Outcome> {
        self.offer(work, rate, |offered| if over() { offered } else { u64::MAX })
    }

    /// `total` says how many there will be, after so many.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn offer(&mut self, work: Work, rate: u64, mut total: impl FnMut(u64) -> u64) -> Result<Outcome> {
        const GRACE: Duration = Duration::from_millis(1500);
        self.done = 0;
        self.hop.reset();
        self.sent.clear();
        let begun = Instant::now();
        let (mut offered, mut last) = (0u64, Instant::now());
        loop {
            let total = total(offered);
            if self.done >= total || (offered == total && last.elapsed() > GRACE) {
                break;
            }
            let due = (begun.elapsed().as_nanos() as u64).saturating_mul(rate) / 1_000_000_000;
            while offered < due.min(total) {
                self.begin(work)?;
                offered += 1;
                last = Instant::now();
            }
            self.drain()?;
        }
        let wall = begun.elapsed();
        Ok(Outcome { offered, done: self.done, wall, hop_us: self.hop.clone() })
    }

    /// Registers the callers, so that their calls are let through.
    pub(crate) fn register_callers(&mut self) -> Result<()> {
        let outcome = self.run(Work::Register, CALLERS, 1)?;
        anyhow::ensure!(outcome.lost() == 0, "{} of {CALLERS} callers could not register", outcome.lost());
        Ok(())
    }

    fn begin(&mut self, work: Work) -> Result<()> {
        let id = self.next;
        match work {
            Work::Register => {
                self.next += 1;
                self.request("REGISTER", &format!("sip:{DOMAIN}"), id, 1, None)
            }
            Work::Call | Work::CallAndStay => {
                self.next += 1;
                let user = if work == Work::Call { "600" } else { "601" };
                self.calls.insert(
                    id,
                    Call {
                        to_tag: String::new(),
                        target: format!("sip:{user}@{DOMAIN}"),
                        routes: Vec::new(),
                        acked: false,
                    },
                );
                self.request("INVITE", &format!("sip:{user}@{DOMAIN}"), id, 1, None)
            }
            Work::Inside => {
                let call = self.up[(self.next as usize) % self.up.len()];
                self.next += 1;
                let cseq = 2 + u32::try_from(self.next)?;
                self.request("INFO", "", call, cseq, Some(cseq))
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn request(&mut self, method: &str, uri: &str, id: u64, cseq: u32, branch: Option<u32>) -> Result<()> {
        let call = self.calls.get(&id);
        let register = method == "REGISTER";
        let user = if register { id } else { id % CALLERS };
        let own = format!("u{user}");
        let to_user = if register { &own } else { "600" };
        let to_tag = call.map(|c| c.to_tag.as_str()).filter(|t| !t.is_empty());
        let uri = if uri.is_empty() { call.map_or("", |c| c.target.as_str()) } else { uri };
        let routes = call.map_or(&[][..], |c| c.routes.as_slice());
        let number = id << 24 | u64::from(branch.unwrap_or(cseq)) << 4 | code(method) as u64;
        let request = Request {
            method,
            uri,
            from: self.caller_address,
            user,
            to_user,
            to_tag,
            call: id,
            cseq,
            branch: number,
            routes,
        };
        request.write(&mut self.text);
        self.sent.insert((id, code(method)), Instant::now());
        self.caller.send_to(self.text.as_bytes(), self.subject)?;
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let mut fds = [
            PollFd::new(self.caller.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.called.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::from(1u8))?;
        let mut buffer = [0u8; 4096];
        while let Ok((len, from)) = self.called.recv_from(&mut buffer) {
            self.on_called(&buffer[..len], from)?;
        }
        while let Ok((len, _)) = self.caller.recv_from(&mut buffer) {
            self.on_caller(&buffer[..len])?;
        }
        Ok(())
    }

    fn hop(&mut self, id: u64, step: u8) {
        if let Some(at) = self.sent.remove(&(id, step)) {
            let _ = self.hop.record(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// The called side answers everything.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn on_called(&mut self, bytes: &[u8], from: SocketAddr) -> Result<()> {
        let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else { return Ok(()) };
        let Some(text) = std::str::from_utf8(bytes).ok().filter(|_| message.is_request()) else {
            return Ok(());
        };
        let id = call_number(message.call_id());
        let method = message.method();
        if method == Method::Ack {
            return Ok(());
        }
        if let Some(id) = id {
            self.hop(id, text.as_bytes()[0]);
        }
        let tag = format!("t{}", id.unwrap_or(0));
        let answers: &[&str] =
            if method == Method::Invite { &["180 Ringing", "200 OK"] } else { &["200 OK"] };
        for status in answers {
            answer(text, status, &tag, self.called_address, &mut self.text);
            if let Some(id) = id.filter(|_| *status == "200 OK") {
                self.sent.insert((id, b'2'), Instant::now());
            }
            self.called.send_to(self.text.as_bytes(), from)?;
        }
        Ok(())
    }

    fn on_caller(&mut self, bytes: &[u8]) -> Result<()> {
        let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else { return Ok(()) };
        let (Some(status), Some(id)) = (message.status(), call_number(message.call_id())) else {
            return Ok(());
        };
        if !(200..300).contains(&status) {
            return Ok(());
        }
        self.hop(id, b'2');
        match message.cseq().method {
            b"INVITE" => self.answered(id, &message),
            b"BYE" => {
                self.done += u64::from(self.calls.remove(&id).is_some());
                Ok(())
            }
            _ => {
                self.done += 1;
                Ok(())
            }
        }
    }

    fn answered(&mut self, id: u64, message: &Message<&[u8]>) -> Result<()> {
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        let stays = call.target.starts_with("sip:601");
        let first = !call.acked;
        if first {
            call.acked = true;
            call.to_tag =
                message.to_tag().map(|t| String::from_utf8_lossy(t).into_owned()).unwrap_or_default();
            let contact = message.value(HeaderName::Contact).unwrap_or_default();
            let contact = String::from_utf8_lossy(contact);
            call.target =
                contact.trim().trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
            call.routes = message
                .values(HeaderName::RecordRoute)
                .map(|r| String::from_utf8_lossy(r).into_owned())
                .collect();
            call.routes.reverse();
        }
        self.request("ACK", "", id, 1, Some(99))?;
        if stays && first {
            self.up.push(id);
            self.done += 1;
        } else if first {
            self.request("BYE", "", id, 2, None)?;
        }
        Ok(())
    }
}

/// First letter of a method: enough to tell the steps of a call apart.
fn code(method: &str) -> u8 {
    method.as_bytes()[0]
}

/// The number in `bench-<number>@load`.
fn call_number(call_id: &[u8]) -> Option<u64> {
    let rest = call_id.strip_prefix(b"bench-")?;
    let digits = rest.split(|b| *b == b'@').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
