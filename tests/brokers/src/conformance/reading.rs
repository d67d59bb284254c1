//! How the stories read: with a limit that only a hang reaches, and knowing events again by source and number.

use signalbox_base::EventSeq;
use signalbox_bus::{
    Batch, Bus, Delivered, Error, Filter, Floor, Hint, Order, Request, Source, Start, Subscription,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Only what never comes takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach a broker that comes back.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn everything(name: Option<&str>, start: Start) -> Request {
    Request { name: name.map(str::to_owned), filter: Filter::default(), start, linger: Duration::ZERO }
}

pub(super) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub(super) async fn subscribe(bus: &dyn Bus, request: Request) -> Box<dyn Subscription> {
    in_time("a subscription", bus.subscribe(request)).await.unwrap()
}

pub(super) async fn batch(subscription: &mut dyn Subscription, max: usize) -> Batch {
    let batch = in_time("a batch", subscription.next_batch(max)).await.unwrap();
    assert!(batch.events.len() <= max, "{} events, {max} were asked for", batch.events.len());
    batch
}

/// Reads until `wanted` different events have come; what came again is left out.
pub(super) async fn read(subscription: &mut dyn Subscription, wanted: usize) -> Vec<Delivered> {
    let mut reader = Collected::default();
    while reader.events.len() < wanted {
        reader.take(batch(subscription, wanted - reader.events.len()).await);
    }
    reader.events
}

pub(super) fn numbers(events: &[Delivered]) -> Vec<u64> {
    events.iter().map(|event| event.seq.0).collect()
}

/// The events are these numbers: in order as a whole where the bus keeps a source in order, else in order by key.
pub(super) fn assert_whole(order: Order, events: &[Delivered], expected: impl IntoIterator<Item = u64>) {
    let mut expected: Vec<u64> = expected.into_iter().collect();
    expected.sort_unstable();
    let mut found = numbers(events);
    if order == Order::Key {
        assert_order_by_key(events);
        found.sort_unstable();
    }
    assert_eq!(found, expected);
}

/// A key's events in a domain: one subject or topic carries them all.
pub(super) fn assert_order_by_key(events: &[Delivered]) {
    let mut last: HashMap<(&Source, &str, &str, &str), EventSeq> = HashMap::new();
    for event in events {
        let key = (&*event.source, event.domain(), &*event.tenant, &*event.subject);
        let before = last.insert(key, event.seq);
        assert!(before.is_none_or(|before| before < event.seq), "{before:?} came before {event:?}");
    }
}

/// What a reader has: each event once, in the order of their first coming.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) events: Vec<Delivered>,
    pub(super) hint: Option<Hint>,
    pub(super) floors: Vec<Floor>,
    /// Events that came again.
    pub(super) repeated: Vec<Delivered>,
    seen: HashSet<(Arc<Source>, EventSeq)>,
}

impl Collected {
    pub(super) fn take(&mut self, batch: Batch) {
        for event in batch.events {
            let new = self.seen.insert((Arc::clone(&event.source), event.seq));
            if new { &mut self.events } else { &mut self.repeated }.push(event);
        }
        self.hint = batch.hint.or(self.hint.take());
        self.floors.extend(batch.floors);
    }

    /// Reads on through breaks of the broker, as a runner does, until the condition holds.
    pub(super) async fn read_on(&mut self, bus: &dyn Bus, mut enough: impl FnMut(&Self) -> bool) {
        let mut subscription = self.subscribe_again(bus).await;
        while !enough(self) {
            match in_time("a batch", subscription.next_batch(100)).await {
                Ok(batch) => self.take(batch),
                Err(Error::Unavailable(_)) => subscription = self.subscribe_again(bus).await,
                Err(other) => panic!("{other}"),
            }
        }
    }

    async fn subscribe_again(&self, bus: &dyn Bus) -> Box<dyn Subscription> {
        let start = self.hint.clone().map_or(Start::Beginning, Start::Hint);
        subscribe_when_there(bus, everything(None, start)).await
    }
}

/// Subscribes, again and again while the broker is away.
pub(super) async fn subscribe_when_there(bus: &dyn Bus, request: Request) -> Box<dyn Subscription> {
    let trying = async {
        loop {
            match bus.subscribe(request.clone()).await {
                Ok(subscription) => return subscription,
                Err(Error::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    in_time("the broker to be back", trying).await
}

/// Reads until the subscription says that the broker is away.
pub(super) async fn until_away(subscription: &mut dyn Subscription) {
    let reading = async {
        loop {
            match subscription.next_batch(100).await {
                Ok(_) => {}
                Err(Error::Unavailable(_)) => return,
                Err(other) => panic!("{other}"),
            }
        }
    };
    in_time("word that the broker is away", reading).await;
}
