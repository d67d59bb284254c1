//! What a bus promises that is a server: it dies, comes back, goes back, forgets, and others write to it too.

use super::reading::{
    Collected, assert_order_by_key, assert_whole, batch, everything, numbers, read, subscribe,
    subscribe_when_there, until_away,
};
use super::{Broker, Pen, places};
use signalbox_base::{EventSeq, JournalId};
use signalbox_bus::{Delivered, Source, Start};
use std::collections::BTreeSet;
use std::sync::Arc;

async fn start<P: Broker>() -> (P, Pen) {
    let provider = P::start().await;
    let pen = Pen::new(provider.source());
    (provider, pen)
}

/// Calls and registrations of seven aggregates, so that several lanes of a broker carry them.
fn mixed(pen: &mut Pen, count: usize) -> Vec<Delivered> {
    let kinds = ["call.routed.v1", "registration.refreshed.v1"];
    (0..count).map(|n| pen.event(kinds[n % 2], "acme", &format!("k_{}", n % 7), 1)).collect()
}

fn set(events: &[Delivered]) -> BTreeSet<u64> {
    numbers(events).into_iter().collect()
}

/// Wherever a reader stops, the hint of its last batch leads on without a hole and without repeating.
pub async fn a_hint_goes_on_right_behind_its_batch<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    provider.put(&mixed(&mut pen, 60)).await;
    let bus = provider.bus();
    let mut first = subscribe(&*bus, everything(None, Start::Beginning)).await;
    let mut before = Collected::default();
    while before.events.len() < 50 {
        before.take(batch(&mut *first, 9).await);
        let hint = before.hint.clone().expect("a broker's batch says where to go on");
        assert!(hint.0.len() <= 4096);
        let mut resumed = subscribe(&*bus, everything(None, Start::Hint(hint))).await;
        let mut after = read(&mut *resumed, 60 - before.events.len()).await;
        after.extend(before.events.iter().cloned());
        assert_eq!(set(&after), (1..=60).collect());
        assert_eq!(after.len(), 60, "what was read before the hint came again");
    }
}

/// Dedupe by (source, sequence): the broker's own window is not relied on.
pub async fn an_event_that_is_stored_twice_is_known_by_its_number<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let written = mixed(&mut pen, 30);
    provider.put(&written[..20]).await;
    provider.put_again(&written[10..20]).await;
    provider.put(&written[20..]).await;
    let bus = provider.bus();
    let mut reader = Collected::default();
    reader.read_on(&*bus, |reader| reader.events.len() == 30).await;
    assert_whole(bus.order(), &reader.events, 1..=30);
    for again in &reader.repeated {
        assert!((11..=20).contains(&again.seq.0), "{again:?}");
        assert_eq!(again, &written[usize::try_from(again.seq.0 - 1).unwrap()]);
    }
}

/// A loss is visible, stays visible, and is mended by the event itself, late.
pub async fn a_hole_shows_in_the_domain_numbers_and_closes_when_the_missing_one_comes<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let written = mixed(&mut pen, 20);
    let (missing, rest) = (&written[8], [&written[..8], &written[9..]].concat());
    provider.put(&rest).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    let events = read(&mut *subscription, 19).await;
    assert_order_by_key(&events);
    let there: BTreeSet<_> = places(&events).into_iter().collect();
    assert!(there.contains(&("call".into(), 4)) && there.contains(&("call".into(), 6)));
    assert!(!there.contains(&("call".into(), 5)), "the hole is where the missing event was");
    provider.put(std::slice::from_ref(missing)).await;
    assert_eq!(read(&mut *subscription, 1).await, std::slice::from_ref(missing));
    let mut fresh = Collected::default();
    fresh.read_on(&*bus, |reader| reader.events.len() == 20).await;
    assert_eq!(set(&fresh.events), (1..=20).collect());
    assert_eq!(fresh.floors, [], "a hole is no retention");
}

/// Retention is told apart from loss: below a domain's floor nothing is waited for, from there on all is there.
pub async fn what_retention_took_is_told_by_a_floor<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let written = mixed(&mut pen, 60);
    provider.put(&written).await;
    provider.put(&[pen.event("security.blocked.v1", "", "192.0.2.1", 1)]).await;
    provider.expire(EventSeq(31)).await;
    let bus = provider.bus();
    let mut reader = Collected::default();
    let told = |reader: &Collected| {
        let of = |domain| reader.floors.iter().any(|floor| &*floor.domain == domain);
        of("call") && of("registration") && reader.events.len() >= 30
    };
    reader.read_on(&*bus, told).await;
    assert_order_by_key(&reader.events);
    let there: BTreeSet<_> = places(&reader.events).into_iter().collect();
    for domain in ["call", "registration"] {
        let floor = reader.floors.iter().find(|floor| &*floor.domain == domain).unwrap();
        assert_eq!(*floor.source, provider.source());
        // 15 of 30 are gone. A lane may have kept nothing but newer ones, so that the floor is a little higher.
        assert!((16..=22).contains(&floor.first), "{floor:?}");
        let missing = (floor.first..=30).find(|n| !there.contains(&(domain.to_owned(), *n)));
        assert_eq!(missing, None, "{domain}: from its floor on nothing is missing");
        assert!(!there.contains(&(domain.to_owned(), 15)), "what was forgotten came");
    }
}

