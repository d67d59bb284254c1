//! Stories of the table: given a transaction, when the peer, the gate or the clock acts, then what goes out.

use super::{
    Branch, ClientEntry, ClientKey, End, Gate, MethodTag, Mono, NewClient, NewServer, OnAck, OnRequest,
    OnResponse, OpenError, Output, RespondError, ServerEntry, Table, Tell, Timing, Tx,
};
use crate::transaction::{KeyHasher, RequestFields, ServerKey, TRYING_WITHIN};
use signalbox_base::{Flow, ListenerId, Transport};

pub(super) type Out = Vec<Output<u32>>;

pub(super) const INVITE: MethodTag = MethodTag::INVITE;
pub(super) const OPTIONS: MethodTag = MethodTag::new(b"OPTIONS");

pub(super) fn ms(at: u64) -> Mono {
    Mono(at * 1_000_000)
}

fn flow(reliable: bool) -> Flow {
    let udp = Flow::udp(ListenerId(0), "192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
    if reliable { Flow { transport: Transport::Tcp, ..udp } } else { udp }
}

pub(super) fn table() -> Table<u32> {
    Table::new(Timing::RFC, 1000, 7)
}

pub(super) fn request(method: MethodTag, branch: u64, gate: Gate, reliable: bool) -> NewClient<'static> {
    NewClient { branch: Branch(branch), method, flow: flow(reliable), bytes: b"request", gate }
}

pub(super) fn client_key(method: MethodTag, branch: u64) -> ClientKey {
    ClientKey { branch: Branch(branch), method }
}

pub(super) fn server_key(method: &[u8], branch: u64) -> ServerKey {
    let branch = Branch(branch).to_string();
    KeyHasher::new([1, 2]).key(&RequestFields {
        method,
        branch: Some(branch.as_bytes()),
        ..RequestFields::default()
    })
}

pub(super) fn received(key: ServerKey, invite: bool, reliable: bool) -> NewServer {
    NewServer { key, invite, flow: flow(reliable), trying_after: None, repeat_2xx: invite }
}

/// Runs the clock to `until` and tells when (in ms) what was sent, and all else that came out.
fn run(table: &mut Table<u32>, until: u64) -> (Vec<(u64, Vec<u8>)>, Out) {
    let (mut sent, mut rest) = (Vec::new(), Vec::new());
    while let Some(at) = table.next_due().filter(|at| *at <= ms(until)) {
        let mut out = Vec::new();
        table.due(at, 10, &mut out);
        for output in out {
            match output {
                Output::Send { bytes, .. } => sent.push((at.0 / 1_000_000, bytes.to_vec())),
                other => rest.push(other),
            }
        }
    }
    (sent, rest)
}

fn times(sent: &[(u64, Vec<u8>)]) -> Vec<u64> {
    sent.iter().map(|(at, _)| *at).collect()
}

fn ended(tx: impl Into<Tx>, user: u32, why: End) -> Out {
    vec![Output::Ended { tx: tx.into(), user, why }]
}

fn bytes_sent(out: &Out) -> Vec<&[u8]> {
    out.iter()
        .filter_map(|output| if let Output::Send { bytes, .. } = output { Some(&**bytes) } else { None })
        .collect()
}

#[test]
fn an_unanswered_request_is_repeated_by_its_schedule_and_times_out() {
    for (method, schedule) in [
        (INVITE, vec![500, 1_500, 3_500, 7_500, 15_500, 31_500]),
        (OPTIONS, vec![500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]),
    ] {
        let mut table = table();
        let tx = table.start(request(method, 1, Gate::Now, false), 5, ms(0)).unwrap();
        let (sent, rest) = run(&mut table, 100_000);
        assert_eq!(times(&sent), schedule);
        assert!(sent.iter().all(|(_, bytes)| bytes == b"request"));
        assert_eq!(rest, ended(tx, 5, End::Timeout));
        assert!(table.is_empty() && table.next_due().is_none());
    }
}

#[test]
fn over_tcp_nothing_is_repeated_and_only_an_invite_is_kept() {
    let mut table = table();
    let invite = table.start(request(INVITE, 1, Gate::Now, true), 1, ms(0)).unwrap();
    let options = table.start(request(OPTIONS, 2, Gate::Now, true), 2, ms(0)).unwrap();
    assert_eq!(table.request(invite), Some(b"request".as_slice()), "a CANCEL or ACK is built from it");
    assert_eq!(table.bytes_kept(options), 0);
    assert!(run(&mut table, 100_000).0.is_empty());
    assert!(table.is_empty());
}

