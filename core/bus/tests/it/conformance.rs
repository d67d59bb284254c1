//! The promises of a bus as stories. A provider brings a bus that is empty, and a way to write to it.

use signalbox_base::{EventSeq, Wall};
use signalbox_bus::{Batch, Bus, Delivered, Error, Filter, Request, Source, Start, Subscription};
use std::sync::Arc;
use std::time::Duration;

/// A bus under test.
pub(crate) trait Provider {
    /// An empty one.
    fn new() -> Self;
    /// Its bus, as one more process would open it.
    fn bus(&self) -> Arc<dyn Bus>;
    /// Writes events durably, all from one source, each recorded at its moment.
    fn publish(&mut self, events: &[New]);
}

#[derive(Clone, Copy)]
pub(crate) struct New {
    pub(crate) kind: &'static str,
    pub(crate) tenant: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) at: i64,
}

const CALL: New = New { kind: "call.attempted.v1", tenant: "acme", subject: "c_1", at: 10 };
const OTHER: New = New { kind: "registration.added.v1", tenant: "globex", subject: "401", at: 20 };

fn everything(name: Option<&str>, start: Start) -> Request {
    Request { name: name.map(str::to_owned), filter: Filter::default(), start, linger: Duration::ZERO }
}

/// Reads until `wanted` events have come.
async fn read(subscription: &mut dyn Subscription, wanted: usize) -> Vec<Delivered> {
    let mut events = Vec::new();
    while events.len() < wanted {
        events.extend(batch(subscription, wanted - events.len()).await.events);
    }
    events
}

async fn batch(subscription: &mut dyn Subscription, max: usize) -> Batch {
    let batch = subscription.next_batch(max).await.unwrap();
    assert!(batch.events.len() <= max);
    batch
}

fn numbers(events: &[Delivered]) -> Vec<u64> {
    events.iter().map(|event| event.seq.0).collect()
}

