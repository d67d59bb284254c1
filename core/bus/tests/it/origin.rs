//! A journal as what is relayed.

use signalbox_base::{EdgeIdentity, EventSeq, Wall};
use signalbox_bus::Error;
use signalbox_bus::relay::{JournalOrigin, LaneState, Origin, Saved};
use signalbox_bus::wire::digest;
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Config, Journal, Layout, NewRecord, Writer};
use std::sync::Arc;
use tempfile::TempDir;

fn identity() -> EdgeIdentity {
    EdgeIdentity { cluster: "test".into(), edge: "edge-1".into() }
}

fn journal() -> (TempDir, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let storage: SharedStorage = Arc::new(FileStorage);
    let opened = Journal::open(storage, Config::new(dir.path()), &identity(), Wall(1_000_000), [7; 32]);
    (dir, opened.unwrap().0)
}

fn origin(dir: &TempDir, writer: &Writer) -> JournalOrigin {
    let storage: SharedStorage = Arc::new(FileStorage);
    JournalOrigin::new(identity(), storage, Layout::new(dir.path()), writer.mark(), "nats")
}

fn write(writer: &mut Writer, events: u64) {
    for _ in 0..events {
        let record = NewRecord {
            expect_seq: None,
            wall: Wall(5),
            recorded: Wall(6),
            kind: "call.ended.v1",
            tenant: "acme",
            subject: "c_1",
            correlation: "",
            traceparent: "",
            causation: EventSeq(0),
            data: b"{}",
            private: b"",
        };
        writer.append(&record).unwrap();
    }
    writer.commit(Wall(7)).unwrap();
}

#[tokio::test]
async fn a_forked_journal_is_a_chain_and_its_events_name_their_own() {
    let (dir, mut writer) = journal();
    let mut origin = origin(&dir, &writer);
    assert_eq!(origin.chain().await, Ok(vec![]));
    write(&mut writer, 10);
    let first = writer.journal();
    let second = writer.fork_identity(Wall(2_000_000), [1; 10]).unwrap();
    write(&mut writer, 3);
    let third = writer.fork_identity(Wall(3_000_000), [2; 10]).unwrap();
    write(&mut writer, 1);
    let chain: Vec<_> =
        origin.chain().await.unwrap().iter().map(|link| (link.source.journal, link.first.0)).collect();
    assert_eq!(chain, [(first, 1), (second, 11), (third, 14)]);
    let mut read = Vec::new();
    assert_eq!(origin.read(EventSeq(9), 4, &mut read).await, Ok(None));
    let ids: Vec<_> = read.iter().map(|event| (event.source.journal, event.seq.0)).collect();
    assert_eq!(ids, [(first, 9), (first, 10), (second, 11), (second, 12)]);
    let look = origin.look(EventSeq(12)).await.unwrap().unwrap();
    assert_eq!((look.digest, look.recorded), (digest(&read[3]), Wall(6)));
    assert_eq!(origin.look(EventSeq(15)).await, Ok(None));
}

#[tokio::test]
async fn the_place_is_kept_and_a_relay_that_was_taken_over_cannot_save() {
    let (dir, mut writer) = journal();
    write(&mut writer, 9);
    let mut before = origin(&dir, &writer);
    assert_eq!(before.load().await, Ok(Saved::default()));
    let lane = LaneState { name: "S".to_owned(), ..LaneState::default() };
    let saved = Saved { cursor: EventSeq(4), lanes: vec![lane] };
    before.save(&saved).await.unwrap();
    let mut after = origin(&dir, &writer);
    assert_eq!(after.load().await, Ok(saved.clone()));
    let later = Saved { cursor: EventSeq(8), ..saved };
    assert_eq!(before.save(&later).await, Err(Error::Fenced("relay-nats".to_owned())));
    after.save(&later).await.unwrap();
    assert_eq!(after.load().await, Ok(later));
}

#[tokio::test]
async fn whoever_waits_hears_the_next_commit() {
    let (dir, mut writer) = journal();
    let origin = origin(&dir, &writer);
    write(&mut writer, 1);
    origin.beyond(EventSeq(0)).await;
    let (waiting, writing) = (origin.beyond(EventSeq(1)), async { write(&mut writer, 1) });
    tokio::join!(waiting, writing);
    assert_eq!(origin.end(), Ok(EventSeq(2)));
}