/// So is what it took between a hint and the reader that comes back with it.
pub async fn what_retention_took_behind_a_hint_is_told_by_a_floor<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    provider.put(&mixed(&mut pen, 20)).await;
    let bus = provider.bus();
    let mut reader = Collected::default();
    reader.read_on(&*bus, |reader| reader.events.len() == 20).await;
    assert_eq!(reader.floors, []);
    provider.put(&mixed(&mut pen, 30)).await;
    provider.expire(EventSeq(51)).await;
    provider.put(&mixed(&mut pen, 14)).await;
    let told = |reader: &Collected| {
        ["call", "registration"]
            .iter()
            .all(|domain| reader.floors.iter().any(|floor| &*floor.domain == *domain))
    };
    reader.read_on(&*bus, told).await;
    assert_eq!(set(&reader.events), (1..=20).chain(51..=64).collect());
    for floor in &reader.floors {
        // A lane may begin with a later one.
        assert!((26..=32).contains(&floor.first), "{floor:?}");
    }
}

/// Without retention a hole at the very beginning is waited for.
pub async fn a_bus_that_lost_nothing_tells_no_floor<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let written = mixed(&mut pen, 20);
    provider.put(&written[4..]).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    let mut reader = Collected::default();
    // The end of then was reached before these come, and a floor would have been told by it.
    for (wanted, more) in [(16, &written[..4]), (20, &mixed(&mut pen, 4)[..])] {
        while reader.events.len() < wanted {
            reader.take(batch(&mut *subscription, 100).await);
        }
        provider.put(more).await;
    }
    while reader.events.len() < 24 {
        reader.take(batch(&mut *subscription, 100).await);
    }
    assert_eq!(set(&reader.events), (1..=24).collect());
    assert_eq!(reader.floors, []);
}

/// Poison stops nobody, also one that goes on right behind it.
pub async fn what_is_no_event_of_ours_is_passed_over<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let written = mixed(&mut pen, 30);
    provider.put(&written[..10]).await;
    for beside in &written[..10] {
        assert!(provider.put_foreign(beside).await >= 4);
    }
    provider.put(&written[10..20]).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    let mut reader = Collected::default();
    while reader.events.len() < 20 {
        reader.take(batch(&mut *subscription, 6).await);
    }
    assert_eq!(reader.events, sorted_like(&reader.events, &written[..20]));
    // The last thing in every lane is none of ours, and the hint lies behind it or before it.
    for beside in &written[..10] {
        provider.put_foreign(beside).await;
    }
    provider.put(&written[20..]).await;
    let hint = reader.hint.clone().unwrap();
    let mut resumed = subscribe(&*bus, everything(None, Start::Hint(hint))).await;
    assert_eq!(set(&read(&mut *resumed, 10).await), (21..=30).collect());
}

/// The written events in the order in which they were read: equal means nothing was changed and none came twice.
fn sorted_like(read: &[Delivered], written: &[Delivered]) -> Vec<Delivered> {
    assert_order_by_key(read);
    read.iter().map(|event| written.iter().find(|w| w.seq == event.seq).unwrap().clone()).collect()
}

/// A newer edge may write types that this release does not know: they have numbers, so passing them over would be a hole.
pub async fn a_type_that_nobody_knows_yet_is_delivered<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let written = [
        pen.event("call.attempted.v1", "acme", "c_1", 1),
        pen.event("call.teleported.v1", "acme", "c_1", 1),
        pen.event("call.ended.v9", "acme", "c_1", 1),
    ];
    provider.put(&written).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    assert_eq!(read(&mut *subscription, 3).await, written);
}

