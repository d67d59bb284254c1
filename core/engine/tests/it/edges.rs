//! Two edges of a cluster: a phone at one, its PBX at the other.

use crate::call_support::{Dialog, PBX, PHONE, SECOND, invite, respond, said, sdp};
use crate::support::{Phone, Sent, World, acme, addr, inside, register, request, response};
use signalbox_base::{Cidr, ConnId, Flow, JournalId, ListenerId, Text, Transport};
use signalbox_engine::remote::{self, Liveness, Update, Version};
use signalbox_engine::settings::{ListenerSettings, Serves};
use signalbox_engine::{Input, Settings};
use signalbox_sip::HeaderName;
use std::time::Duration;

/// Listeners for edges.
pub(crate) const A: &str = "10.0.9.1:5070";
pub(crate) const B: &str = "10.0.9.2:5070";
const JOURNALS: [JournalId; 2] = [JournalId(1 << 90), JournalId(2 << 90)];

fn cluster(name: &str, address: &str, transport: Transport) -> Settings {
    let mut settings = acme();
    settings.identity.edge = Text::new(name);
    settings.networks.push(Text::new("edges"));
    settings.listeners.push(ListenerSettings {
        network: 2,
        transport,
        address: addr(address),
        advertise: Text::new(address),
        serves: Serves { endpoints: false, backends: false, trunks: false, edges: true },
        domain: None,
    });
    settings.edges = vec!["10.0.9.0/24".parse::<Cidr>().expect("a prefix")];
    settings
}

/// Edge a, where phones register, and edge b, where the PBX calls.
pub(crate) struct Pair {
    pub(crate) a: World,
    pub(crate) b: World,
    /// Events of each that the other has been told.
    told: [usize; 2],
    /// Between the edges.
    transport: Transport,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::over(Transport::Udp)
    }

    pub(crate) fn over(transport: Transport) -> Self {
        let edge = |name, address| World::new(cluster(name, address, transport));
        let mut pair = Self { a: edge("edge-a", A), b: edge("edge-b", B), told: [0, 0], transport };
        pair.alive("edge-a", Liveness::Alive);
        pair.alive("edge-b", Liveness::Alive);
        pair
    }

    /// What each sent to the other arrives, until nothing is under way.
    pub(crate) fn carry(&mut self) {
        for _ in 0..100 {
            let (at_a, at_b) = (self.brought(A, B), self.brought(B, A));
            let mut to_a = self.b.take_to(addr(A));
            let mut to_b = self.a.take_to(addr(B));
            if self.transport != Transport::Udp {
                to_a.extend(self.b.take_to(at_b.remote));
                to_b.extend(self.a.take_to(at_a.remote));
            }
            if to_a.is_empty() && to_b.is_empty() {
                return;
            }
            for sent in to_a {
                self.a.deliver(at_a, sent.bytes);
            }
            for sent in to_b {
                self.b.deliver(at_b, sent.bytes);
            }
        }
        panic!("the edges never rest");
    }

    /// Each learns what the other has recorded since.
    pub(crate) fn share(&mut self) {
        let [from_a, from_b] = self.told;
        self.told = [self.a.journal.len(), self.b.journal.len()];
        let (a, b) = (updates(&self.a, 0, from_a), updates(&self.b, 1, from_b));
        self.b.input(Input::Remote(&a));
        self.a.input(Input::Remote(&b));
    }

    /// The other one learns how an edge is.
    pub(crate) fn alive(&mut self, edge: &str, liveness: Liveness) {
        let (other, address) = if edge == "edge-a" { (&mut self.b, A) } else { (&mut self.a, B) };
        let update = Update::Peer { edge: Text::new(edge), address: Some(addr(address)), liveness };
        other.input(Input::Remote(&[update]));
    }

    /// The flow at one edge that brings what the other sends: its listener's, or that of the connection that it made.
    pub(crate) fn brought(&self, at: &str, from: &str) -> Flow {
        match self.transport {
            Transport::Udp => between(at, from),
            transport => {
                let remote = (addr(from).ip(), 40_000).into();
                Flow { transport, remote, conn: Some(ConnId(7)), ..between(at, from) }
            }
        }
    }

    fn pass(&mut self, by: Duration) {
        self.a.advance(by);
        self.b.advance(by);
    }
}

