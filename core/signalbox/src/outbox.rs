//! The store's own events on their way to a broker: its outbox as an [`Origin`], relayed by one process at a time.

use signalbox_base::{EventSeq, JournalId, Text, Wall};
use signalbox_bus::relay::{Link, Look, Origin, Saved};
use signalbox_bus::{BoxFuture, Delivered, Error, Gap, Source};
use signalbox_io::Clock;
use signalbox_store::lease::Lease;
use signalbox_store::outbox::{self, Appended};
use signalbox_store::positions::{self, Claim};
use signalbox_store::{Class, Statement, Store};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// Name of the claim: whoever raises it last relays.
const CLAIM: &str = "relay-outbox";
/// How often is looked for new events.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Events that every broker copy has had for so long are deleted.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// How often old ones are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// Deletes old events of a store that no broker copies, by whoever has the lease; it does so until it is dropped.
pub async fn forget_old(store: Store, lease: Lease) {
    let clock = Clock::start();
    loop {
        if let Err(error) = store.transaction(old_go(&lease, clock.now().wall)).await {
            tracing::debug!(%error, "old events of the outbox stay for now");
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}

fn old_go(lease: &Lease, now: Wall) -> Vec<Statement> {
    vec![lease.guard(), outbox::forget(i64::MAX.unsigned_abs(), kept_since(now))]
}

/// What was appended before this is old.
fn kept_since(now: Wall) -> Wall {
    Wall(now.0.saturating_sub(i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX)))
}

/// The outbox of a store.
pub struct Outbox {
    store: Store,
    /// Connections to the database outlive the runtimes on which a relay polls.
    runtime: Handle,
    cluster: Text,
    /// `relay-outbox-nats`: one place a broker.
    name: String,
    holder: String,
    source: Option<Arc<Source>>,
    claim: Option<Claim>,
    end: Arc<AtomicU64>,
    clock: Clock,
    forgotten: Wall,
}

impl Outbox {
    /// For the relay to the broker called `broker`; `holder` says who, for people.
    pub fn new(store: Store, runtime: Handle, cluster: Text, broker: &str, holder: String) -> Self {
        let name = format!("{CLAIM}-{broker}");
        let (end, clock) = (Arc::new(AtomicU64::new(0)), Clock::start());
        let (source, claim, forgotten) = (None, None, Wall(0));
        Self { store, runtime, cluster, name, holder, source, claim, end, clock, forgotten }
    }

    /// Runs a question to the database where its connections live.
    async fn apart<T: Send + 'static>(
        &self,
        ask: impl Future<Output = Result<T, signalbox_store::Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let answer = self.runtime.spawn(ask).await;
        answer.map_err(|error| Error::Unavailable(error.to_string()))?.map_err(|error| told(&error))
    }

    async fn source(&mut self) -> Result<Arc<Source>, Error> {
        if let Some(source) = &self.source {
            return Ok(Arc::clone(source));
        }
        let store = self.store.clone();
        let id = self.apart(async move { outbox::store_id(&store).await }).await?;
        let journal: JournalId =
            id.parse().map_err(|_| Error::Broken(format!("\"{id}\" is no id of a store")))?;
        let source = Arc::new(Source { cluster: self.cluster.clone(), edge: Text::new("store"), journal });
        Ok(Arc::clone(self.source.insert(source)))
    }

    async fn rows(&mut self, from: EventSeq, max: usize) -> Result<Vec<Delivered>, Error> {
        let source = self.source().await?;
        let (store, end) = (self.store.clone(), Arc::clone(&self.end));
        let rows = self.apart(async move {
            let rows = outbox::read(&store, from.0, max).await?;
            end.fetch_max(outbox::end(&store).await?, Ordering::Relaxed);
            Ok(rows)
        });
        Ok(rows.await?.into_iter().map(|row| delivered(&source, row)).collect())
    }
}

