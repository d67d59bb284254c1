//! What the relay's thread does.

mod auditing;
mod connect;

use super::audit::Audit;
use super::machine::{Input, Machine, Meta, Note, Output, State};
use super::origin::Origin;
use super::readback::{Auditing, ReadBack};
use super::run::{Clock, Notes, RelayOptions, RelayStatus};
use super::telling::Telling;
use crate::event::{Delivered, Source};
use crate::publisher::{Broker, Encoder, LaneName, Outgoing, Own, Publisher, Ticket, Told};
use crate::subscription::Error;
use crate::wire::key_hash;
use futures_util::FutureExt;
use signalbox_base::{EventSeq, Mono, Text, Wall};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::Level;

/// What was told by the broker is taken in at most so many at a time.
const TOLD_AT_ONCE: usize = 512;
/// Pause before what could not be loaded is loaded again.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

pub(super) fn run(
    origin: Box<dyn Origin>,
    broker: &Arc<dyn Broker>,
    options: RelayOptions,
    notes: Notes,
    stopping: watch::Receiver<Option<Duration>>,
    shared: Arc<Mutex<RelayStatus>>,
) {
    let mut driver = Driver {
        origin,
        broker: Arc::clone(broker),
        options,
        notes,
        stopping,
        stop_told: false,
        shared,
        machine: None,
        queue: VecDeque::new(),
        fresh: Vec::new(),
        kept: VecDeque::new(),
        ahead: VecDeque::new(),
        looked: None,
        audit: None,
        telling: Telling::default(),
        clock: Clock::new(),
    };
    loop {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the relay has no runtime and ends");
                return;
            }
        };
        let over = runtime.block_on(driver.session());
        runtime.shutdown_background();
        if over {
            driver.tell_status();
            return;
        }
    }
}

struct Driver {
    origin: Box<dyn Origin>,
    broker: Arc<dyn Broker>,
    options: RelayOptions,
    notes: Notes,
    stopping: watch::Receiver<Option<Duration>>,
    /// The machine knows that it is to stop.
    stop_told: bool,
    shared: Arc<Mutex<RelayStatus>>,
    /// `None` until what was saved is loaded.
    machine: Option<Machine>,
    queue: VecDeque<Output>,
    fresh: Vec<Output>,
    /// Encoded and not yet forgotten, in order.
    kept: VecDeque<Outgoing>,
    /// Read and not yet taken by the machine, in order.
    ahead: VecDeque<Delivered>,
    looked: Option<(EventSeq, Option<Wall>)>,
    audit: Option<Audit>,
    telling: Telling,
    clock: Clock,
}

/// A connection and what belongs to it.
struct Link {
    lanes: Vec<LaneName>,
    publisher: Box<dyn Publisher>,
    encoder: Box<dyn Encoder>,
    source: Source,
    /// At home between audits.
    own: Option<Box<dyn Own>>,
    auditing: Option<Auditing>,
    audit_at: Mono,
}

/// What a session waited for.
enum Event {
    Told(Told),
    News,
    Stop,
    Due,
    Audited(Box<dyn Own>, Result<ReadBack, Text>),
}

impl Driver {
    /// One runtime's life: until a connection is dropped (false) or the relay ends (true).
    async fn session(&mut self) -> bool {
        if self.machine.is_none() && !self.load().await {
            return true;
        }
        let mut link: Option<Link> = None;
        self.feed(Input::Due);
        loop {
            while let Some(output) = self.queue.pop_front() {
                match output {
                    Output::Connect => {
                        self.tell_status();
                        link = self.connect().await;
                    }
                    Output::Drop => {
                        self.kept.clear();
                        self.ahead.clear();
                        return false;
                    }
                    Output::Done => return true,
                    Output::Save => {
                        if !self.save().await {
                            return true;
                        }
                    }
                    Output::Note(note) => self.note(&note),
                    Output::Forget(through) => self.forget(through),
                    Output::Read { from, events } => self.read(from, events, link.as_mut()).await,
                    Output::Publish { ticket, seq } => self.publish(ticket, seq, link.as_mut()),
                }
            }
            self.look().await;
            self.tell_status();
            self.start_audit(link.as_mut());
            let event = self.wait(link.as_mut()).await;
            self.take(event, link.as_mut()).await;
        }
    }