fn updates(world: &World, which: usize, from: usize) -> Vec<Update> {
    let edge = Text::new(["edge-a", "edge-b"][which]);
    let told = |record: &crate::support::Record| {
        let version = Version { journal: JOURNALS[which], seq: record.seq, at: record.wall };
        let about = (record.kind, &*record.tenant, &Text::new(&record.subject));
        remote::read(&edge, version, about, &record.data).expect("events read")
    };
    world.journal[from..].iter().filter_map(told).collect()
}

/// The flow at one edge's listener from the other's.
fn between(local: &str, remote: &str) -> Flow {
    Flow::udp(ListenerId(2), addr(local), addr(remote))
}

/// 401 is registered at edge a, and edge b knows.
fn with_phone() -> (Pair, Phone) {
    with_phone_at(Pair::new())
}

/// The same in a pair.
pub(crate) fn with_phone_at(mut pair: Pair) -> (Pair, Phone) {
    let mut phone = Phone::new("401", "acme.test", PHONE);
    register(&mut pair.a, &mut phone, PBX, 3600);
    pair.share();
    (pair, phone)
}

/// The PBX calls at edge b; the INVITE at the phone of edge a.
#[track_caller]
fn pbx_calls(pair: &mut Pair, uri: &str, id: &str) -> Sent {
    let offer = sdp("10.0.1.1", "sendrecv", "PCMA");
    pair.b.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", uri, id, &offer));
    pair.carry();
    assert_eq!(pair.b.one_to(addr(PBX)).status(), Some(100));
    pair.a.one_to(addr(PHONE))
}

/// The phone answers, the PBX acknowledges: both ends of the dialog.
#[track_caller]
pub(crate) fn answered(pair: &mut Pair, phone: &Phone, id: &str) -> (Dialog, Dialog) {
    let at_phone = pbx_calls(pair, "sip:401@acme.test", id);
    let answer = sdp("192.168.0.9", "sendrecv", "PCMA");
    pair.a.deliver(phone.flow, respond(&at_phone, 200, "<sip:401@192.168.0.9>", &answer));
    pair.carry();
    let ok = pair.b.one_to(addr(PBX));
    assert_eq!(ok.status(), Some(200), "{}", ok.text());
    let mut pbx = Dialog::calling(inside(PBX), &ok);
    pair.b.deliver(inside(PBX), pbx.ack(1, ""));
    pair.carry();
    let ack = pair.a.one_to(addr(PHONE));
    assert!(ack.text().starts_with("ACK sip:401@192.168.0.9 SIP/2.0\r\n"), "{}", ack.text());
    (pbx, Dialog::called(phone.flow, &at_phone, "pbx"))
}

fn events(world: &World, domain: &str) -> usize {
    world.journal.iter().filter(|record| record.kind.starts_with(domain)).count()
}

#[test]
fn given_a_phone_at_another_edge_when_it_is_called_then_it_rings_and_both_can_change_and_end_the_call() {
    let (mut pair, phone) = with_phone();
    let (mut pbx, mut called) = answered(&mut pair, &phone, "c1");
    // The PBX holds; the phone offers in its turn; each goes to the other end with its answer and ACK.
    pair.b.deliver(inside(PBX), pbx.request("INVITE", &with_contact(PBX)));
    pair.carry();
    let reinvite = pair.a.one_to(addr(PHONE));
    assert!(reinvite.text().starts_with("INVITE sip:401@192.168.0.9 "), "{}", reinvite.text());
    pair.a.deliver(phone.flow, respond(&reinvite, 200, "<sip:401@192.168.0.9>", ""));
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["100", "200"]);
    pair.b.deliver(inside(PBX), pbx.ack(2, ""));
    pair.carry();
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["ACK"]);
    pair.a.deliver(phone.flow, called.request("INVITE", &with_contact(PHONE)));
    pair.carry();
    let reinvite = pair.b.one_to(addr(PBX));
    pair.b.deliver(inside(PBX), respond(&reinvite, 200, "<sip:402@10.0.1.1>", ""));
    pair.carry();
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["100", "200"]);
    pair.a.deliver(phone.flow, called.ack(101, ""));
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["ACK"]);
    // The phone hangs up.
    pair.a.deliver(phone.flow, called.request("BYE", ""));
    pair.carry();
    let bye = pair.b.one_to(addr(PBX));
    pair.b.deliver(inside(PBX), response(&bye, 200, ""));
    pair.carry();
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["200"]);
    assert_eq!(pair.b.records("call.ended").len(), 1);
    assert_eq!(events(&pair.a, "call."), 0, "the hop is no call");
    pair.pass(Duration::from_secs(300));
    pair.b.assert_replay_equals_live();
    assert_eq!(pair.b.engine.calls_active(), 0);
}