impl Origin for Outbox {
    fn chain(&mut self) -> BoxFuture<'_, Result<Vec<Link>, Error>> {
        Box::pin(async move {
            let source = self.source().await?;
            let store = self.store.clone();
            let (end, oldest) = self
                .apart(async move { Ok((outbox::end(&store).await?, outbox::oldest(&store).await?)) })
                .await?;
            self.end.fetch_max(end, Ordering::Relaxed);
            // Known before the first event: a store has its id from its beginning.
            let first = EventSeq(if oldest == 0 { end.max(1) } else { oldest });
            Ok(vec![Link { source: (*source).clone(), first }])
        })
    }

    fn end(&self) -> Result<EventSeq, Error> {
        Ok(EventSeq(self.end.load(Ordering::Relaxed)))
    }

    fn read<'a>(
        &'a mut self,
        from: EventSeq,
        max: usize,
        out: &'a mut Vec<Delivered>,
    ) -> BoxFuture<'a, Result<Option<Gap>, Error>> {
        Box::pin(async move {
            let events = self.rows(from, max).await?;
            if let Some(first) = events.first().filter(|first| first.seq > from) {
                return Ok(Some(Gap { from, to: EventSeq(first.seq.0 - 1) }));
            }
            out.extend(events);
            Ok(None)
        })
    }

    fn look(&mut self, seq: EventSeq) -> BoxFuture<'_, Result<Option<Look>, Error>> {
        Box::pin(async move {
            let found = self.rows(seq, 1).await?.into_iter().find(|event| event.seq == seq);
            let look = |event: Delivered| Look {
                digest: signalbox_bus::wire::digest(&event),
                recorded: event.recorded,
            };
            Ok(found.map(look))
        })
    }

    fn beyond(&self, seen: EventSeq) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while self.end.load(Ordering::Relaxed) <= seen.0 {
                tokio::time::sleep(LOOK_EVERY).await;
                let store = self.store.clone();
                // A database that is away has no news; reading tells what is wrong with it.
                if let Ok(end) = self.apart(async move { outbox::end(&store).await }).await {
                    self.end.fetch_max(end, Ordering::Relaxed);
                }
            }
        })
    }

    fn load(&mut self) -> BoxFuture<'_, Result<Saved, Error>> {
        Box::pin(async move {
            let (store, name, holder) = (self.store.clone(), self.name.clone(), self.holder.clone());
            let now = self.clock.now().wall;
            let (claim, place, oldest, end) = self
                .apart(async move {
                    let claim = positions::claim(&store, CLAIM, 1, &holder, None, now).await?;
                    let place = outbox::load_place(&store, &name).await?;
                    Ok((claim, place, outbox::oldest(&store).await?, outbox::end(&store).await?))
                })
                .await?;
            self.claim = Some(claim);
            self.end.fetch_max(end, Ordering::Relaxed);
            match place {
                Some(place) => serde_json::from_str(&place)
                    .map_err(|error| Error::Broken(format!("the place of {}: {error}", self.name))),
                None => Ok(Saved { cursor: EventSeq(oldest.max(1) - 1), lanes: Vec::new() }),
            }
        })
    }

    fn save<'a>(&'a mut self, saved: &'a Saved) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let Some(mut claim) = self.claim.clone() else { return Ok(()) };
            let now = self.clock.now().wall;
            let place = serde_json::to_string(saved).map_err(|error| Error::Broken(error.to_string()))?;
            let mut statements = vec![outbox::save_place(&self.name, &place, now)];
            let clean = now.since(self.forgotten) >= FORGET_EVERY;
            if clean {
                statements.push(outbox::forget(saved.cursor.0, kept_since(now)));
            }
            let store = self.store.clone();
            self.apart(async move {
                // Whether the save before was committed may be unknown, and does not matter.
                positions::renew(&store, &mut claim, now).await?;
                statements.insert(0, claim.guard(now));
                store.transaction(statements).await.map(drop)
            })
            .await?;
            if clean {
                self.forgotten = now;
            }
            Ok(())
        })
    }
}

fn told(error: &signalbox_store::Error) -> Error {
    match error.class() {
        Class::Fenced => Error::Fenced(CLAIM.to_owned()),
        _ if error.is_retryable() => Error::Unavailable(error.to_string()),
        _ => Error::Broken(error.to_string()),
    }
}

