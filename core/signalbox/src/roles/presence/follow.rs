//! Who is registered at other edges: their events from the bus, into the engine and the file.

use super::Known;
use super::file::{Before, Cached};
use signalbox_base::{Mono, Text, Wall};
use signalbox_bus::{Bus, Delivered, Error, Filter, Hint, Request, Start, Subscription};
use signalbox_edge::{EdgeHandle, NoAnswer};
use signalbox_engine::remote::{self, DOMAINS, Update, Version};
use signalbox_io::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Events of one turn.
const BATCH: usize = 256;
/// Between two writes of the file, at least; it grows with what a write takes.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Between two tries to reach the bus.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

pub(super) struct Following {
    pub(super) bus: Arc<dyn Bus>,
    /// This edge: its own events are not news.
    pub(super) own: Text,
    pub(super) edge: EdgeHandle,
    pub(super) known: Known,
    pub(super) file: Cached,
    /// Every binding in force was told or refreshed within this.
    pub(super) longest: Duration,
}

/// The process ends.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever asks has gone: that is the end too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Why reading ended.
enum Ended {
    /// The process ends, or the engine is gone.
    Stopped,
    /// The bus is away.
    Away(Error),
}

/// Where reading stands, and what of it is not in the file.
struct Place {
    clock: Clock,
    hint: Option<Hint>,
    moved: bool,
    written: Mono,
    pause: Duration,
}

impl Following {
    /// Follows until the process ends; a bus that is away is waited for, and what is known is used meanwhile.
    pub(super) async fn run(self, before: Option<Before>, mut stop: watch::Receiver<bool>) {
        let clock = Clock::start();
        let hint = before.as_ref().and_then(Before::hint);
        // The engine began with it.
        let updates = before.as_ref().map(Before::updates).unwrap_or_default();
        if !updates.is_empty() {
            tracing::info!(
                updates = updates.len(),
                "what was known of other edges is in use until the bus tells more"
            );
        }
        self.known.apply(updates);
        let written = clock.now().mono;
        let mut place = Place { clock, hint, moved: false, written, pause: WRITE_EVERY };
        let mut pause = RETRY_FIRST;
        loop {
            let started = place.clock.now().mono;
            match self.follow(&mut place, &mut stop).await {
                Ended::Stopped => break,
                Ended::Away(error) => tracing::debug!(%error, "other edges' bindings are not followed"),
            }
            if place.clock.now().mono.since(started) > RETRY_LONGEST {
                pause = RETRY_FIRST;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_LONGEST),
                () = stopped(&mut stop) => break,
            }
        }
        self.write(&mut place).await;
    }

    async fn follow(&self, place: &mut Place, stop: &mut watch::Receiver<bool>) -> Ended {
        let now = place.clock.now().wall;
        let start = place.hint.clone().map_or_else(|| self.oldest(now), Start::Hint);
        let filter = Filter { kinds: DOMAINS.map(str::to_owned).to_vec(), tenants: Vec::new() };
        let request = Request { name: None, filter, start, linger: Duration::ZERO };
        let mut subscription: Box<dyn Subscription> = tokio::select! {
            subscription = self.bus.subscribe(request) => match subscription {
                Ok(subscription) => subscription,
                Err(error) => return Ended::Away(error),
            },
            () = stopped(stop) => return Ended::Stopped,
        };
        loop {
            let batch = tokio::select! {
                batch = subscription.next_batch(BATCH) => batch,
                () = tokio::time::sleep(place.pause) => {
                    // Nothing is told: what has expired goes, and what came before is written.
                    if self.take(Vec::new()).await.is_err() {
                        return Ended::Stopped;
                    }
                    self.write_if_due(place).await;
                    continue;
                }
                () = stopped(stop) => return Ended::Stopped,
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Ended::Away(error),
            };
            let updates: Vec<Update> = batch.events.iter().filter_map(|event| self.read(event)).collect();
            place.moved |= batch.hint.is_some();
            if self.take(updates).await.is_err() {
                return Ended::Stopped;
            }
            place.hint = batch.hint.or(place.hint.take());
            self.write_if_due(place).await;
        }
    }

    /// Without a place to read on from: whoever is registered now was told of since then.
    fn oldest(&self, now: Wall) -> Start {
        let back = i64::try_from(self.longest.as_micros()).unwrap_or(i64::MAX);
        Start::Time(Wall(now.0.saturating_sub(back)))
    }

    fn read(&self, event: &Delivered) -> Option<Update> {
        let edge = &event.source.edge;
        if *edge == self.own || **edge == *"store" {
            return None;
        }
        let version = Version { journal: event.source.journal, seq: event.seq, at: event.time };
        match remote::read(edge, version, (&event.kind, &event.tenant, &event.subject), &event.data) {
            Ok(update) => update,
            Err(error) => {
                // Its binding expires here in its time.
                tracing::debug!(%error, %edge, "an event of another edge is passed over");
                None
            }
        }
    }

    /// Into what is known, and to the engine.
    async fn take(&self, updates: Vec<Update>) -> Result<(), NoAnswer> {
        self.known.apply(&updates);
        self.edge.remote(updates).await
    }

    async fn write_if_due(&self, place: &mut Place) {
        let due = place.clock.now().mono.since(place.written) >= place.pause;
        if due && (place.moved || self.known.lock().changed) {
            self.write(place).await;
        }
    }

    async fn write(&self, place: &mut Place) {
        let (file, known, hint) = (self.file.clone(), self.known.clone(), place.hint.clone());
        let began = place.clock.now().mono;
        let written = tokio::task::spawn_blocking(move || {
            let copy = known.copy();
            file.write(&copy, hint.as_ref())
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "what is known of other edges is not on disk; it is learnt again after a restart");
        }
        place.written = place.clock.now().mono;
        // A twentieth of the time at most.
        place.pause = WRITE_EVERY.max(place.written.since(began) * 20);
        place.moved = false;
    }
}
