//! The bytes of private parts and of snapshots, frozen: a changed type without a raised layout is read as something else
//! after an upgrade. `SIGNALBOX_BLESS=1` writes the bytes of a raised [`LAYOUT`] or [`FOLD_VERSION`], and what is new in
//! this one; it does not touch those that are there.

use super::calls::{Answer, Attempted, Branch, CallPrivate, CallState, PendingRequest, Redo, Stage};
use super::private::LAYOUT;
use super::snapshot::{self, Cursor};
use super::underway::{Dismissed, Open, Reinvite, Underway};
use super::{
    BackendRecord, Binding, BindingKey, BindingPrivate, ConfigState, EdgeState, FOLD_VERSION, Private, State,
    TrueForms, WholeBinding, Wish,
};
use crate::call::leg::{End, Leg, LegChange, Peer};
use crate::call::offer::Description;
use crate::call::raw::{Raw, RawList};
use signalbox_base::{CallUid, EventSeq, Flow, JournalId, ListenerId, ShortToken, Text, Wall};
use signalbox_schemas::words::BackendState;
use signalbox_sip::sdp::Session;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

fn flow() -> Flow {
    let address = |text: &str| text.parse().expect("an address");
    Flow::udp(ListenerId(3), address("192.0.2.1:5060"), address("[2001:db8::7]:5062"))
}

fn reached() -> BindingPrivate {
    BindingPrivate {
        key: BindingKey(0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF),
        flow: flow(),
        backend: Text::new("pbx-2"),
        home: Text::new("pbx-1"),
        granted_secs: 300,
        behind_nat: true,
    }
}

fn forms() -> TrueForms {
    TrueForms { contact: Text::new("sip:401:word@10.0.0.9"), path: Some(Text::new("<sip:p1;lr>")) }
}

fn leg(name: &str, peer: Peer) -> Leg {
    let raw = |part: &str| Raw::from(format!("{name}-{part}"));
    Leg {
        token: ShortToken(0x00AB_CDEF_0123),
        peer,
        flow: flow(),
        call_id: raw("call-id"),
        local: raw("local"),
        local_tag: raw("local-tag"),
        remote: raw("remote"),
        remote_tag: raw("remote-tag"),
        target: raw("target"),
        routes: [b"<sip:r1;lr>".as_slice(), b"<sip:r2;lr>"].into_iter().collect(),
        sent: 300,
        seen: 7,
        offset: 2,
    }
}

fn caller() -> Leg {
    leg("caller", Peer::Endpoint { name: Text::new("401@acme.test") })
}

fn callee() -> Leg {
    leg("callee", Peer::Backend { name: Text::new("pbx-1") })
}

fn by_trunk() -> Leg {
    leg("trunk", Peer::Trunk { name: Text::new("carrier") })
}

/// Each of its values differs, or none does.
fn changed(all: bool) -> LegChange {
    let (before, after) = (callee(), leg("new", callee().peer));
    let mut after = if all { Leg { local: before.local.clone(), ..after } } else { before.clone() };
    if all {
        after.flow.listener = ListenerId(9);
        after.routes = RawList::default();
    }
    LegChange::between(&before, &after)
}

fn invite() -> PendingRequest {
    let parts = [b"<sip:a>;tag=1".as_slice(), b"<sip:b>", b"SIP/2.0/UDP x", b"<sip:rr;lr>"];
    PendingRequest { cseq: 12, vias: 1, parts: parts.into_iter().collect() }
}

fn answer() -> Answer {
    Answer { cseq_in: 12, cseq_out: 13, bytes: Raw::from("SIP/2.0 200 OK") }
}

fn attempt() -> Attempted {
    let peer = callee().peer;
    Attempted { token: ShortToken(5), peer, via: Raw::from("via"), uri: Some(Raw::from("uri")), cseq: 1 }
}

fn reinvite() -> Reinvite {
    let (via, uri) = (Raw::from("via"), Raw::from("uri"));
    let offer = Some(Description::new(&Session::parse(SDP).expect("a description")));
    Reinvite { from: End::Callee, flow: flow(), invite: invite(), via, uri, cseq: 21, moved: true, offer }
}

const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 8 0\r\na=sendonly\r\n";

fn underway() -> Underway {
    Underway {
        reinvites: vec![Open { reinvite: reinvite(), at: Wall(1_790_000_000_000_002), settled: true }],
        dismissed: vec![Dismissed { attempt: 2, leg: callee(), cseq: 12 }],
    }
}