fn delivered(source: &Arc<Source>, row: Appended) -> Delivered {
    let Appended { sequence, domain_sequence, recorded, draft } = row;
    // `<journal-id>.<sequence>`, of this store or of a journal.
    let own = draft.causation.split_once('.').filter(|(journal, _)| *journal == source.journal.to_string());
    let causation = own.and_then(|(_, seq)| seq.parse().ok()).map_or(EventSeq(0), EventSeq);
    let foreign_cause = if own.is_some() { Text::default() } else { Text::from(draft.causation) };
    Delivered {
        source: Arc::clone(source),
        seq: EventSeq(sequence),
        domain_seq: domain_sequence,
        kind: draft.kind.into(),
        tenant: draft.tenant.into(),
        subject: draft.subject.into(),
        time: draft.at,
        recorded,
        correlation: draft.correlation.into(),
        traceparent: Text::default(),
        causation,
        foreign_cause,
        data: draft.data.into_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_bus::relay::{LaneState, Top};
    use signalbox_store::Config;
    use signalbox_store::lease::{self, Candidate};
    use signalbox_store::outbox::Draft;

    async fn store(dir: &std::path::Path) -> Store {
        let store = Store::open(&Config::parse("sqlite:outbox.db", None, dir).unwrap()).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    fn origin(store: &Store, holder: &str) -> Outbox {
        Outbox::new(store.clone(), Handle::current(), Text::new("lab"), "nats", holder.to_owned())
    }

    async fn append(store: &Store, subject: &str, causation: &str, at: Wall) {
        let draft = Draft {
            kind: "projection.parked.v1".to_owned(),
            tenant: "acme".to_owned(),
            subject: subject.to_owned(),
            at,
            correlation: String::new(),
            causation: causation.to_owned(),
            data: "{}".to_owned(),
        };
        let statements: Vec<Statement> = draft.append(at);
        store.transaction(statements).await.unwrap();
    }

    #[tokio::test]
    async fn given_events_in_the_outbox_when_relayed_then_they_are_numbered_and_name_their_cause() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let mut outbox = origin(&store, "first");
        assert_eq!(outbox.chain().await.unwrap()[0].first, EventSeq(1));
        assert_eq!(outbox.load().await.unwrap(), Saved::default());
        let now = Clock::start().now().wall;
        append(&store, "a", "00000000000000000000000007.12", now).await;
        let own = format!("{}.1", outbox::store_id(&store).await.unwrap());
        append(&store, "b", &own, now).await;
        outbox.beyond(EventSeq(0)).await;
        let mut events = Vec::new();
        assert_eq!(outbox.read(EventSeq(1), 10, &mut events).await.unwrap(), None);
        let numbers: Vec<_> = events.iter().map(|event| (event.seq.0, event.domain_seq)).collect();
        assert_eq!(numbers, [(1, 1), (2, 2)]);
        assert_eq!((&*events[0].foreign_cause, events[0].causation.0), ("00000000000000000000000007.12", 0));
        assert_eq!((&*events[1].foreign_cause, events[1].causation.0), ("", 1));
        assert_eq!(events[0].source.edge, "store");
        assert_eq!(outbox.chain().await.unwrap()[0].source, *events[0].source);
        let look = outbox.look(EventSeq(2)).await.unwrap().unwrap();
        assert_eq!(look.digest, signalbox_bus::wire::digest(&events[1]));
    }

    #[tokio::test]
    async fn given_what_is_acknowledged_and_old_when_saved_then_it_is_deleted_and_told_as_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let now = Clock::start().now().wall;
        let old = Wall(now.0 - 8 * 86_400_000_000);
        for (subject, at) in [("a", old), ("b", old), ("c", now)] {
            append(&store, subject, "", at).await;
        }
        let mut outbox = origin(&store, "first");
        outbox.load().await.unwrap();
        let top = Some(Top { place: 5, journal: JournalId(1), seq: EventSeq(1) });
        let lane = LaneState { name: "S".to_owned(), top, ..LaneState::default() };
        let saved = Saved { cursor: EventSeq(1), lanes: vec![lane] };
        outbox.save(&saved).await.unwrap();
        let mut events = Vec::new();
        let gap = outbox.read(EventSeq(1), 10, &mut events).await.unwrap();
        assert_eq!((gap, events.len()), (Some(Gap { from: EventSeq(1), to: EventSeq(1) }), 0));
        outbox.read(EventSeq(2), 10, &mut events).await.unwrap();
        assert_eq!(events.len(), 2, "what is not acknowledged stays, however old");
        assert_eq!(origin(&store, "second").load().await.unwrap(), saved);
    }

    #[tokio::test]
    async fn given_no_broker_when_events_are_old_then_they_go_with_the_lease_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let now = Clock::start().now().wall;
        append(&store, "a", "", Wall(now.0 - 8 * 86_400_000_000)).await;
        append(&store, "b", "", Wall(now.0 - 6 * 86_400_000_000)).await;
        let (holder, place, folds) = ("here".to_owned(), "here".to_owned(), "journal".to_owned());
        let candidate = Candidate {
            name: "projections",
            holder,
            place,
            alone: true,
            folds,
            term: Duration::from_secs(60),
        };
        let lost = lease::take(&store, &candidate).await.unwrap().unwrap();
        let lease = lease::take(&store, &candidate).await.unwrap().unwrap();
        assert!(store.transaction(old_go(&lost, now)).await.is_err());
        assert_eq!(outbox::read(&store, 1, 9).await.unwrap().len(), 2);
        store.transaction(old_go(&lease, now)).await.unwrap();
        let left = outbox::read(&store, 1, 9).await.unwrap();
        assert_eq!(left.iter().map(|event| &*event.draft.subject).collect::<Vec<_>>(), ["b"]);
    }

    #[tokio::test]
    async fn given_a_second_relay_when_the_first_saves_then_it_is_fenced() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let (mut first, mut second) = (origin(&store, "first"), origin(&store, "second"));
        first.load().await.unwrap();
        second.load().await.unwrap();
        let fenced = first.save(&Saved::default()).await;
        assert!(matches!(fenced, Err(Error::Fenced(_))), "{fenced:?}");
        second.save(&Saved::default()).await.unwrap();
    }
}
