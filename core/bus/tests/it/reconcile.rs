//! What the broker holds against what the journal says, case by case.

use signalbox_base::{EventSeq, JournalId};
use signalbox_bus::publisher::{Found, Identity, LaneFound, LaneName, WINDOW_MAX};
use signalbox_bus::relay::reconcile::{Lost, Own, questions, verdict};
use signalbox_bus::relay::{LaneState, Link, Ranges, Saved, Top, Verdict};
use std::collections::BTreeMap;

const OLD: JournalId = JournalId(1);
const NOW: JournalId = JournalId(2);

/// The journal was forked at 100 and ends with 20,000.
fn own() -> Own {
    let link = |journal: JournalId, first| {
        let source = format!("urn:signalbox:c:e:{journal}").parse().unwrap();
        Link { source, first: EventSeq(first) }
    };
    Own { chain: vec![link(OLD, 1), link(NOW, 100)], end: EventSeq(20_000) }
}

fn lane(name: &str) -> LaneName {
    LaneName { name: name.into(), incarnation: "i".into() }
}

fn event(journal: JournalId, seq: u64, place: u64) -> Found {
    let id = Identity { journal, seq: EventSeq(seq) };
    Found { id, domain_seq: seq, domain: "call".into(), place, digest: Some(seq) }
}

fn holding(known_holds: bool, above: &[Found]) -> LaneFound {
    let last = above.last().cloned();
    LaneFound { last: last.clone(), last_of_journal: last, above: above.to_vec(), known_holds }
}

fn state(name: &str, top: Option<(u64, u64)>) -> LaneState {
    let top = top.map(|(seq, place)| Top { place, journal: NOW, seq: EventSeq(seq) });
    LaneState { name: name.to_owned(), incarnation: "i".to_owned(), top, ..LaneState::default() }
}

fn saved(cursor: u64, lanes: Vec<LaneState>) -> Saved {
    Saved { cursor: EventSeq(cursor), lanes }
}

fn have(lane: &LaneState) -> Vec<u64> {
    (1..20_100).filter(|seq| lane.have.contains(*seq)).collect()
}

fn judge(saved: &Saved, names: &[&str], found: &[LaneFound]) -> Verdict {
    let lanes: Vec<LaneName> = names.iter().map(|name| lane(name)).collect();
    let ours: BTreeMap<EventSeq, u64> =
        questions(saved, &lanes, found, &own()).into_iter().map(|seq| (seq, seq.0)).collect();
    verdict(saved, &lanes, found, &own(), &ours)
}

#[test]
fn nothing_known_and_nothing_there_begins_at_the_beginning() {
    let Verdict::Equal(resumed) = judge(&Saved::default(), &["a"], &[LaneFound::default()]) else { panic!() };
    assert_eq!((resumed.cursor, resumed.lanes), (EventSeq(0), vec![state("a", None)]));
}

#[test]
fn what_was_stored_and_never_told_is_not_sent_again() {
    let saved = saved(200, vec![state("a", Some((200, 50)))]);
    let found = holding(true, &[event(NOW, 201, 51), event(NOW, 204, 53)]);
    let Verdict::Equal(resumed) = judge(&saved, &["a"], &[found]) else { panic!() };
    assert_eq!((resumed.cursor, have(&resumed.lanes[0])), (EventSeq(200), vec![201, 204]));
    assert_eq!(resumed.lanes[0].top.unwrap().place, 53);
}

#[test]
fn a_lane_that_has_lost_its_end_is_sent_again_and_the_others_are_not() {
    let saved = saved(210, vec![state("a", Some((210, 60))), state("b", Some((209, 40)))]);
    let rolled = [event(NOW, 199, 50), event(NOW, 203, 51), event(NOW, 201, 52)];
    let found = [holding(false, &rolled), holding(true, &[])];
    let Verdict::Behind(resumed, lost) = judge(&saved, &["a", "b"], &found) else { panic!() };
    assert_eq!(lost, [Lost { lane: "a".to_owned(), from: EventSeq(1) }]);
    assert_eq!(resumed.cursor, EventSeq(0));
    assert_eq!(have(&resumed.lanes[0]), [199, 201, 203]);
    assert_eq!(have(&resumed.lanes[1]), (1..=210).collect::<Vec<_>>());
}