fn with_contact(at: &str) -> String {
    format!("Contact: <sip:me@{at}>\r\n")
}

#[test]
fn given_a_call_across_edges_when_the_pbx_hangs_up_then_the_phone_hears_it() {
    let (mut pair, phone) = with_phone();
    let (mut pbx, _) = answered(&mut pair, &phone, "c2");
    pair.b.deliver(inside(PBX), pbx.request("BYE", ""));
    pair.carry();
    let bye = pair.a.one_to(addr(PHONE));
    assert!(bye.text().starts_with("BYE sip:401@192.168.0.9 "), "{}", bye.text());
    pair.a.deliver(phone.flow, response(&bye, 200, ""));
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["200"]);
    assert_eq!(pair.b.records("call.ended").len(), 1);
}

#[test]
fn given_a_call_across_edges_then_neither_end_sees_the_other_edge_s_side() {
    let (mut pair, _) = with_phone();
    let at_phone = pbx_calls(&mut pair, "sip:401@acme.test", "c3");
    let text = at_phone.text();
    for hidden in ["10.0.9.2", "10.0.9.1", "10.0.1.1:5060", "10.0.0.5"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert_eq!(at_phone.message().values(HeaderName::Via).count(), 1);
    assert!(text.contains("X-Custom:  kept as it is \r\n"), "what is not a side's own passes untouched");
}

#[test]
fn given_a_ringing_call_across_edges_when_the_caller_gives_up_then_the_phone_stops_ringing() {
    let (mut pair, phone) = with_phone();
    let at_phone = pbx_calls(&mut pair, "sip:401@acme.test", "c4");
    pair.a.deliver(phone.flow, response(&at_phone, 180, "Contact: <sip:401@192.168.0.9>\r\n"));
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["180"]);
    let cancel =
        invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "c4", "").replace("INVITE", "CANCEL");
    pair.b.deliver(inside(PBX), cancel);
    pair.carry();
    let cancel = pair.a.one_to(addr(PHONE));
    assert!(cancel.text().starts_with("CANCEL "), "{}", cancel.text());
    pair.a.deliver(phone.flow, response(&cancel, 200, ""));
    pair.a.deliver(phone.flow, response(&at_phone, 487, ""));
    pair.carry();
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["ACK"]);
    pair.pass(Duration::from_secs(300));
    assert_eq!(pair.b.engine.calls_active(), 0);
    assert_eq!(pair.b.records("call.failed").len(), 1);
}

#[test]
fn given_a_busy_phone_at_another_edge_then_the_caller_hears_busy() {
    let (mut pair, phone) = with_phone();
    let at_phone = pbx_calls(&mut pair, "sip:401@acme.test", "c5");
    pair.a.deliver(phone.flow, response(&at_phone, 486, ""));
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["ACK"], "acknowledged by the edge it told");
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["486"]);
}

