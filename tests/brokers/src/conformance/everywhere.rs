//! What every bus promises.

use super::reading::{assert_order_by_key, assert_whole, batch, everything, numbers, read, subscribe};
use super::{New, Pen, Provider};
use signalbox_base::{EventSeq, JournalId, Wall};
use signalbox_bus::{Delivered, Error, Filter, Order, Request, Source, Start};
use std::collections::BTreeSet;
use std::time::Duration;

const CALL: New = New { kind: "call.attempted.v1", tenant: "acme", subject: "c_1", at: 10 };
const OTHER: New = New { kind: "registration.added.v1", tenant: "globex", subject: "401", at: 20 };

async fn start<P: Provider>() -> (P, Pen) {
    let provider = P::start().await;
    let pen = Pen::new(provider.source());
    (provider, pen)
}

/// Order per key; nothing of the envelope is lost on the way.
pub async fn events_of_a_key_arrive_in_order_with_all_their_envelope<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    let mut written = pen.write(&[CALL, OTHER].repeat(400));
    for event in &mut written[1..] {
        event.correlation = "c_00000000001".into();
        event.causation = EventSeq(event.seq.0 - 1);
        event.time = Wall(5);
        event.data = format!(r#"{{"n":{}}}"#, event.seq).as_bytes().into();
    }
    provider.put(&written).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    let events = read(&mut *subscription, 800).await;
    assert_whole(bus.order(), &events, 1..=800);
    for event in events {
        let at = usize::try_from(event.seq.0 - 1).unwrap();
        assert_eq!(event, written[at]);
    }
}

/// Many keys in several lanes of a broker at the same time.
pub async fn keys_of_many_domains_stay_in_order_each<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    let kinds =
        ["call.routed.v1", "registration.refreshed.v1", "security.blocked.v1", "backend.state_changed.v1"];
    let written: Vec<Delivered> = (0..2_000)
        .map(|n| pen.event(kinds[n % 4], ["acme", ""][n % 2], &format!("s_{}", n * 7 % 53), 1))
        .collect();
    provider.put(&written).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    assert_whole(bus.order(), &read(&mut *subscription, 2_000).await, 1..=2_000);
}

/// A durable position.
pub async fn a_named_subscription_goes_on_after_what_it_acknowledged<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    provider.put(&pen.write(&[CALL; 10])).await;
    let bus = provider.bus();
    let mut first = subscribe(&*bus, everything(Some("sink"), Start::Cursor)).await;
    let taken = batch(&mut *first, 4).await;
    assert_eq!(numbers(&taken.events), [1, 2, 3, 4]);
    first.acknowledge(&taken.progress).await.unwrap();
    // Read, but never acknowledged: a crash here must lose nothing.
    assert_eq!(numbers(&batch(&mut *first, 3).await.events), [5, 6, 7]);
    drop(first);
    let bus = provider.bus();
    let mut second = subscribe(&*bus, everything(Some("sink"), Start::Cursor)).await;
    assert_eq!(numbers(&read(&mut *second, 6).await), [5, 6, 7, 8, 9, 10]);
    let mut fresh = subscribe(&*bus, everything(Some("other"), Start::Cursor)).await;
    assert_eq!(numbers(&read(&mut *fresh, 1).await), [1], "another name has read nothing");
}

/// Redelivery: life after life, each ended by a crash with events in hand.
pub async fn what_a_crashed_reader_did_not_acknowledge_comes_again<P: Provider>() {
    const EVENTS: u64 = 200;
    let (mut provider, mut pen) = start::<P>().await;
    let written: Vec<Delivered> = (0..EVENTS)
        .map(|n| {
            pen.event(["call.ended.v1", OTHER.kind][n as usize % 2], "acme", &format!("k_{}", n % 11), 1)
        })
        .collect();
    provider.put(&written).await;
    let (mut done, mut in_hand) = (BTreeSet::new(), BTreeSet::new());
    while (done.len() as u64) < EVENTS {
        let bus = provider.bus();
        let mut life = subscribe(&*bus, everything(Some("worker"), Start::Cursor)).await;
        let finished = batch(&mut *life, 7).await;
        life.acknowledge(&finished.progress).await.unwrap();
        let mut events = finished.events;
        done.extend(numbers(&events));
        if (done.len() as u64) < EVENTS {
            // At the end nothing more comes; before it, this life dies with a second batch in hand.
            let dropped = batch(&mut *life, 5).await.events;
            in_hand.extend(numbers(&dropped));
            events.extend(dropped);
        }
        assert_order_by_key(&events);
    }
    assert_eq!(done, (1..=EVENTS).collect());
    assert!(!in_hand.is_empty() && in_hand.is_subset(&done));
}

/// One holder a name.
pub async fn a_name_that_was_taken_over_can_acknowledge_nothing<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    provider.put(&pen.write(&[CALL; 2])).await;
    let bus = provider.bus();
    let mut first = subscribe(&*bus, everything(Some("sink"), Start::Cursor)).await;
    let taken = batch(&mut *first, 2).await;
    let other = provider.bus();
    let mut second = subscribe(&*other, everything(Some("sink"), Start::Cursor)).await;
    assert_eq!(first.acknowledge(&taken.progress).await, Err(Error::Fenced("sink".to_owned())));
    let taken = batch(&mut *second, 2).await;
    assert_eq!(numbers(&taken.events), [1, 2]);
    second.acknowledge(&taken.progress).await.unwrap();
}