/// How many of [`privates`] a layout began with: later ones belong to events that readers of before step over.
const KNOWN_MIN: [(u8, usize); 3] = [(2, 8), (3, 11), (4, 13)];

/// One of each, by name.
fn privates() -> Vec<(&'static str, Private)> {
    let call = Private::Call;
    let whole = WholeBinding {
        forms: forms(),
        instance: Some(Text::new("urn:uuid:1")),
        reg_id: Some(1),
        q: Some(700),
        call_id: Text::new("call-id"),
        user_agent: Some(Text::new("agent")),
        methods: Some(Text::new("INVITE,BYE")),
        added_at: Wall(1_790_000_000_000_000),
    };
    let legs = |all| (Some(changed(all)), Some(changed(!all)));
    let (caller_change, callee_change) = legs(true);
    let (other_caller, other_callee) = legs(false);
    vec![
        ("binding", Private::Binding(reached())),
        ("binding-with", Private::BindingWith(reached(), forms())),
        ("attempted", call(CallPrivate::Attempted { leg: caller(), invite: invite() })),
        (
            "routed",
            call(CallPrivate::Routed {
                attempt: attempt(),
                leg: Some(changed(true)),
                invite: Some(invite()),
            }),
        ),
        (
            "answered",
            call(CallPrivate::Answered { caller: caller_change, callee: callee_change, answer: answer() }),
        ),
        ("legs", call(CallPrivate::Legs { caller: other_caller, callee: other_callee })),
        ("ended", call(CallPrivate::Ended { bye_caller: true, bye_callee: false })),
        ("failed", call(CallPrivate::Failed { bytes: Raw::from("SIP/2.0 486 Busy Here") })),
        ("binding-whole", Private::BindingWhole(reached(), Box::new(whole))),
        (
            "reinvited",
            call(CallPrivate::Reinvited {
                caller: Some(changed(true)),
                callee: Some(changed(false)),
                reinvite: reinvite(),
            }),
        ),
        ("dismissed", call(CallPrivate::Dismissed { leg: changed(true) })),
        (
            "routed-as",
            call(CallPrivate::RoutedAs {
                attempt: attempt(),
                leg: Some(changed(true)),
                invite: None,
                local: Raw::from("<sip:+44@a>"),
            }),
        ),
        ("attempted-by-trunk", call(CallPrivate::Attempted { leg: by_trunk(), invite: invite() })),
    ]
}

fn call_state() -> CallState {
    let branch = Branch { attempt: 1, leg: callee(), via: Raw::from("via"), uri: Raw::from("uri"), cseq: 1 };
    CallState {
        tenant: Text::new("acme"),
        stage: Stage::Answered,
        cdr: Some(Box::default()),
        last: EventSeq(41),
        caller: caller(),
        invite: Some(invite()),
        branches: vec![branch],
        winner: Some(1),
        holding: [true, false],
        redo: Redo::Answer(answer()),
        touched: Wall(1_790_000_000_000_001),
        checkpoints: 2,
        marked: Some((EventSeq(40), Wall(1_790_000_000_000_000))),
        underway: None,
        session_secs: 0,
    }
}

/// One aggregate of each kind, calls in each redo.
fn state() -> State {
    let mut state = State::new(JournalId(7));
    state.last = EventSeq(50);
    state.config = ConfigState { revision: 3, sha256: Text::new("ab"), seq: EventSeq(2) };
    let started_at = Some(Wall(1_789_000_000_000_000));
    state.edge = EdgeState { started_at, stopped_clean: true, last_wall: Wall(1), seq: EventSeq(1) };
    let record = BackendRecord {
        state: BackendState::Down,
        wish: Wish::Drain,
        last_up_at: Some(Wall(2)),
        changed_at: Wall(3),
        seq: EventSeq(9),
    };
    state.backends.insert(Text::new("acme/pbx-1"), record);
    let redos = [
        Redo::Answer(answer()),
        Redo::Nothing,
        Redo::Bye { caller: true, callee: false },
        Redo::Failure { bytes: Raw::from("SIP/2.0 486") },
    ];
    for (redo, uid) in redos.into_iter().zip(1..) {
        state.calls.insert(CallUid(uid), CallState { redo, ..call_state() });
    }
    let busy = CallState { underway: Some(Box::new(underway())), ..call_state() };
    state.calls.insert(CallUid(5), busy);
    state.calls.insert(CallUid(6), CallState { session_secs: 1800, ..call_state() });
    let binding = Binding {
        key: reached().key,
        contact: forms().contact,
        flow: flow().into(),
        path: forms().path,
        instance: Some(Text::new("urn:uuid:1")),
        reg_id: Some(1),
        q: Some(700),
        call_id: Text::new("call-id"),
        cseq: 4,
        expires_at: Wall(1_790_000_300_000_000),
        granted_secs: 300,
        behind_nat: true,
        user_agent: Some(Text::new("agent")),
        methods: Some(Text::new("INVITE,BYE")),
        added_at: Wall(1_790_000_000_000_000),
        seq: EventSeq(44),
    };
    let (name, pbx) = (Text::new("acme/401@acme.test"), Text::new("pbx-1"));
    state.registrations.put(&name, &pbx, &pbx, binding);
    state
}