/// Edges number alike; a new journal begins anew.
pub async fn two_sources_with_the_same_numbers_are_told_apart<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let other = Source { edge: "edge-2".into(), journal: JournalId(77), ..provider.source() };
    let fresh = Source { journal: JournalId(78), ..provider.source() };
    let mut pens = [Pen::new(other.clone()), Pen::new(fresh.clone())];
    for _ in 0..5 {
        provider.put(&mixed(&mut pen, 7)).await;
        for pen in &mut pens {
            provider.put(&mixed(pen, 7)).await;
        }
    }
    let bus = provider.bus();
    let mut reader = Collected::default();
    reader.read_on(&*bus, |reader| reader.events.len() == 105).await;
    for source in [provider.source(), other, fresh] {
        let own: Vec<_> = reader.events.iter().filter(|event| *event.source == source).cloned().collect();
        assert_whole(bus.order(), &own, 1..=35);
    }
    // Whoever has read one of them to its end goes on with the others only.
    let after = Start::After(vec![(provider.source(), EventSeq(35))]);
    let mut subscription = subscribe(&*bus, everything(None, after)).await;
    let rest = read(&mut *subscription, 70).await;
    assert!(rest.iter().all(|event| *event.source != provider.source()));
}

/// The journal takes a MiB of data.
pub async fn the_largest_event_arrives<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let mut large = pen.event("call.ended.v1", "acme", "c_1", 1);
    let digits: String =
        (0..(1 << 20) - 16).map(|n: u32| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
    large.data = Arc::from(format!(r#"{{"text":"{digits}"}}"#).as_bytes());
    provider.put(std::slice::from_ref(&large)).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    assert!(read(&mut *subscription, 1).await == [large], "the event came back changed");
}

/// A subscription never lives through a break: a broker that comes back may have been rolled back meanwhile.
pub async fn a_reader_is_told_that_the_broker_is_away_and_goes_on_when_it_is_back<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    provider.put(&mixed(&mut pen, 20)).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(None, Start::Beginning)).await;
    let mut reader = Collected::default();
    while reader.events.len() < 20 {
        reader.take(batch(&mut *subscription, 100).await);
    }
    provider.kill();
    until_away(&mut *subscription).await;
    drop(subscription);
    provider.start_again().await;
    provider.put(&mixed(&mut pen, 20)).await;
    reader.read_on(&*bus, |reader| reader.events.len() == 40).await;
    assert_whole(bus.order(), &reader.events, 1..=40);
}

/// What was acknowledged is kept outside the broker.
pub async fn a_named_subscription_survives_the_broker_s_death<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    provider.put(&mixed(&mut pen, 20)).await;
    let bus = provider.bus();
    let mut subscription = subscribe(&*bus, everything(Some("sink"), Start::Cursor)).await;
    let taken = batch(&mut *subscription, 12).await;
    subscription.acknowledge(&taken.progress).await.unwrap();
    provider.kill();
    until_away(&mut *subscription).await;
    drop(subscription);
    provider.start_again().await;
    provider.put(&mixed(&mut pen, 5)).await;
    let mut again = subscribe_when_there(&*bus, everything(Some("sink"), Start::Cursor)).await;
    let mut events = taken.events;
    let missing = 25 - events.len();
    events.extend(read(&mut *again, missing).await);
    assert_whole(bus.order(), &events, 1..=25);
}

/// The broker is restored from an older copy, and the relay sends again what it lacks, keys in another order among each
/// other. By chance the event that a hint names then lies where it lay, with others before it: only the time at which the
/// broker stored it tells that it is not the same message.
pub async fn a_hint_of_a_future_that_was_rolled_back_loses_nothing<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let written = mixed(&mut pen, 60);
    provider.put(&written[..20]).await;
    provider.copy().await;
    provider.put(&written[20..40]).await;
    let bus = provider.bus();
    let mut reader = Collected::default();
    reader.read_on(&*bus, |reader| reader.events.len() == 40).await;
    provider.roll_back().await;
    let mut again = written[20..].to_vec();
    again.sort_by_key(|event| std::cmp::Reverse(event.subject.clone()));
    provider.put(&again).await;
    reader.read_on(&*bus, |reader| reader.events.len() == 60).await;
    assert_whole(bus.order(), &reader.events, 1..=60);
}

/// The reader is back before the relay: what its hint names does not exist (yet), and it must not wait there.
pub async fn a_hint_beyond_the_end_of_a_rolled_back_broker_loses_nothing<P: Broker>() {
    let (mut provider, mut pen) = start::<P>().await;
    let written = mixed(&mut pen, 41);
    provider.put(&written[..20]).await;
    provider.copy().await;
    provider.put(&written[20..40]).await;
    let bus = provider.bus();
    let mut reader = Collected::default();
    reader.read_on(&*bus, |reader| reader.events.len() == 40).await;
    provider.roll_back().await;
    let hint = Start::Hint(reader.hint.clone().unwrap());
    let mut subscription = subscribe_when_there(&*bus, everything(None, hint)).await;
    provider.put(&written[40..]).await;
    while reader.events.len() < 41 {
        reader.take(batch(&mut *subscription, 100).await);
    }
    assert_whole(bus.order(), &reader.events, 1..=41);
}