#[test]
fn a_held_request_is_not_repeated_and_its_timers_count_from_the_release() {
    let mut table = table();
    let tx = table.start(request(OPTIONS, 1, Gate::Held, false), 5, ms(0)).unwrap();
    assert_eq!(table.next_due(), None, "no timer while held");
    assert!(table.released(tx, ms(1_000)));
    assert!(!table.released(tx, ms(1_200)), "once");
    let (sent, rest) = run(&mut table, 100_000);
    assert_eq!(times(&sent)[..3], [1_500, 2_500, 4_500]);
    assert_eq!(rest, ended(tx, 5, End::Timeout));
}

#[test]
fn a_request_withdrawn_before_its_release_was_never_there() {
    let (mut table, mut out) = (table(), Vec::new());
    let tx = table.start(request(INVITE, 1, Gate::Held, false), 5, ms(0)).unwrap();
    assert!(table.withdraw(tx, &mut out));
    assert_eq!(out, ended(tx, 5, End::Withdrawn));
    assert!(!table.released(tx, ms(10)) && !table.withdraw(tx, &mut out));
    assert!(table.is_empty());
    let key = client_key(INVITE, 1);
    assert_eq!(table.on_response(key, 200, ms(20), &mut out), OnResponse::Stray);
}

#[test]
fn a_response_that_overtakes_the_news_of_the_release_is_handled() {
    let (mut table, mut out) = (table(), Vec::new());
    let tx = table.start(request(INVITE, 1, Gate::Held, false), 5, ms(0)).unwrap();
    let told = table.on_response(client_key(INVITE, 1), 180, ms(10), &mut out);
    assert_eq!(told, OnResponse::Provisional { tx });
    assert!(!table.released(tx, ms(11)));
    assert!(run(&mut table, 60_000).0.is_empty(), "no retransmission after a provisional");
    assert!(table.may_cancel(tx));
}

#[test]
fn the_ack_of_a_failure_is_repeated_with_it_and_forgotten_after_timer_d() {
    let (mut table, mut out) = (table(), Vec::new());
    let (tx, key) =
        (table.start(request(INVITE, 1, Gate::Now, false), 5, ms(0)).unwrap(), client_key(INVITE, 1));
    let told = table.on_response(key, 486, ms(100), &mut out);
    let request = Some(b"request".as_slice().into());
    assert_eq!(told, OnResponse::Final { tx, request, needs_ack: true });
    table.ack(tx, b"ack");
    assert_eq!(table.request(tx), None);
    for at in [600, 1_600] {
        assert_eq!(table.on_response(key, 486, ms(at), &mut out), OnResponse::Absorbed { tx });
    }
    assert_eq!(bytes_sent(&out), [b"ack", b"ack"]);
    assert_eq!(table.on_response(key, 200, ms(2_000), &mut out), OnResponse::Late { tx });
    assert_eq!(run(&mut table, 32_099).1, []);
    assert_eq!(run(&mut table, 32_100).1, ended(tx, 5, End::Done));
    assert_eq!(table.on_response(key, 486, ms(33_000), &mut out), OnResponse::Stray);
}

#[test]
fn over_tcp_a_failed_invite_lives_until_its_user_has_built_the_ack() {
    let (mut table, mut out) = (table(), Vec::new());
    let tx = table.start(request(INVITE, 1, Gate::Now, true), 5, ms(0)).unwrap();
    let told = table.on_response(client_key(INVITE, 1), 486, ms(100), &mut out);
    assert!(matches!(told, OnResponse::Final { request: Some(_), needs_ack: true, .. }));
    assert_eq!(table.user(tx), Some(&5), "timer D is zero, but nothing ends within the turn");
    table.ack(tx, b"ack");
    assert_eq!(run(&mut table, 101).1, ended(tx, 5, End::Done));
}

#[test]
fn an_answered_invite_keeps_no_bytes_and_passes_every_2xx_up_for_64_t1() {
    let (mut table, mut out) = (table(), Vec::new());
    let (tx, key) =
        (table.start(request(INVITE, 1, Gate::Now, false), 5, ms(0)).unwrap(), client_key(INVITE, 1));
    assert!(matches!(
        table.on_response(key, 200, ms(100), &mut out),
        OnResponse::Final { needs_ack: false, .. }
    ));
    assert_eq!(table.bytes_kept(tx), 0);
    assert_eq!(table.on_response(key, 200, ms(600), &mut out), OnResponse::Again { tx });
    assert_eq!(run(&mut table, 100_000).1, ended(tx, 5, End::Done));
    assert_eq!(out, []);
}