#[test]
fn given_the_owner_is_lost_when_its_phone_is_called_then_it_is_480_at_once_until_the_owner_is_back() {
    let (mut pair, _) = with_phone();
    pair.alive("edge-a", Liveness::Lost);
    let call = |pair: &mut Pair, id: &str| {
        let text = invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", id, "");
        pair.b.deliver(inside(PBX), text);
        said(&mut pair.b, addr(PBX))
    };
    assert_eq!(call(&mut pair, "c6"), ["100", "480"]);
    assert!(pair.b.take_to(addr(A)).is_empty());
    pair.alive("edge-a", Liveness::Alive);
    assert_eq!(call(&mut pair, "c7"), ["100"]);
    pair.carry();
    assert!(pair.a.one_to(addr(PHONE)).text().starts_with("INVITE "));
}

#[test]
fn given_a_call_on_its_way_when_the_owner_is_found_lost_then_the_caller_hears_480() {
    let (mut pair, _) = with_phone();
    let text = invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "c8", "");
    pair.b.deliver(inside(PBX), text);
    pair.b.take_to(addr(A));
    pair.alive("edge-a", Liveness::Lost);
    assert_eq!(said(&mut pair.b, addr(PBX)), ["100", "480"]);
}

#[test]
fn given_a_binding_elsewhere_when_its_time_is_over_then_nobody_believes_it() {
    let (mut pair, _) = with_phone();
    pair.b.advance(Duration::from_secs(3601));
    pair.b.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "c9", ""));
    assert_eq!(said(&mut pair.b, addr(PBX)), ["100", "404"]);
    pair.b.input(Input::Remote(&[]));
    assert_eq!(pair.b.engine.remote().len(), 0, "and it takes no room");
}

#[test]
fn given_a_phone_that_moved_when_its_old_binding_ends_then_it_is_reached_where_it_is() {
    let (mut pair, mut phone) = with_phone();
    phone.flow.remote = addr(PHONE);
    register(&mut pair.b, &mut phone, PBX, 3600);
    pair.share();
    // From both edges it is reached where it registered last.
    pair.a.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "d1", ""));
    pair.carry();
    assert!(pair.b.one_to(addr(PHONE)).text().starts_with("INVITE "));
    assert!(pair.a.take_to(addr(PHONE)).is_empty());
    pair.b.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "d2", ""));
    assert!(pair.b.one_to(addr(PHONE)).text().starts_with("INVITE "));
    pair.b.take();
    // The old binding ends where it was; the new one is refreshed.
    pair.pass(Duration::from_secs(3000));
    register_again(&mut pair, &mut phone);
    pair.pass(Duration::from_secs(1000));
    pair.share();
    assert_eq!(pair.a.records("registration.expired").len(), 1);
    pair.b.take();
    pair.a.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "d3", ""));
    pair.carry();
    assert!(pair.b.one_to(addr(PHONE)).text().starts_with("INVITE "));
}

fn register_again(pair: &mut Pair, phone: &mut Phone) {
    pair.b.take();
    register(&mut pair.b, phone, PBX, 3600);
}

#[test]
fn given_a_user_with_a_phone_at_each_edge_when_called_then_both_ring_and_one_answers() {
    let (mut pair, first) = with_phone();
    let mut second = Phone::new("401", "acme.test", SECOND);
    register(&mut pair.b, &mut second, PBX, 3600);
    pair.share();
    let offer = sdp("10.0.1.1", "sendrecv", "PCMA");
    pair.b.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "f1", &offer));
    pair.carry();
    let (at_first, at_second) = (pair.a.one_to(addr(PHONE)), pair.b.one_to(addr(SECOND)));
    pair.a.deliver(first.flow, response(&at_first, 180, "Contact: <sip:401@192.168.0.9>\r\n"));
    pair.carry();
    pair.b.deliver(second.flow, respond(&at_second, 200, "<sip:401@192.168.0.10>", &offer));
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["100", "180", "200"]);
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["CANCEL"]);
}

