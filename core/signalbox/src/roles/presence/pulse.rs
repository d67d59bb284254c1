//! Signs of life: this process's own, and everybody else's.
//!
//! It runs on a thread of its own with a runtime for each connection: dropping that ends whatever a broken client would
//! still try.

use super::{Known, View};
use signalbox_base::{EdgeIdentity, Mono, Text};
use signalbox_bus::heartbeat::{Beat, Line, Pulse};
use signalbox_bus::presence::{News, Presence, Seen, State};
use signalbox_bus::publisher::Failure;
use signalbox_edge::EdgeHandle;
use signalbox_engine::remote::{Liveness, Update};
use signalbox_io::Clock;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Between two tries to reach the bus.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// The last words may take this long.
const FAREWELL: Duration = Duration::from_millis(500);

pub(super) struct Speaking {
    pub(super) pulse: Pulse,
    pub(super) identity: EdgeIdentity,
    /// This process, by a name that no other has.
    pub(super) process: Text,
    pub(super) edge: Option<EdgeHandle>,
    pub(super) every: Duration,
    /// Who is silent for so long is lost.
    pub(super) patience: Duration,
    pub(super) known: Known,
    pub(super) view: watch::Sender<View>,
    /// Edges known from before.
    pub(super) expected: Vec<Text>,
}

/// What lives on from connection to connection.
struct Life {
    clock: Clock,
    presence: Presence,
    own: Text,
    number: u64,
    /// When the last heartbeat went out, until it is back.
    sent: Option<(u64, Mono)>,
    round_trip: Option<Duration>,
    attempted: u64,
}

impl Life {
    /// Waits until somebody may have to be found lost.
    async fn due(&self) {
        match self.presence.due() {
            Some(at) => tokio::time::sleep(at.since(self.clock.now().mono)).await,
            None => std::future::pending().await,
        }
    }
}

