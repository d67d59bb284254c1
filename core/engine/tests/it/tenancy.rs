//! Whose a request is (issue 3, Shows 2): two tenants with the same extension, two domains of one, two backends at one
//! address, addresses that look alike; and no open relay.

use crate::support::*;
use proptest::prelude::*;
use signalbox_engine::settings::CallsFrom;
use signalbox_engine::{Input, Settings};
use std::time::Duration;

const A1: &str = "10.0.1.1:5060";
const A2: &str = "10.0.1.1:5080";
const G: &str = "10.0.1.10:5060";

/// `acme` has `a.test` and `b.test`, each with a backend at 10.0.1.1; `globex` has `g.test` at 10.0.1.10.
fn two_tenants() -> Settings {
    settings(vec![
        tenant(
            "acme",
            vec![domain("a.test", &["alias.a.test"]), domain("b.test", &[])],
            vec![backend("pbx-a", A1, 1, Some("a.test")), backend("pbx-b", A2, 1, Some("b.test"))],
        ),
        tenant("globex", vec![domain("g.test", &[])], vec![backend("pbx-g", G, 1, None)]),
    ])
}

/// Three phones, each 401 of another domain.
fn registered() -> (World, [Phone; 3], [String; 3]) {
    let mut world = World::new(two_tenants());
    let mut phones = [
        Phone::new("401", "a.test", "192.0.2.1:5060"),
        Phone::new("401", "b.test", "192.0.2.2:5060"),
        Phone::new("401", "g.test", "192.0.2.3:5060"),
    ];
    let tokens = [0, 1, 2].map(|at| {
        let phone: &mut Phone = &mut phones[at];
        let text = phone.register(3600);
        world.deliver(phone.flow, text);
        let mut sent: Vec<Sent> = [A1, A2, G].iter().flat_map(|pbx| world.take_to(addr(pbx))).collect();
        assert_eq!(sent.len(), 1);
        let at_pbx = sent.remove(0);
        let from = at_pbx.flow.remote.to_string();
        world.deliver(inside(&from), granted(&at_pbx, 3600));
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(200));
        token_in(&at_pbx)
    });
    (world, phones, tokens)
}

fn message(world: &mut World, pbx: &str, uri: &str, id: &str) {
    let text = request("MESSAGE", uri, "sip:402@x.test", addr(pbx), id);
    world.deliver(inside(pbx), text);
}

#[test]
fn given_401_in_three_domains_when_each_backend_asks_for_401_at_the_edge_then_its_own_phone_is_reached() {
    let (mut world, phones, _) = registered();
    for round in 0..20 {
        for (at, pbx) in [A1, A2, G].iter().enumerate() {
            message(&mut world, pbx, "sip:401@10.0.0.5:5060", &format!("r{round}-{at}"));
            let sent = world.one_to(phones[at].flow.remote);
            assert!(sent.text().starts_with("MESSAGE sip:401@"));
            let reply = response(&sent, 200, "");
            world.deliver(phones[at].flow, reply);
            assert_eq!(world.one_to(addr(pbx)).status(), Some(200));
            assert!(world.take().is_empty(), "nobody else hears of it");
        }
    }
}

#[test]
fn given_a_domain_in_the_request_uri_then_it_counts_when_it_is_the_tenant_s_own() {
    let (mut world, phones, _) = registered();
    message(&mut world, A1, "sip:401@b.test", "own");
    assert_eq!(world.take_to(phones[1].flow.remote).len(), 1, "another domain of the same tenant");
    message(&mut world, A1, "sip:401@ALIAS.a.test", "alias");
    assert_eq!(world.take_to(phones[0].flow.remote).len(), 1);
    message(&mut world, A1, "sip:401@g.test", "foreign");
    assert_eq!(
        world.take_to(phones[0].flow.remote).len(),
        1,
        "another tenant's domain says nothing: the backend's own does"
    );
    assert!(world.take_to(phones[2].flow.remote).is_empty());
}

#[test]
fn given_a_token_then_its_binding_alone_is_reached_and_another_tenant_s_token_is_refused() {
    let (mut world, phones, tokens) = registered();
    message(&mut world, A1, &format!("sip:{}@10.0.0.5", tokens[0]), "mine");
    assert_eq!(world.take_to(phones[0].flow.remote).len(), 1);
    message(&mut world, A1, &format!("sip:{}@10.0.0.5", tokens[1].to_uppercase()), "same-tenant");
    assert_eq!(world.take_to(phones[1].flow.remote).len(), 1);
    message(&mut world, G, &format!("sip:{}@10.0.0.5", tokens[0]), "stolen");
    assert_eq!(world.one_to(addr(G)).status(), Some(403));
    assert!(world.take().is_empty());
}