#[test]
fn given_a_ticket_that_was_used_forged_or_stolen_when_it_comes_then_it_is_refused_and_told() {
    let (mut pair, _) = with_phone();
    pair.b.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "t1", ""));
    let sent = pair.b.one_to(addr(A));
    let again = |branch: &str| {
        let text = sent.text();
        let old = text.split("branch=").nth(1).and_then(|rest| rest.split(';').next()).expect("a branch");
        text.replace(old, branch)
    };
    // From somebody who is no edge, though it was never used.
    let stranger = Flow::udp(ListenerId(2), addr(A), addr("198.51.100.66:5060"));
    pair.a.deliver(stranger, again("z9hG4bKstolen"));
    assert_eq!(said(&mut pair.a, addr("198.51.100.66:5060")), ["403"]);
    let outside = Flow::udp(ListenerId(0), addr("203.0.113.1:5060"), addr("198.51.100.67:5060"));
    pair.a.deliver(outside, again("z9hG4bKoutside"));
    assert!(said(&mut pair.a, addr(PHONE)).is_empty());
    // As it should be, and then once more.
    pair.a.deliver(between(A, B), sent.bytes.clone());
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["INVITE"]);
    pair.a.take();
    pair.a.deliver(between(A, B), again("z9hG4bKreplayed"));
    assert_eq!(said(&mut pair.a, addr(B)), ["403"]);
    // Another cluster's, and one for another edge.
    let forged = again("z9hG4bKforged").replace("<sip:h_A", "<sip:h_B").replace("<sip:h_a", "<sip:h_b");
    let forged = if forged.contains("<sip:h_B") || forged.contains("<sip:h_b") {
        forged
    } else {
        forged.replacen("<sip:h_", "<sip:h_A", 1)
    };
    pair.a.deliver(between(A, B), forged);
    assert_eq!(said(&mut pair.a, addr(B)), ["403"]);
    pair.b.deliver(between(B, A), again("z9hG4bKback"));
    assert_eq!(said(&mut pair.b, addr(A)), ["482"], "its own");
    assert!(said(&mut pair.a, addr(PHONE)).is_empty());
    pair.pass(Duration::from_secs(60));
    let rules: Vec<_> =
        pair.a.records("security.request_rejected").iter().map(|r| r.json()["rule"].clone()).collect();
    assert!(rules.contains(&"acl".into()) && rules.contains(&"unknown_peer".into()), "{rules:?}");
}

#[test]
fn given_a_ticket_that_waited_too_long_then_it_is_refused() {
    let (mut pair, _) = with_phone();
    pair.b.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "t2", ""));
    let sent = pair.b.one_to(addr(A));
    pair.a.advance(Duration::from_secs(61));
    pair.a.take();
    pair.a.deliver(between(A, B), sent.bytes);
    assert_eq!(said(&mut pair.a, addr(B)), ["403"]);
}

#[test]
fn given_a_dialog_s_contact_in_foreign_hands_then_it_opens_nothing() {
    let (mut pair, phone) = with_phone();
    let (pbx, mut called) = answered(&mut pair, &phone, "s1");
    // Another phone of the same tenant, registered, with everything it could have overheard.
    let mut thief = Phone::new("409", "acme.test", SECOND);
    pair.a.take();
    register(&mut pair.a, &mut thief, PBX, 3600);
    let bye = called.request("BYE", "");
    pair.a.deliver(thief.flow, &bye);
    assert_eq!(said(&mut pair.a, addr(SECOND)), ["403"]);
    // In another dialog.
    let other = called.request("BYE", "").replace("Call-ID: s1", "Call-ID: s2");
    pair.a.deliver(phone.flow, other);
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["403"]);
    // The PBX's side of it at the wrong edge, from a stranger.
    let stranger = Flow::udp(ListenerId(2), addr(A), addr("198.51.100.66:5060"));
    let mut pbx = pbx;
    pair.b.deliver(inside(PBX), pbx.request("INFO", ""));
    let info = pair.b.one_to(addr(A));
    pair.a.deliver(stranger, info.bytes.clone());
    assert_eq!(said(&mut pair.a, addr("198.51.100.66:5060")), ["403"]);
    assert!(pair.b.take_to(addr(PBX)).is_empty() && pair.b.records("call.ended").is_empty());
    // And where it belongs.
    pair.a.deliver(between(A, B), info.bytes);
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["INFO"]);
}

