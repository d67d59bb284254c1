//! Two edges that speak TLS to each other: who connects is named by its certificate, and each dials the other.

use crate::call_support::{PBX, PHONE, invite, said};
use crate::edges::{A, B, Pair, answered, with_phone_at};
use crate::support::{Phone, addr, inside, response};
use signalbox_base::{Text, Transport};
use signalbox_engine::{FlowEnd, Input};
use std::time::Duration;

/// Each edge has connected to the other, and shown who it is.
fn connected() -> (Pair, Phone) {
    let mut pair = Pair::over(Transport::Tls);
    let (at_a, at_b) = (pair.brought(A, B), pair.brought(B, A));
    pair.a.input(Input::Shown { flow: at_a, names: &[Text::new("edge-b")] });
    pair.b.input(Input::Shown { flow: at_b, names: &[Text::new("edge-a")] });
    with_phone_at(pair)
}

#[test]
fn given_a_call_over_tls_between_edges_when_connections_end_then_both_ends_still_reach_each_other() {
    let (mut pair, phone) = connected();
    let (mut pbx, mut called) = answered(&mut pair, &phone, "c1");
    // The phone's edge speaks over a connection of its own, which ends.
    pair.a.deliver(phone.flow, called.request("INFO", ""));
    pair.carry();
    let info = pair.b.one_to(addr(PBX));
    pair.b.deliver(inside(PBX), response(&info, 200, ""));
    pair.carry();
    assert_eq!(said(&mut pair.a, addr(PHONE)), ["200"]);
    let (at_a, at_b) = (pair.brought(A, B), pair.brought(B, A));
    pair.a.input(Input::FlowClosed { flow: at_a, cause: FlowEnd::Closed });
    pair.b.input(Input::FlowClosed { flow: at_b, cause: FlowEnd::Closed });
    pair.b.deliver(inside(PBX), pbx.request("BYE", ""));
    assert_eq!(said(&mut pair.b, addr(A)), ["BYE"], "to where the other edge listens");
}

#[test]
fn given_a_connection_whose_certificate_is_another_edge_s_or_none_then_no_ticket_passes_over_it() {
    for shown in [Some("edge-c"), None] {
        let (mut pair, _) = with_phone_at(Pair::over(Transport::Tls));
        let at_a = pair.brought(A, B);
        if let Some(name) = shown {
            pair.a.input(Input::Shown { flow: at_a, names: &[Text::new(name)] });
        }
        let text = invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "t1", "");
        pair.b.deliver(inside(PBX), text);
        let sent = pair.b.one_to(addr(A));
        assert!(sent.text().contains(";transport=tls;lr>"), "{}", sent.text());
        pair.a.deliver(at_a, sent.bytes);
        assert_eq!(said(&mut pair.a, at_a.remote), ["403"]);
        assert!(said(&mut pair.a, addr(PHONE)).is_empty());
        pair.a.advance(Duration::from_secs(60));
        assert_eq!(pair.a.records("security.request_rejected")[0].json()["rule"], "unknown_peer");
    }
}