#[test]
fn given_nobody_there_then_404_and_given_a_stranger_then_403_with_an_event() {
    let (mut world, _, _) = registered();
    message(&mut world, G, "sip:402@g.test", "nobody");
    assert_eq!(world.one_to(addr(G)).status(), Some(404));
    for stranger in ["10.0.1.2:5060", "10.0.1.100:5060", "10.0.11.1:5060"] {
        message(&mut world, stranger, "sip:401@a.test", stranger);
        assert_eq!(world.one_to(addr(stranger)).status(), Some(403), "{stranger}");
    }
    // The address of a backend on a listener where backends are not recognised is a stranger's too.
    let text = request("MESSAGE", "sip:401@a.test", "sip:402@a.test", addr(A1), "outside");
    world.deliver(outside(A1), text);
    assert_eq!(world.one_to(addr(A1)).status(), Some(403));
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected");
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|r| r.json()["rule"] == "unknown_peer"));
}

#[test]
fn given_an_unknown_domain_then_silence_and_an_event() {
    let mut world = World::new(two_tenants());
    let mut phone = Phone::new("401", "nowhere.test", "192.0.2.9:5060");
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    assert!(world.take().is_empty());
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected")[0].json();
    assert_eq!((&told["rule"], &told["domain"]), (&"unknown_domain".into(), &"nowhere.test".into()));
    assert_eq!((&told["method"], &told["user_agent"]), (&"REGISTER".into(), &"Test/1".into()));
}

#[test]
fn given_an_unknown_domain_then_whatever_the_form_of_the_request_a_stranger_hears_nothing_and_is_counted() {
    let (mut world, phones, _) = registered();
    let token = format!("sip:d_{}@nowhere.test", "A".repeat(80));
    let forms = |via: &str| {
        let plain = |method: &str, uri: &str| {
            request(method, uri, "sip:401@nowhere.test", addr(via), &format!("{method}{uri}"))
        };
        [
            plain("BYE", "sip:402@nowhere.test")
                .replace("To: <sip:402@nowhere.test>", "To: <sip:402@nowhere.test>;tag=t"),
            plain("MESSAGE", "sip:402@nowhere.test").replace("Max-Forwards: 70", "Max-Forwards: 0"),
            plain("INFO", "sip:402@nowhere.test").replace("Max-Forwards: 70", "Max-Forwards: x"),
            plain("CANCEL", "sip:402@nowhere.test"),
            plain("NOTIFY", &token),
        ]
    };
    let stranger = "192.0.2.99:5060";
    for text in forms(stranger) {
        world.deliver(outside(stranger), &text);
        assert!(world.take().is_empty(), "{text}");
    }
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected");
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0].json()["rule"], &told[0].json()["count"]), (&"unknown_domain".into(), &5.into()));

    // Whom the edge knows is told what is wrong.
    for (flow, via) in [(inside(A1), A1), (phones[0].flow, "192.0.2.1:5060")] {
        let heard: Vec<Option<u16>> = forms(via)
            .into_iter()
            .map(|text| {
                world.deliver(flow, text);
                world.one_to(flow.remote).status()
            })
            .collect();
        assert_eq!(heard, [Some(481), Some(483), Some(400), Some(481), Some(481)], "{via}");
    }
    let bye = request("BYE", "sip:402@a.test", "sip:401@a.test", addr(stranger), "gone")
        .replace("To: <sip:402@a.test>", "To: <sip:402@a.test>;tag=t");
    world.deliver(outside(stranger), bye);
    assert_eq!(world.one_to(addr(stranger)).status(), Some(481), "a dialog of ours that is over");
}

#[test]
fn given_a_request_uri_of_a_domain_that_is_not_here_then_no_backend_hears_of_it() {
    let (mut world, phones, _) = registered();
    let flow = phones[0].flow;
    let stranger = outside("192.0.2.99:5060");
    for method in ["INVITE", "MESSAGE", "SUBSCRIBE", "OPTIONS"] {
        for uri in ["sip:00441@relay.test", "sips:1@198.51.100.4", "sip:relay.test"] {
            let ask = |via: &str| {
                request(method, uri, "sip:401@a.test", addr(via), &format!("{method}{uri}{via}"))
                    .replace(&format!("To: <{uri}>"), "To: <sip:402@a.test>")
            };
            world.deliver(flow, ask("192.0.2.1:5060"));
            assert_eq!(world.one_to(flow.remote).status(), Some(404), "{method} {uri}");
            world.deliver(stranger, ask("192.0.2.99:5060"));
            assert!(world.take().is_empty(), "{method} {uri}");
        }
    }
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected");
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|r| r.json()["rule"] == "unknown_domain" && r.json()["count"] == 12));
}