impl Speaking {
    /// Speaks and listens until the process ends.
    pub(super) fn run(self, stop: &watch::Receiver<bool>) {
        let observer = || Text::from(format!("observer-{}-{}", self.identity.edge, std::process::id()));
        let own = if self.edge.is_some() { self.identity.edge.clone() } else { observer() };
        let mut presence = Presence::new(own.clone(), self.process.clone(), self.patience);
        for edge in self.expected.iter().filter(|edge| **edge != own) {
            presence.expect(edge.clone(), None);
        }
        let clock = Clock::start();
        let mut life = Life {
            clock,
            presence,
            own,
            number: 0,
            sent: None,
            round_trip: None,
            attempted: self.attempted(),
        };
        let (mut pause, mut away) = (RETRY_FIRST, false);
        while !*stop.borrow() {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!(%error, "no heartbeats"),
            };
            let began = life.clock.now().mono;
            let mut stop = stop.clone();
            let ended = runtime.block_on(self.session(&mut life, &mut stop));
            runtime.shutdown_background();
            let Err(failure) = ended else { return };
            if !std::mem::replace(&mut away, true) {
                tracing::debug!(error = %failure, "heartbeats are not heard; nobody is judged meanwhile");
            }
            if life.clock.now().mono.since(began) > RETRY_LONGEST {
                (pause, away) = (RETRY_FIRST, false);
            }
            self.publish(&life);
            let Ok(waiting) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
                return;
            };
            waiting.block_on(async {
                let _ = tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await;
            });
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }

    /// One connection: until it breaks, or the process ends.
    async fn session(&self, life: &mut Life, stop: &mut watch::Receiver<bool>) -> Result<(), Failure> {
        let mut line = tokio::select! {
            line = self.pulse.open(&self.identity.cluster) => line?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let mut beats = tokio::time::interval(self.every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                beat = line.next() => self.heard(life, beat?).await,
                _ = beats.tick() => {
                    self.beat(life, &line, false).await?;
                    self.publish(life);
                }
                () = life.due() => self.judge(life).await,
                _ = stop.wait_for(|stop| *stop) => {
                    let _ = tokio::time::timeout(FAREWELL, self.beat(life, &line, true)).await;
                    return Ok(());
                }
            }
        }
    }

    async fn beat(&self, life: &mut Life, line: &Line, stopping: bool) -> Result<(), Failure> {
        life.number += 1;
        let now = life.clock.now();
        let (journal, figures) = match &self.edge {
            Some(edge) => (edge.settings().journal, Some(edge.status())),
            None => Default::default(),
        };
        let attempted = self.attempted();
        let new = attempted.saturating_sub(std::mem::replace(&mut life.attempted, attempted));
        let beat = Beat {
            edge: life.own.clone(),
            observer: self.edge.is_none(),
            stopping,
            takes_at: self.edge.as_ref().and_then(EdgeHandle::takes_at),
            calls: figures.as_ref().map_or(0, |figures| figures.calls()),
            registrations: figures.as_ref().map_or(0, |figures| figures.registrations()),
            cps: (new as f64 / self.every.as_secs_f64()).round() as u64,
            number: life.number,
            process: self.process.clone(),
        };
        life.sent = Some((life.number, now.mono));
        line.beat(&life.own, &beat.encode(&self.identity.cluster, journal, now.wall)).await
    }

    fn attempted(&self) -> u64 {
        self.edge.as_ref().map_or(0, |edge| edge.status().counters.calls_attempted)
    }

    async fn heard(&self, life: &mut Life, beat: Beat) {
        let now = life.clock.now();
        if (&beat.edge, &beat.process) == (&life.own, &self.process)
            && let Some((_, sent)) = life.sent.take_if(|(number, _)| *number == beat.number)
        {
            life.round_trip = Some(now.mono.since(sent));
        }
        let was_lost = life.presence.get(&beat.edge).is_some_and(|seen| seen.state == State::Lost);
        match life.presence.heard(beat, now) {
            Some(News::Changed(edge)) => {
                if was_lost {
                    tracing::info!(%edge, "the edge is heard again");
                }
                self.tell(life, &[edge]).await;
            }
            Some(News::Restarted(edge)) => {
                // Between its processes it was lost, however short that was.
                let lost = self.peer(life, &edge, Liveness::Lost);
                self.pass_on(lost.into_iter().collect()).await;
                self.tell(life, &[edge]).await;
            }
            Some(News::Twin) => {
                let (edge, takes_at) =
                    (&life.own, life.presence.twin(now.mono).and_then(|twin| twin.takes_at));
                tracing::error!(%edge, ?takes_at, "another process on this bus is an edge of the same name: give one another edge.name, or stop it");
            }
            None => {}
        }
        self.publish(life);
    }

    async fn judge(&self, life: &mut Life) {
        let lost = life.presence.judge(life.clock.now().mono);
        for edge in &lost {
            tracing::warn!(%edge, "the edge is not heard any more: calls for its phones get 480 until it is back");
        }
        self.tell(life, &lost).await;
        self.publish(life);
    }

    /// Tells the engine how these edges are now.
    async fn tell(&self, life: &Life, names: &[Text]) {
        let update = |name: &Text| {
            let liveness = match life.presence.get(name)?.state {
                State::Alive => Liveness::Alive,
                State::Lost => Liveness::Lost,
                State::Stopped => Liveness::Stopped,
            };
            self.peer(life, name, liveness)
        };
        self.pass_on(names.iter().filter_map(update).collect()).await;
    }

    fn peer(&self, life: &Life, name: &Text, liveness: Liveness) -> Option<Update> {
        let Seen { beat, heard_at, .. } = life.presence.get(name)?;
        let before = || self.known.lock().cache.peer(name).and_then(|peer| peer.address);
        let address = if heard_at.is_some() { beat.takes_at } else { before() };
        Some(Update::Peer { edge: name.clone(), address, liveness })
    }

    /// To what is known, and to the engine. An edge that has gone needs nothing.
    async fn pass_on(&self, updates: Vec<Update>) {
        if updates.is_empty() {
            return;
        }
        self.known.apply(&updates);
        if let Some(edge) = &self.edge {
            let _ = edge.remote(updates).await;
        }
    }

    fn publish(&self, life: &Life) {
        let edges = life.presence.iter().map(|(name, seen)| (name.clone(), seen.clone())).collect();
        let now = life.clock.now().mono;
        let (hears, settled) = (life.presence.hears(now), life.presence.is_settled(now));
        let round_trip_ms = life.round_trip.map(|span| span.as_secs_f64() * 1e3);
        let twin = life.presence.twin(now).cloned();
        self.view.send_replace(View { edges, hears, settled, round_trip_ms, twin });
    }
}