#[test]
fn a_cancel_has_the_branch_of_its_invite_and_a_transaction_of_its_own() {
    let (mut table, mut out) = (table(), Vec::new());
    let invite = table.start(request(INVITE, 1, Gate::Now, false), 5, ms(0)).unwrap();
    assert!(!table.may_cancel(invite), "nothing was heard yet");
    table.on_response(client_key(INVITE, 1), 180, ms(100), &mut out);
    assert!(table.may_cancel(invite));
    let cancel = table.start(request(MethodTag::CANCEL, 1, Gate::Now, false), 6, ms(200)).unwrap();
    table.cancelled(invite, ms(200));
    assert!(!table.may_cancel(invite));
    let told = table.on_response(client_key(MethodTag::CANCEL, 1), 200, ms(300), &mut out);
    assert!(matches!(told, OnResponse::Final { tx, .. } if tx == cancel));
    let (_, rest) = run(&mut table, 100_000);
    assert_eq!(rest, [ended(cancel, 6, End::Done), ended(invite, 5, End::Timeout)].concat());
}

#[test]
fn timer_c_asks_the_user_and_leaves_the_invite_alive() {
    let (mut table, mut out) = (table(), Vec::new());
    let tx = table.start(request(INVITE, 1, Gate::Now, false), 5, ms(0)).unwrap();
    table.on_response(client_key(INVITE, 1), 180, ms(1_000), &mut out);
    let (_, rest) = run(&mut table, 300_000);
    assert_eq!(rest, [Output::Tell { tx: tx.into(), what: Tell::TimerC }]);
    assert!(table.may_cancel(tx));
}

#[test]
fn a_held_answer_does_not_exist_for_a_repeated_invite() {
    let (mut table, mut out, key) = (table(), Vec::new(), server_key(b"INVITE", 1));
    assert_eq!(table.on_request(key, &mut out), OnRequest::New);
    let tx = table.open(received(key, true, false), 5, ms(0)).unwrap();
    assert_eq!(table.on_request(key, &mut out), OnRequest::Repeated { tx });
    assert_eq!(out, [], "nothing was released yet");
    table.respond(tx, 100, b"100", Gate::Now, ms(10)).unwrap();
    table.respond(tx, 200, b"200", Gate::Held, ms(20)).unwrap();
    table.on_request(key, &mut out);
    assert_eq!(bytes_sent(&out), [b"100"]);
    assert_eq!(table.next_due(), None, "no timer while held");
    assert!(table.released(tx, ms(1_000)));
    let (sent, rest) = run(&mut table, 100_000);
    assert_eq!(times(&sent)[..3], [1_500, 2_500, 4_500]);
    assert!(sent.iter().all(|(_, bytes)| bytes == b"200"));
    assert_eq!(rest, ended(tx, 5, End::NoAck), "64 T1 after the release");
}

#[test]
fn a_held_answer_to_another_request_is_repeated_only_once_released() {
    let (mut table, mut out, key) = (table(), Vec::new(), server_key(b"REGISTER", 1));
    let tx = table.open(received(key, false, false), 5, ms(0)).unwrap();
    table.respond(tx, 200, b"200", Gate::Held, ms(10)).unwrap();
    table.on_request(key, &mut out);
    assert_eq!(out, []);
    table.released(tx, ms(500));
    table.on_request(key, &mut out);
    assert_eq!(bytes_sent(&out), [b"200"]);
    assert_eq!(run(&mut table, 32_499).1, []);
    assert_eq!(run(&mut table, 32_500).1, ended(tx, 5, End::Done));
}

#[test]
fn a_held_answer_can_be_withdrawn_and_another_given() {
    let (mut table, mut out, key) = (table(), Vec::new(), server_key(b"INVITE", 1));
    let tx = table.open(received(key, true, false), 5, ms(0)).unwrap();
    table.respond(tx, 200, b"200", Gate::Held, ms(10)).unwrap();
    assert_eq!(table.respond(tx, 503, b"503", Gate::Now, ms(20)), Err(RespondError::Held));
    assert!(table.withdraw(tx, &mut out) && !table.withdraw(tx, &mut out));
    assert_eq!(table.respond(tx, 503, b"503", Gate::Now, ms(20)), Ok(()));
    assert_eq!(table.respond(tx, 200, b"200", Gate::Now, ms(30)), Err(RespondError::Answered));
    let (sent, rest) = run(&mut table, 100_000);
    assert!(sent.iter().all(|(_, bytes)| bytes == b"503"));
    assert_eq!(rest, ended(tx, 5, End::NoAck));
    assert_eq!(table.respond(tx, 503, b"503", Gate::Now, ms(100_001)), Err(RespondError::Gone));
}