    /// False when the relay ends before it has begun.
    async fn load(&mut self) -> bool {
        loop {
            let loaded = self.origin.load().await.and_then(|saved| Ok((saved, self.origin.end()?)));
            match loaded {
                Ok((saved, end)) => {
                    let RelayOptions { limits, seed, .. } = self.options;
                    self.machine = Some(Machine::new(saved, end, limits, seed));
                    return true;
                }
                Err(error) => {
                    tracing::error!(%error, "the relay cannot load its place");
                    lock(&self.shared).status.error = Some(error.to_string().into());
                }
            }
            let stopped = self.stopping.wait_for(Option::is_some);
            if tokio::time::timeout(LOAD_AGAIN, stopped).await.is_ok() {
                return false;
            }
        }
    }

    fn feed(&mut self, input: Input) {
        let Some(machine) = &mut self.machine else { return };
        machine.handle(self.clock.now(), input, &mut self.fresh);
        self.queue.extend(self.fresh.drain(..));
    }

    fn flowing(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.state() == State::Flowing)
    }

    fn end(&self) -> EventSeq {
        self.machine.as_ref().map_or(EventSeq(0), Machine::end)
    }

    fn feed_stop(&mut self) {
        self.stop_told = true;
        let within = self.stopping.borrow().unwrap_or(Duration::ZERO);
        let by = self.clock.now().plus(within);
        self.feed(Input::Stop(by));
    }

    fn note(&mut self, note: &Note) {
        let said = self.telling.say(self.clock.now(), note);
        self.log(&said);
        (self.notes)(note);
    }

    fn log(&self, (level, text): &(Level, String)) {
        let broker = self.broker.name();
        match *level {
            Level::ERROR => tracing::error!(broker, "{text}"),
            Level::WARN => tracing::warn!(broker, "{text}"),
            Level::INFO => tracing::info!(broker, "{text}"),
            _ => tracing::debug!(broker, "{text}"),
        }
    }

    /// False when another relay has taken over.
    async fn save(&mut self) -> bool {
        let Some(machine) = &self.machine else { return true };
        match self.origin.save(&machine.saved()).await {
            Ok(()) => true,
            Err(error @ Error::Fenced(_)) => {
                tracing::error!(%error, "the relay ends");
                lock(&self.shared).status.error = Some(error.to_string().into());
                false
            }
            // An older place means more to compare after a crash, nothing else.
            Err(error) => {
                tracing::warn!(%error, "the relay's place is not saved");
                true
            }
        }
    }

    fn forget(&mut self, through: EventSeq) {
        while self.kept.front().is_some_and(|kept| kept.id.seq <= through) {
            self.kept.pop_front();
        }
    }

    async fn read(&mut self, from: EventSeq, events: usize, link: Option<&mut Link>) {
        let Some(link) = link.filter(|_| self.flowing()) else { return };
        if self.ahead.front().is_some_and(|event| event.seq != from) {
            self.ahead.clear();
        }
        if self.ahead.is_empty() {
            let mut read = Vec::with_capacity(events);
            match self.origin.read(from, events, &mut read).await {
                Ok(Some(gap)) => self.feed(Input::Overrun(gap.to)),
                Ok(None) => {}
                Err(error) => {
                    self.feed(Input::Told(Told::Lost(format!("the journal: {error}").into())));
                    return;
                }
            }
            self.ahead.extend(read);
        }
        while let Some(event) = self.ahead.pop_front() {
            if !self.flowing() {
                return;
            }
            let outgoing = match link.encoder.encode(&event, &link.lanes) {
                Ok(outgoing) => outgoing,
                Err(why) => return self.feed(Input::Unsendable(event.seq, why)),
            };
            let meta = Meta {
                seq: event.seq,
                journal: event.source.journal,
                lane: outgoing.lane,
                key: key_hash(&outgoing.key),
                bytes: outgoing.weight(),
                recorded: event.recorded,
            };
            if !self.machine.as_ref().is_some_and(|machine| machine.takes(meta.bytes)) {
                self.ahead.push_front(event);
                break;
            }
            self.kept.push_back(outgoing);
            self.feed(Input::Read(meta));
        }
        self.feed(Input::ReadDone);
        // The client's tasks send while more is read.
        tokio::task::yield_now().await;
    }

    fn publish(&mut self, ticket: Ticket, seq: EventSeq, link: Option<&mut Link>) {
        let Some(link) = link.filter(|_| self.flowing()) else { return };
        let at = self.kept.partition_point(|kept| kept.id.seq < seq);
        let Some(outgoing) = self.kept.get(at).filter(|kept| kept.id.seq == seq) else { return };
        if let Err(failure) = link.publisher.publish(ticket, outgoing) {
            self.feed(Input::Told(Told::Lost(failure.to_string().into())));
        }
    }

    async fn wait(&mut self, link: Option<&mut Link>) -> Event {
        let (now, end) = (self.clock.now(), self.end());
        let idle = Duration::from_secs(3600);
        let due = self.machine.as_ref().and_then(Machine::next_due).map_or(idle, |due| due.since(now));
        let (publisher, auditing, audit_in) = match link {
            Some(link) => {
                let audit_in = if link.own.is_some() { link.audit_at.since(now) } else { idle };
                (Some(&mut link.publisher), link.auditing.as_mut(), audit_in)
            }
            None => (None, None, idle),
        };
        let audit_in = if self.options.audit_interval.is_zero() { idle } else { audit_in };
        let told = async {
            match publisher {
                Some(publisher) => publisher.told().await,
                None => std::future::pending().await,
            }
        };
        let audited = async {
            match auditing {
                Some(auditing) => auditing.await,
                None => std::future::pending().await,
            }
        };
        let stop = async {
            if self.stop_told {
                return std::future::pending().await;
            }
            let _ = self.stopping.wait_for(Option::is_some).await;
        };
        tokio::select! {
            biased;
            told = told => Event::Told(told),
            () = stop => Event::Stop,
            () = self.origin.beyond(end) => Event::News,
            (own, read) = audited => Event::Audited(own, read),
            () = tokio::time::sleep(due.min(audit_in)) => Event::Due,
        }
    }

    async fn take(&mut self, event: Event, link: Option<&mut Link>) {
        match event {
            Event::Told(told) => {
                self.feed(Input::Told(told));
                let Some(link) = link else { return };
                for _ in 1..TOLD_AT_ONCE {
                    let Some(told) = link.publisher.told().now_or_never() else { break };
                    self.feed(Input::Told(told));
                }
            }
            Event::News => {
                if let Ok(end) = self.origin.end() {
                    self.feed(Input::End(end));
                }
            }
            Event::Stop => self.feed_stop(),
            Event::Due => self.feed(Input::Due),
            Event::Audited(own, read) => {
                if let Some(link) = link {
                    link.own = Some(own);
                    link.auditing = None;
                    link.audit_at = self.clock.now().plus(self.options.audit_interval);
                }
                match read {
                    Ok(read) => self.audited(read).await,
                    Err(why) => self.feed(Input::Told(Told::Lost(why))),
                }
            }
        }
    }

    /// Learns how old the oldest event is that waits, where the machine has not read it.
    async fn look(&mut self) {
        let Some(machine) = &self.machine else { return };
        let waits = machine.cursor() < machine.end() && machine.oldest().is_none();
        let next = machine.cursor().next();
        if waits && self.looked.is_none_or(|(seq, _)| seq != next) {
            let look = self.origin.look(next).await.ok().flatten();
            self.looked = Some((next, look.map(|look| look.recorded)));
        }
    }

    fn tell_status(&mut self) {
        let Some(machine) = &self.machine else { return };
        let status = machine.status();
        if status.refused.is_none()
            && let Some(said) = self.telling.taken(self.clock.now())
        {
            self.log(&said);
        }
        let looked = self.looked.filter(|(seq, _)| *seq == status.cursor.next()).and_then(|(_, at)| at);
        let oldest = if status.cursor < status.end { status.oldest.or(looked) } else { None };
        let verified = self.audit.as_ref().map_or(EventSeq(0), Audit::verified);
        *lock(&self.shared) = RelayStatus { broker: self.broker.name(), status, oldest, verified };
    }
}

pub(super) fn lock(shared: &Mutex<RelayStatus>) -> std::sync::MutexGuard<'_, RelayStatus> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