#[test]
fn given_a_number_a_service_or_the_edge_or_backend_itself_then_a_registered_phone_s_request_passes() {
    let (mut world, phones, _) = registered();
    let flow = phones[0].flow;
    for method in ["INVITE", "MESSAGE"] {
        for uri in ["tel:+441632960000", "urn:service:sos", "sip:1@203.0.113.1:5060", "sip:1@10.0.1.1"] {
            let text = request(method, uri, "sip:401@a.test", flow.remote, &format!("{method}{uri}"));
            world.deliver(flow, text);
            let asked = world.take().into_iter().any(|sent| sent.flow.remote.ip() == addr(A1).ip());
            assert!(asked, "{method} {uri}");
        }
    }
}

#[test]
fn given_a_stranger_when_it_calls_then_no_backend_hears_of_it_unless_the_tenant_says_any() {
    for (calls_from, forwarded) in [(CallsFrom::Registered, false), (CallsFrom::Any, true)] {
        let mut settings = two_tenants();
        settings.tenants[1].calls_from = calls_from;
        let mut world = World::new(settings);
        for method in ["INVITE", "MESSAGE", "SUBSCRIBE", "OPTIONS", "FROBNICATE"] {
            let text = request(method, "sip:402@g.test", "sip:401@g.test", addr("192.0.2.9:5060"), method);
            world.deliver(outside("192.0.2.9:5060"), text);
            assert_eq!(!world.take_to(addr(G)).is_empty(), forwarded, "{method} {calls_from:?}");
            let refused = world.take_to(addr("192.0.2.9:5060")).iter().any(|s| s.status() == Some(403));
            assert_eq!(refused, !forwarded, "{method} {calls_from:?}");
        }
    }
}

#[test]
fn given_a_registered_phone_when_it_takes_another_name_or_flow_then_it_is_a_stranger() {
    let (mut world, phones, _) = registered();
    let flow = phones[0].flow;
    let ok = request("MESSAGE", "sip:402@a.test", "sip:401@a.test", flow.remote, "ok");
    world.deliver(flow, ok);
    assert_eq!(world.take_to(addr(A1)).len() + world.take_to(addr(A2)).len(), 1);
    for (from, to, flow) in [
        ("sip:402@a.test", "sip:403@a.test", flow),
        ("sip:401@b.test", "sip:403@a.test", flow),
        ("sip:401@g.test", "sip:403@g.test", flow),
        ("sip:401@a.test", "sip:403@a.test", outside("192.0.2.1:9999")),
        ("sip:401@a.test", "sip:403@g.test", flow),
    ] {
        let text = request("MESSAGE", to, from, flow.remote, &format!("{from}{to}"));
        world.deliver(flow, text);
        assert_eq!(world.one_to(flow.remote).status(), Some(403), "{from} → {to}");
        assert!(world.take().is_empty());
    }
}

proptest! {
    /// Promise 6: whatever the headers, what a backend sends reaches no phone of another tenant, and what a phone sends no
    /// backend of another tenant.
    #[test]
    fn no_request_crosses_tenants(
        kind in 0..3usize,
        method in prop::sample::select(vec!["INVITE", "MESSAGE", "SUBSCRIBE", "NOTIFY", "OPTIONS", "REFER", "XYZ"]),
        user in prop::sample::select(vec!["401", "402", "TOKEN0", "TOKEN1", "TOKEN2", "%34%30%31", ""]),
        hosts in prop::collection::vec(
            prop::sample::select(vec!["a.test", "b.test", "g.test", "10.0.0.5", "203.0.113.1", "x.test", "G.TEST."]), 3),
        route in prop::option::of(prop::sample::select(vec!["TOKEN0", "TOKEN2", "401"])),
    ) {
        let (mut world, phones, tokens) = registered();
        let fill = |text: &str| (0..3).fold(text.to_owned(), |t, at| t.replace(&format!("TOKEN{at}"), &tokens[at]));
        let user = fill(user);
        let at = if user.is_empty() { "" } else { "@" };
        let uri = format!("sip:{user}{at}{}", hosts[0]);
        let (source, acme) = match kind {
            0 => (inside(A1), true),
            1 => (inside(G), false),
            _ => (phones[0].flow, true),
        };
        let mut text = request(method, &uri, &format!("sip:401@{}", hosts[1]), source.remote, "p")
            .replace(&format!("To: <{uri}>"), &format!("To: <sip:401@{}>", hosts[2]));
        if let Some(route) = route {
            text = text.replace("Max-Forwards", &format!("Route: <sip:{}@10.0.0.5;lr>\r\nMax-Forwards", fill(route)));
        }
        let bytes = text.into_bytes();
        world.input(Input::Packet { flow: source, bytes: &bytes });
        let foreign: &[std::net::SocketAddr] =
            if acme { &[phones[2].flow.remote, addr(G)] } else { &[phones[0].flow.remote, phones[1].flow.remote, addr(A1), addr(A2)] };
        for sent in world.take() {
            prop_assert!(!foreign.contains(&sent.flow.remote), "{}", sent.text());
        }
    }
}