#[test]
fn an_ack_that_overtakes_the_news_of_the_release_is_handled() {
    let (mut table, key) = (table(), server_key(b"INVITE", 1));
    let tx = table.open(received(key, true, false), 5, ms(0)).unwrap();
    table.respond(tx, 486, b"486", Gate::Held, ms(10)).unwrap();
    assert_eq!(table.on_ack(key, ms(20)), OnAck::Absorbed { tx });
    assert_eq!((table.released(tx, ms(30)), table.bytes_kept(tx)), (false, 0));
    assert_eq!(run(&mut table, 100_000), (vec![], ended(tx, 5, End::Done)));
}

#[test]
fn the_ack_of_a_2xx_ends_its_repetition_and_drops_its_bytes() {
    for gate in [Gate::Now, Gate::Held] {
        let (mut table, key) = (table(), server_key(b"INVITE", 1));
        let tx = table.open(received(key, true, true), 5, ms(0)).unwrap();
        table.respond(tx, 200, b"200", gate, ms(10)).unwrap();
        assert_eq!(table.bytes_kept(tx), 3, "a 2xx is repeated over TCP too");
        table.acked(tx, ms(20));
        assert_eq!(table.bytes_kept(tx), 0);
        assert_eq!(table.on_ack(key, ms(30)), OnAck::Deliver { tx });
        assert_eq!(run(&mut table, 100_000), (vec![], ended(tx, 5, End::Done)));
        assert_eq!(table.on_ack(key, ms(40)), OnAck::Unmatched);
    }
}

#[test]
fn a_transport_error_ends_a_client_but_leaves_an_invite_server_to_its_timers() {
    let (mut table, mut out, key) = (table(), Vec::new(), server_key(b"INVITE", 1));
    let client = table.start(request(OPTIONS, 1, Gate::Now, false), 5, ms(0)).unwrap();
    table.transport_error(client, &mut out);
    assert_eq!(out, ended(client, 5, End::Transport));
    let server = table.open(received(key, true, false), 6, ms(0)).unwrap();
    table.respond(server, 486, b"486", Gate::Now, ms(10)).unwrap();
    table.transport_error(server, &mut out);
    assert_eq!(table.user(server), Some(&6));
    assert_eq!(run(&mut table, 100_000).1, ended(server, 6, End::NoAck));
}

#[test]
fn a_silent_user_is_asked_for_100() {
    let (mut table, key) = (table(), server_key(b"INVITE", 1));
    let new = NewServer { trying_after: Some(TRYING_WITHIN), ..received(key, true, false) };
    let tx = table.open(new, 5, ms(0)).unwrap();
    table.respond(tx, 200, b"200", Gate::Held, ms(10)).unwrap();
    let tell = Output::Tell { tx: tx.into(), what: Tell::TryingDue };
    assert_eq!(run(&mut table, 1_000).1, [tell], "a held answer is no answer");
}

#[test]
fn a_full_table_says_so_and_a_key_names_one_transaction() {
    let mut table = Table::new(Timing::RFC, 1, 7);
    let new = received(server_key(b"INVITE", 1), true, false);
    table.start(request(INVITE, 1, Gate::Now, false), 1, ms(0)).unwrap();
    table.open(new, 2, ms(0)).unwrap();
    assert_eq!(table.start(request(INVITE, 2, Gate::Now, false), 3, ms(0)), Err(OpenError::Full));
    assert_eq!(table.open(new, 4, ms(0)), Err(OpenError::Full));
    let mut roomy = self::table();
    roomy.start(request(INVITE, 1, Gate::Now, false), 1, ms(0)).unwrap();
    roomy.open(new, 2, ms(0)).unwrap();
    assert_eq!(roomy.start(request(INVITE, 1, Gate::Now, false), 3, ms(0)), Err(OpenError::Duplicate));
    assert_eq!(roomy.open(new, 4, ms(0)), Err(OpenError::Duplicate));
}

#[test]
fn a_transaction_is_small_beside_the_4_kib_of_a_call() {
    let entries = size_of::<ClientEntry<u64>>() + size_of::<ServerEntry<u64>>();
    assert!(
        entries <= 288,
        "{entries} bytes for a call's two INVITE transactions, gone 32 s after the answer"
    );
}