#[test]
fn only_the_last_windows_are_looked_through() {
    let saved = saved(19_000, vec![state("a", Some((19_000, 60)))]);
    let found = holding(false, &[event(NOW, 18_999, 50), event(NOW, 18_990, 51)]);
    let Verdict::Behind(resumed, lost) = judge(&saved, &["a"], &[found]) else { panic!() };
    let from = 18_999 - WINDOW_MAX as u64 + 1;
    assert_eq!(lost, [Lost { lane: "a".to_owned(), from: EventSeq(from) }]);
    assert_eq!((resumed.cursor.0, have(&resumed.lanes[0])), (from - 1, vec![18_990, 18_999]));
}

#[test]
fn a_stream_made_anew_gets_everything_again() {
    let mut known = state("a", Some((210, 60)));
    known.incarnation = "an earlier one".to_owned();
    let saved = saved(210, vec![known]);
    let Verdict::Behind(resumed, _) = judge(&saved, &["a"], &[holding(true, &[])]) else { panic!() };
    assert_eq!((resumed.cursor, &resumed.lanes[0]), (EventSeq(0), &state("a", None)));
}

#[test]
fn what_is_known_to_be_missing_stays_missing() {
    let mut known = state("a", Some((210, 60)));
    known.have.insert(151, 210);
    let saved = saved(149, vec![known]);
    let Verdict::Equal(resumed) = judge(&saved, &["a"], &[holding(true, &[])]) else { panic!() };
    assert_eq!(resumed.lanes[0].have.next_missing(150), 150);
    assert_eq!(resumed.lanes[0].have.next_missing(151), 211);
}

#[test]
fn a_new_lane_begins_at_the_cursor() {
    let saved = saved(210, vec![state("a", Some((210, 60)))]);
    let found = [holding(true, &[]), LaneFound::default()];
    let Verdict::Equal(resumed) = judge(&saved, &["a", "b"], &found) else { panic!() };
    assert_eq!((resumed.cursor, &resumed.lanes[1]), (EventSeq(210), &state("b", None)));
}

#[test]
fn a_lane_that_the_connection_lacks_keeps_its_place() {
    let saved = saved(210, vec![state("a", Some((210, 60))), state("b", Some((209, 40)))]);
    let Verdict::Equal(resumed) = judge(&saved, &["a"], &[holding(true, &[])]) else { panic!() };
    assert_eq!(resumed, saved);
}

#[test]
fn a_journal_whose_number_is_beyond_its_end_has_been_restored_or_cloned() {
    let saved = saved(20_000, vec![state("a", Some((20_000, 60)))]);
    let found = holding(true, &[event(NOW, 20_001, 61)]);
    let Verdict::Ahead(parted) = judge(&saved, &["a"], &[found]) else { panic!() };
    assert_eq!((parted.bus, parted.end, parted.journal), (EventSeq(20_001), EventSeq(20_000), NOW));
}

#[test]
fn another_event_under_a_number_of_ours_parts_the_histories() {
    let saved = saved(200, vec![state("a", Some((200, 50)))]);
    let other = Found { digest: Some(7), ..event(NOW, 201, 51) };
    let Verdict::Differs(parted) = judge(&saved, &["a"], &[holding(true, &[other])]) else { panic!() };
    assert_eq!(parted.bus, EventSeq(201));
    assert!(parted.to_string().contains("says otherwise"), "{parted}");
}

#[test]
fn the_lost_future_of_an_older_journal_is_left_alone() {
    let saved = saved(200, vec![state("a", Some((200, 50)))]);
    let mut found = holding(true, &[event(OLD, 150, 51), event(OLD, 30_000, 52)]);
    found.last_of_journal = None;
    let Verdict::Equal(resumed) = judge(&saved, &["a"], &[found]) else { panic!() };
    assert_eq!((resumed.cursor, &resumed.lanes[0].have), (EventSeq(200), &Ranges::default()));
}

#[test]
fn an_event_that_was_seen_before_is_not_asked_for() {
    let saved = saved(200, vec![state("a", Some((200, 50)))]);
    let mut found = holding(true, &[]);
    found.last_of_journal = Some(event(NOW, 200, 50));
    assert_eq!(questions(&saved, &[lane("a")], &[found.clone()], &own()), []);
    found.last_of_journal = Some(event(NOW, 201, 51));
    assert_eq!(questions(&saved, &[lane("a")], &[found], &own()), [EventSeq(201)]);
}