pub(crate) async fn events_of_a_key_arrive_in_order_with_all_their_envelope<P: Provider>() {
    let mut provider = P::new();
    provider.publish(&[CALL, OTHER].repeat(400));
    let mut subscription = provider.bus().subscribe(everything(None, Start::Beginning)).await.unwrap();
    let events = read(&mut *subscription, 800).await;
    for New { kind, tenant, subject, .. } in [CALL, OTHER] {
        let of_key: Vec<_> = events.iter().filter(|event| event.subject == subject).collect();
        assert!(of_key.iter().all(|event| event.kind == kind && event.tenant == tenant));
        assert!(of_key.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        let domain_numbers: Vec<u64> = of_key.iter().map(|event| event.domain_seq).collect();
        assert_eq!(domain_numbers, (1..=400).collect::<Vec<_>>());
    }
    let call = events.iter().find(|event| event.subject == "c_1").unwrap();
    assert_eq!((&*call.kind, &*call.tenant, call.time), ("call.attempted.v1", "acme", Wall(10)));
    assert_eq!((call.domain(), &*call.data), ("call", b"{}".as_slice()));
    assert!(call.id().ends_with(".1"));
}

pub(crate) async fn a_named_subscription_goes_on_after_what_it_acknowledged<P: Provider>() {
    let mut provider = P::new();
    provider.publish(&[CALL; 10]);
    let bus = provider.bus();
    let mut first = bus.subscribe(everything(Some("sink"), Start::Cursor)).await.unwrap();
    let taken = batch(&mut *first, 4).await;
    assert_eq!(numbers(&taken.events), [1, 2, 3, 4]);
    first.acknowledge(&taken.progress).await.unwrap();
    // Read, but never acknowledged: a crash here must lose nothing.
    assert_eq!(numbers(&batch(&mut *first, 3).await.events), [5, 6, 7]);
    drop(first);
    let mut second = provider.bus().subscribe(everything(Some("sink"), Start::Cursor)).await.unwrap();
    assert_eq!(numbers(&read(&mut *second, 6).await), [5, 6, 7, 8, 9, 10]);
    let mut fresh = provider.bus().subscribe(everything(Some("other"), Start::Cursor)).await.unwrap();
    assert_eq!(numbers(&read(&mut *fresh, 1).await), [1], "another name has read nothing");
}

pub(crate) async fn a_name_that_was_taken_over_can_acknowledge_nothing<P: Provider>() {
    let mut provider = P::new();
    provider.publish(&[CALL; 2]);
    let mut first = provider.bus().subscribe(everything(Some("sink"), Start::Cursor)).await.unwrap();
    let taken = batch(&mut *first, 2).await;
    let mut second = provider.bus().subscribe(everything(Some("sink"), Start::Cursor)).await.unwrap();
    assert_eq!(first.acknowledge(&taken.progress).await, Err(Error::Fenced("sink".to_owned())));
    assert_eq!(numbers(&read(&mut *second, 2).await), [1, 2]);
    second.acknowledge(&taken.progress).await.unwrap();
}

pub(crate) async fn a_slow_reader_holds_up_nobody<P: Provider>() {
    let mut provider = P::new();
    let bus = provider.bus();
    let mut slow = bus.subscribe(everything(Some("slow"), Start::Beginning)).await.unwrap();
    let mut fast = bus.subscribe(everything(Some("fast"), Start::Beginning)).await.unwrap();
    for _ in 0..20 {
        provider.publish(&[CALL; 250]);
        read(&mut *fast, 250).await;
    }
    let events = read(&mut *slow, 5_000).await;
    assert_eq!(numbers(&events), (1..=5_000).collect::<Vec<_>>());
}

pub(crate) async fn a_filter_passes_over_the_rest_and_progress_tells_so<P: Provider>() {
    let mut provider = P::new();
    provider.publish(&[CALL, OTHER, CALL, OTHER, OTHER]);
    let filters = [
        (Filter { kinds: vec!["call".into()], tenants: vec![] }, vec![1, 3]),
        (Filter { kinds: vec!["registration.added".into()], tenants: vec![] }, vec![2, 4, 5]),
        (Filter { kinds: vec![], tenants: vec!["globex".into()] }, vec![2, 4, 5]),
        (Filter { kinds: vec!["call".into()], tenants: vec!["globex".into()] }, vec![]),
    ];
    for (filter, wanted) in filters {
        let request = Request { name: None, filter, start: Start::Beginning, linger: Duration::ZERO };
        let mut subscription = provider.bus().subscribe(request).await.unwrap();
        let (mut events, mut through) = (Vec::new(), 0);
        while through < 5 {
            let batch = batch(&mut *subscription, 100).await;
            through = batch.progress.last().map_or(through, |progress| progress.through.0);
            events.extend(batch.events);
        }
        assert_eq!(numbers(&events), wanted);
    }
}

pub(crate) async fn history_is_replayed_from_a_moment_or_a_position<P: Provider>() {
    let mut provider = P::new();
    let at = |at| New { at, ..CALL };
    provider.publish(&[at(100), at(200)]);
    provider.publish(&[at(300), at(400)]);
    let from = |start| everything(None, start);
    let mut since = provider.bus().subscribe(from(Start::Time(Wall(200)))).await.unwrap();
    let events = read(&mut *since, 3).await;
    assert_eq!(numbers(&events), [2, 3, 4]);
    let source: Source = (*events[0].source).clone();
    let after = Start::After(vec![(source.clone(), EventSeq(3))]);
    let mut after = provider.bus().subscribe(from(after)).await.unwrap();
    assert_eq!(numbers(&read(&mut *after, 1).await), [4]);
    let stranger = Source { edge: "edge-9".into(), journal: signalbox_base::JournalId(9), ..source };
    let unknown = Start::After(vec![(stranger, EventSeq(3))]);
    let mut all = provider.bus().subscribe(from(unknown)).await.unwrap();
    assert_eq!(
        numbers(&read(&mut *all, 4).await),
        [1, 2, 3, 4],
        "what was never read is read from its beginning"
    );
    let mut end = provider.bus().subscribe(from(Start::End)).await.unwrap();
    provider.publish(&[at(500)]);
    assert_eq!(numbers(&read(&mut *end, 1).await), [5]);
}

pub(crate) async fn a_reader_that_waits_hears_of_what_comes<P: Provider>() {
    let mut provider = P::new();
    let mut subscription = provider.bus().subscribe(everything(None, Start::Beginning)).await.unwrap();
    for n in 1..=20 {
        provider.publish(&[CALL]);
        assert_eq!(numbers(&read(&mut *subscription, 1).await), [n]);
    }
}

pub(crate) async fn giving_up_a_wait_loses_nothing<P: Provider>() {
    let mut provider = P::new();
    let mut subscription = provider.bus().subscribe(everything(None, Start::Beginning)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..50 {
        provider.publish(&[CALL; 3]);
        // Asked once and dropped at once: sometimes it is ready, mostly not.
        let ready = futures_now(subscription.next_batch(2));
        seen.extend(ready.await.map(|batch| numbers(&batch.unwrap().events)).unwrap_or_default());
    }
    let missing = 150 - seen.len();
    seen.extend(numbers(&read(&mut *subscription, missing).await));
    assert_eq!(seen, (1..=150).collect::<Vec<_>>());
}

/// The future's result if it is ready at once.
async fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}

/// The suite for one provider.
macro_rules! promises {
    ($provider:ty: $($promise:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                crate::conformance::$promise::<$provider>().await;
            }
        )+
    };
    ($provider:ty) => {
        crate::conformance::promises! { $provider:
            events_of_a_key_arrive_in_order_with_all_their_envelope
            a_named_subscription_goes_on_after_what_it_acknowledged
            a_name_that_was_taken_over_can_acknowledge_nothing
            a_slow_reader_holds_up_nobody
            a_filter_passes_over_the_rest_and_progress_tells_so
            history_is_replayed_from_a_moment_or_a_position
            a_reader_that_waits_hears_of_what_comes
            giving_up_a_wait_loses_nothing
        }
    };
}
pub(crate) use promises;