/// 5,000 events wait for one reader while another follows.
pub async fn a_slow_reader_holds_up_nobody<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    let bus = provider.bus();
    let mut slow = subscribe(&*bus, everything(Some("slow"), Start::Beginning)).await;
    let mut fast = subscribe(&*bus, everything(Some("fast"), Start::Beginning)).await;
    for _ in 0..20 {
        provider.put(&pen.write(&[CALL; 250])).await;
        read(&mut *fast, 250).await;
    }
    let events = read(&mut *slow, 5_000).await;
    assert_eq!(numbers(&events), (1..=5_000).collect::<Vec<_>>());
}

/// By domain, type and tenant. What would have come wrongly would have come before the last events.
pub async fn a_filter_passes_over_the_rest_and_progress_tells_so<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    provider.put(&pen.write(&[CALL, OTHER, CALL, OTHER, OTHER])).await;
    provider.put(&[pen.event("call.ended.v1", "acme", "c_1", 30)]).await;
    let kinds = ["call.attempted.v1", "registration.added.v1"];
    let last: Vec<Delivered> = (0..64)
        .map(|n| pen.event(kinds[n % 2], ["acme", "globex"][n / 2 % 2], &format!("last_{n}"), 40))
        .collect();
    provider.put(&last).await;
    let bus = provider.bus();
    let filters: [(&[&str], &[&str], &[u64]); 6] = [
        (&["call"], &[], &[1, 3, 6]),
        (&["call.attempted"], &[], &[1, 3]),
        (&["registration.added"], &[], &[2, 4, 5]),
        (&[], &["globex"], &[2, 4, 5]),
        (&["call"], &["globex"], &[]),
        (&["call", "registration"], &["acme", "globex"], &[1, 2, 3, 4, 5, 6]),
    ];
    for (kinds, tenants, wanted) in filters {
        let text = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let filter = Filter { kinds: text(kinds), tenants: text(tenants) };
        let passes = |event: &&Delivered| {
            let of_kind = |kind: &&str| *event.kind == **kind || event.kind.starts_with(&format!("{kind}."));
            (kinds.is_empty() || kinds.iter().any(of_kind))
                && (tenants.is_empty() || tenants.contains(&&*event.tenant))
        };
        let expected: Vec<u64> =
            wanted.iter().copied().chain(last.iter().filter(passes).map(|event| event.seq.0)).collect();
        let request = Request { name: None, filter, start: Start::Beginning, linger: Duration::ZERO };
        let mut subscription = subscribe(&*bus, request).await;
        let (mut events, mut through) = (Vec::new(), 0);
        while events.len() < expected.len() || bus.order() == Order::Source && through < 70 {
            let batch = batch(&mut *subscription, 100).await;
            through = batch.progress.last().map_or(through, |progress| progress.through.0);
            events.extend(batch.events);
        }
        assert_whole(bus.order(), &events, expected);
    }
}

/// From a time.
pub async fn history_is_replayed_from_a_moment<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    let at = |at| New { at, ..CALL };
    provider.put(&pen.write(&[at(100), at(200)])).await;
    provider.put(&pen.write(&[at(300), at(400)])).await;
    let bus = provider.bus();
    let mut since = subscribe(&*bus, everything(None, Start::Time(Wall(200)))).await;
    assert_eq!(numbers(&read(&mut *since, 3).await), [2, 3, 4]);
    let mut later = subscribe(&*bus, everything(None, Start::Time(Wall(401)))).await;
    provider.put(&pen.write(&[at(500)])).await;
    assert_eq!(numbers(&read(&mut *later, 1).await), [5]);
}

/// From a position, and from the end.
pub async fn history_is_replayed_from_a_position_or_from_now_on<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    provider.put(&pen.write(&[CALL; 4])).await;
    let bus = provider.bus();
    let source = provider.source();
    let after = Start::After(vec![(source.clone(), EventSeq(3))]);
    let mut after = subscribe(&*bus, everything(None, after)).await;
    assert_eq!(numbers(&read(&mut *after, 1).await), [4]);
    let stranger = Source { edge: "edge-9".into(), journal: JournalId(9), ..source };
    let unknown = Start::After(vec![(stranger, EventSeq(3))]);
    let mut all = subscribe(&*bus, everything(None, unknown)).await;
    let events = read(&mut *all, 4).await;
    assert_eq!(numbers(&events), [1, 2, 3, 4], "what was never read is read from its beginning");
    let mut end = subscribe(&*bus, everything(None, Start::End)).await;
    provider.put(&pen.write(&[CALL])).await;
    assert_eq!(numbers(&read(&mut *end, 1).await), [5]);
}

/// The live end.
pub async fn a_reader_that_waits_hears_of_what_comes<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    for n in 1..=20 {
        provider.put(&pen.write(&[CALL])).await;
        assert_eq!(numbers(&read(&mut *subscription, 1).await), [n]);
    }
}

/// Futures of a subscription can be dropped.
pub async fn giving_up_a_wait_loses_nothing<P: Provider>() {
    let (mut provider, mut pen) = start::<P>().await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    let mut seen = Vec::new();
    for _ in 0..50 {
        provider.put(&pen.write(&[CALL; 3])).await;
        // Asked once and dropped at once: sometimes it is ready, mostly not.
        let ready = at_once(subscription.next_batch(2)).await;
        seen.extend(ready.map(|batch| numbers(&batch.unwrap().events)).unwrap_or_default());
    }
    let missing = 150 - seen.len();
    seen.extend(numbers(&read(&mut *subscription, missing).await));
    assert_eq!(seen, (1..=150).collect::<Vec<_>>());
}

/// The future's result if it is ready at once.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}