fn entries(state: &State) -> Vec<snapshot::Entry> {
    let mut entries = Vec::new();
    assert!(snapshot::write(state, &mut Cursor::default(), usize::MAX, &mut entries));
    entries
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory takes it");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn lines<'a>(all: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    all.map(|(name, bytes)| format!("{name} {}\n", hex(bytes))).collect()
}

/// Holds what is written now against the file; writes the file if it is not there and may be.
fn hold(name: &str, now: &str, raise: &str) {
    let path = file(name);
    if std::env::var_os("SIGNALBOX_BLESS").is_some() {
        let before = fs::read_to_string(&path).unwrap_or_default();
        if before.lines().all(|line| now.lines().any(|other| other == line)) {
            fs::write(&path, now).expect("the golden file can be written");
        }
    }
    let frozen = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; SIGNALBOX_BLESS=1 writes it", path.display()));
    assert!(
        frozen == now,
        "the bytes differ from {}: raise {raise}, keep reading what was written before, and run with \
         SIGNALBOX_BLESS=1\nnow:\n{now}",
        path.display()
    );
}

fn frozen_privates(layout: u8) -> Vec<(String, Vec<u8>)> {
    let text = fs::read_to_string(file(&format!("private.{layout}"))).expect("each layout read is frozen");
    let pair = |line: &str| line.split_once(' ').map(|(name, bytes)| (name.to_owned(), unhex(bytes)));
    text.lines().map(|line| pair(line).expect("a name and bytes")).collect()
}

#[test]
fn given_each_private_part_when_written_then_its_bytes_are_those_of_its_layout() {
    let parts: Vec<_> = privates()
        .iter()
        .map(|(name, private)| {
            let mut bytes = Vec::new();
            private.encode(&mut bytes);
            assert_eq!(bytes[0], LAYOUT);
            (*name, bytes)
        })
        .collect();
    let now = lines(parts.iter().map(|(name, bytes)| (*name, &**bytes)));
    hold(&format!("private.{LAYOUT}"), &now, "LAYOUT in state/private.rs");
}

#[test]
fn given_private_parts_of_this_layout_and_those_before_then_they_read_as_what_was_written() {
    let known = privates();
    assert_eq!(KNOWN_MIN.map(|(layout, _)| layout), [LAYOUT - 2, LAYOUT - 1, LAYOUT]);
    for (layout, least) in KNOWN_MIN {
        let frozen = frozen_privates(layout);
        assert!(frozen.len() >= least, "layout {layout} lacks some");
        for (name, bytes) in frozen {
            assert_eq!(bytes[0], layout);
            let wanted = known.iter().find(|(known, _)| *known == name).map(|(_, private)| private);
            assert_eq!(Private::decode(&bytes).as_ref().ok(), wanted, "{name} of layout {layout}");
        }
    }
    for other in [0, 1, LAYOUT + 1] {
        assert_eq!(Private::decode(&[other, 0]), Err(super::PrivateError::Layout(other)));
    }
}

#[test]
fn given_each_kind_of_a_snapshots_entry_when_written_then_its_bytes_are_those_of_the_fold_version() {
    let state = state();
    let entries = entries(&state);
    let now = lines(entries.iter().map(|entry| (&*entry.key, &*entry.bytes)));
    hold(&format!("snapshot.{FOLD_VERSION}"), &now, "FOLD_VERSION in state/mod.rs");
    let read = snapshot::read(state.journal, FOLD_VERSION, state.last, entries.clone()).expect("it reads");
    assert_eq!(self::entries(&read), entries);
}