#[test]
fn given_a_call_across_edges_when_the_phone_s_edge_restarts_then_both_ends_still_reach_each_other() {
    let (mut pair, phone) = with_phone();
    let (mut pbx, mut called) = answered(&mut pair, &phone, "r1");
    let Pair { a, b, told, transport } = pair;
    let mut pair = Pair { a: a.crash_and_restart(Duration::from_secs(2)), b, told, transport };
    pair.a.take();
    pair.b.deliver(inside(PBX), pbx.request("INFO", ""));
    pair.carry();
    let info = pair.a.one_to(addr(PHONE));
    pair.a.deliver(phone.flow, response(&info, 200, ""));
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["200"]);
    pair.a.deliver(phone.flow, called.request("BYE", ""));
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["BYE"]);
}

#[test]
fn given_requests_outside_calls_when_the_phone_is_elsewhere_then_they_reach_it_and_its_answer_comes_back() {
    let (mut pair, phone) = with_phone();
    let text = request("MESSAGE", "sip:401@acme.test", "sip:402@acme.test", addr(PBX), "m1");
    pair.b.deliver(inside(PBX), text);
    pair.carry();
    let message = pair.a.one_to(addr(PHONE));
    assert!(message.text().starts_with("MESSAGE sip:401@198.51.100.7:5062 "), "{}", message.text());
    pair.a.deliver(phone.flow, response(&message, 200, ""));
    pair.carry();
    assert_eq!(said(&mut pair.b, addr(PBX)), ["200"]);
    // A dialog of a subscription, both ways.
    let text = request("SUBSCRIBE", "sip:401@acme.test", "sip:402@acme.test", addr(PBX), "m2");
    pair.b.deliver(inside(PBX), text);
    pair.carry();
    let subscribe = pair.a.one_to(addr(PHONE));
    pair.a.deliver(phone.flow, respond(&subscribe, 200, "<sip:401@192.168.0.9>", ""));
    pair.carry();
    let ok = pair.b.one_to(addr(PBX));
    let mut called = Dialog::called(phone.flow, &subscribe, "pbx");
    pair.a.deliver(phone.flow, called.request("NOTIFY", &with_contact(PHONE)));
    pair.carry();
    let notify = pair.b.one_to(addr(PBX));
    assert!(notify.text().starts_with("NOTIFY sip:me@10.0.1.1:5060 "), "{}", notify.text());
    pair.b.deliver(inside(PBX), response(&notify, 200, ""));
    pair.carry();
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["200"]);
    let mut pbx = Dialog::calling(inside(PBX), &ok);
    pair.b.deliver(inside(PBX), pbx.request("SUBSCRIBE", &with_contact(PBX)));
    pair.carry();
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["SUBSCRIBE"]);
}

#[test]
fn given_the_same_extension_in_two_tenants_then_a_call_never_crosses() {
    let mut pair = Pair::new();
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let token = register(&mut pair.a, &mut phone, PBX, 3600);
    pair.share();
    // Edge b's PBX is of another tenant, with the same extension and with acme's token.
    let mut settings = (**pair.b.engine.settings()).clone();
    settings.tenants[0].name = "globex".parse().expect("a name");
    settings.tenants[0].domains[0].name = Text::new("globex.test");
    let mut other = World::new(settings);
    let told = updates(&pair.a, 0, 0);
    let alive = Update::Peer { edge: Text::new("edge-a"), address: Some(addr(A)), liveness: Liveness::Alive };
    other.input(Input::Remote(&[alive]));
    other.input(Input::Remote(&told));
    for (nth, uri) in [
        format!("sip:{token}@globex.test"),
        "sip:401@globex.test".to_owned(),
        format!("sip:{token}@10.0.0.5"),
    ]
    .iter()
    .enumerate()
    {
        let text = invite(&inside(PBX), "sip:402@globex.test", uri, &format!("x{nth}"), "");
        other.deliver(inside(PBX), text);
        let answers = said(&mut other, addr(PBX));
        assert!(
            answers.iter().all(|said| ["100", "403", "404"].contains(&said.as_str())),
            "{uri}: {answers:?}"
        );
        assert!(other.take_to(addr(A)).is_empty(), "{uri}");
    }
}
