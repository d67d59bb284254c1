//! The embedded bus, beside the journal's writer and as another process sees it.

use crate::journal::OnDisk;
use signalbox_base::{EdgeIdentity, EventSeq, Wall};
use signalbox_brokers::conformance::{New, Pen, Provider};
use signalbox_brokers::promises;
use signalbox_bus::{Batch, Bus, Delivered, Error, Filter, Progress, Request, Source, Start};
use signalbox_journal::{Cursors, NewRecord};
use std::sync::Arc;
use std::time::Duration;

fn source(journal: &OnDisk) -> Source {
    let EdgeIdentity { cluster, edge } = OnDisk::identity();
    Source { cluster, edge, journal: journal.writer.journal() }
}

struct Beside(OnDisk);

impl Provider for Beside {
    async fn start() -> Self {
        Self(OnDisk::begin())
    }

    fn bus(&self) -> Arc<dyn Bus> {
        self.0.beside()
    }

    fn source(&self) -> Source {
        source(&self.0)
    }

    async fn put(&mut self, events: &[Delivered]) {
        self.0.write(events);
    }
}

struct Apart(OnDisk);

impl Provider for Apart {
    async fn start() -> Self {
        Self(OnDisk::begin())
    }

    fn bus(&self) -> Arc<dyn Bus> {
        self.0.apart()
    }

    fn source(&self) -> Source {
        source(&self.0)
    }

    async fn put(&mut self, events: &[Delivered]) {
        self.0.write(events);
    }
}

mod beside_the_writer {
    super::promises!(super::Beside);
}

mod in_another_process {
    super::promises!(super::Apart);
}

fn beside() -> (Beside, Pen) {
    let edge = Beside(OnDisk::begin());
    let pen = Pen::new(edge.source());
    (edge, pen)
}

const CALL: New = New { kind: "call.attempted.v1", tenant: "acme", subject: "c_1", at: 10 };

fn from_start() -> Request {
    Request { name: None, filter: Filter::default(), start: Start::Beginning, linger: Duration::ZERO }
}

#[tokio::test]
async fn given_records_not_yet_durable_when_read_then_they_do_not_show() {
    let (mut edge, mut pen) = beside();
    edge.0.write(&pen.write(&[CALL]));
    let record = NewRecord {
        expect_seq: None,
        wall: Wall(1),
        recorded: Wall(1),
        kind: "call.routed.v1",
        tenant: "acme",
        subject: "c_1",
        correlation: "",
        traceparent: "",
        causation: EventSeq(1),
        data: b"{}",
        private: b"",
    };
    edge.0.writer.append(&record).unwrap();
    let mut subscription = edge.bus().subscribe(from_start()).await.unwrap();
    let first = subscription.next_batch(10).await.unwrap();
    assert_eq!((first.events.len(), first.progress[0].end), (1, EventSeq(1)));
    edge.0.writer.commit(Wall(2)).unwrap();
    let second = subscription.next_batch(10).await.unwrap();
    assert_eq!(second.events[0].causation, EventSeq(1));
}

#[tokio::test]
async fn given_a_writer_that_ends_when_everything_is_read_then_the_bus_ends() {
    let (mut edge, mut pen) = beside();
    edge.0.write(&pen.write(&[CALL; 3]));
    let mut subscription = edge.bus().subscribe(from_start()).await.unwrap();
    drop(edge.0.writer);
    assert_eq!(subscription.next_batch(10).await.unwrap().events.len(), 3);
    assert_eq!(subscription.next_batch(10).await, Err(Error::Ended));
}

#[tokio::test]
async fn given_a_subscription_that_lingers_when_commits_follow_each_other_then_they_come_together() {
    let (mut edge, mut pen) = beside();
    let request = Request { linger: Duration::from_secs(1), ..from_start() };
    let mut subscription = edge.bus().subscribe(request).await.unwrap();
    for _ in 0..3 {
        edge.0.write(&pen.write(&[CALL]));
    }
    assert_eq!(subscription.next_batch(10).await.unwrap().events.len(), 3);
}

#[tokio::test]
async fn given_a_subscription_that_lingers_when_it_is_behind_then_what_is_there_comes_at_once() {
    let (mut edge, mut pen) = beside();
    edge.0.write(&pen.write(&[CALL; 600]));
    let request = Request { linger: Duration::from_secs(86_400), ..from_start() };
    let mut subscription = edge.bus().subscribe(request).await.unwrap();
    let mut events = 0;
    while events < 600 {
        events += subscription.next_batch(1_000).await.unwrap().events.len();
    }
}

#[tokio::test]
async fn given_a_journal_with_a_new_id_when_read_on_then_both_sources_are_told_apart() {
    let (mut edge, mut pen) = beside();
    edge.0.write(&pen.write(&[CALL; 2]));
    edge.0.writer.fork_identity(Wall(5), [9; 10]).unwrap();
    edge.0.write(&pen.write(&[CALL; 2]));
    let mut subscription = edge.bus().subscribe(from_start()).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 4 {
        events.extend(subscription.next_batch(10).await.unwrap().events);
    }
    let numbers: Vec<u64> = events.iter().map(|event| event.seq.0).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(events[0].source, events[1].source);
    assert_ne!(events[1].source, events[2].source);
    // Who knew only the old id reads all again; who has read of the new one goes on behind it.
    for (known, first) in [(&events[1], 1), (&events[2], 4)] {
        let after = Start::After(vec![((*known.source).clone(), known.seq)]);
        let request = Request { start: after, ..from_start() };
        let mut again = edge.bus().subscribe(request).await.unwrap();
        assert_eq!(again.next_batch(10).await.unwrap().events[0].seq, EventSeq(first));
    }
}

#[tokio::test]
async fn given_a_hole_before_a_new_id_when_what_follows_is_acknowledged_then_the_journal_keeps_the_hole() {
    for together in [true, false] {
        let (mut edge, mut pen) = beside();
        let named = Request { name: Some("projections".to_owned()), ..from_start() };
        edge.0.write(&pen.write(&[CALL; 4]));
        let mut subscription = edge.bus().subscribe(named).await.unwrap();
        let mut progress: Vec<Progress> = Vec::new();
        let mut note = |batch: Batch| {
            for told in batch.progress {
                progress.retain(|known| known.source != told.source);
                progress.push(told);
            }
            batch.events.len()
        };
        let mut events = if together { 0 } else { note(subscription.next_batch(10).await.unwrap()) };
        edge.0.writer.fork_identity(Wall(5), [9; 10]).unwrap();
        edge.0.write(&pen.write(&[CALL; 3]));
        while events < 7 {
            events += note(subscription.next_batch(10).await.unwrap());
        }
        progress.sort_by_key(|told| told.through);
        let [old, new] = &progress[..] else { panic!("{progress:?}") };
        assert_eq!((old.through, old.end), (EventSeq(4), EventSeq(4)), "all there will ever be of it");
        assert_eq!((new.through, new.end), (EventSeq(7), EventSeq(7)));
        let (mark, layout) = (edge.0.writer.mark(), edge.0.layout());
        let cursors = Cursors::new(Arc::clone(&edge.0.storage), layout, mark);
        let cursor = || cursors.get("projections").unwrap().map_or(EventSeq(0), |cursor| cursor.seq);
        subscription.acknowledge(std::slice::from_ref(new)).await.unwrap();
        assert_eq!(cursor(), EventSeq(0), "nothing of the old source is done with");
        let until_hole = Progress { through: EventSeq(2), ..old.clone() };
        subscription.acknowledge(&[until_hole, new.clone()]).await.unwrap();
        assert_eq!(cursor(), EventSeq(2));
        subscription.acknowledge(std::slice::from_ref(old)).await.unwrap();
        assert_eq!(cursor(), EventSeq(7));
    }
}
