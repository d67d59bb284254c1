//! Carriers: SIPp as the carrier, a real Kamailio as the PBX behind the edge.

use crate::given::{ACME, registered, sipp_registers};
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::message::Message;
use signalbox_e2e::sipp::{self, Sipp};
use signalbox_e2e::tap::Tap;
use signalbox_e2e::{Edge, Phone, World, wait};

const DID: &str = "sip:+442079460001@acme.test";

/// What the README shows first under a title, with the story's addresses.
fn configuration(world: &World, pbx: &Kamailio, title: &str) -> String {
    let readme = include_str!("../../../../README.md");
    let section = readme.split(&format!("## {title}\n")).nth(1).expect("the section is there");
    let shown =
        section.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).expect("a configuration");
    // SIPp as a carrier takes a probe for a call.
    let tenant = format!(
        "[probe]\ninterval = \"0s\"\n[sip]\nfailover_after = \"1s\"\n\
         [[tenant]]\nname = \"acme\"\ndomains = [\"{ACME}\"]\nnumbers = [\"+442079460000/4\"]\ncountry = \"44\"\n\
         backends = [{{ name = \"pbx\", address = \"udp:{}\", probe = {{ interval = \"500ms\" }} }}]\n",
        pbx.address()
    );
    let address = |host: u8| world.at(host, 5060).to_string();
    tenant + &shown.replace("198.51.100.10", &address(30)).replace("198.51.100.20", &address(31))
}

fn given(name: &str) -> (World, Edge, Kamailio) {
    given_by(name, "Connect a carrier")
}

fn given_by(name: &str, title: &str) -> (World, Edge, Kamailio) {
    let world = World::new(name);
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
    let mut edge = Edge::configured(&world, &configuration(&world, &pbx, title));
    edge.start();
    edge.await_backend("pbx", "up");
    (world, edge, pbx)
}

#[test]
fn given_the_readmes_carriers_when_one_calls_a_did_then_the_pbxs_phone_answers_and_billing_sees_the_trunk() {
    let (world, edge, _pbx) = given("carrier-in");
    let phone = world.at(21, 5060);
    sipp_registers(&world, &edge, ACME, "401", phone);
    let answering = Sipp::new(&world, "phone", "answer", phone).calls(1, 1).start();
    let carrier = Sipp::new(&world, "carrier", "call", world.at(30, 5060)).to(edge.sip());
    let carrier = carrier.word("domain", "carrier.example").talk(300);
    carrier.lines(&["+4930123456;+442079460001".to_owned()]).calls(1, 1).run().all_good(1);
    answering.finish().all_good(1);

    let rows = edge.await_rows(&["cdr"], 2);
    let inwards = rows.iter().find(|row| row["side"] == "trunk_in").unwrap_or_else(|| panic!("{rows:#?}"));
    for (key, value) in
        [("tenant", "acme"), ("ingress_peer", "carrier"), ("egress_peer", "pbx"), ("callee", "+442079460001")]
    {
        assert_eq!(inwards[key], value, "{key}: {inwards:#}");
    }
    let story = edge.text(&["why", inwards["call_uid"].as_str().unwrap()]);
    assert!(story.contains("did"), "the rule is named:\n{story}");
}

#[test]
fn given_the_readmes_carriers_when_a_phone_dials_nine_then_the_second_takes_what_the_first_refuses_without_the_nine()
 {
    let (world, edge, _pbx) = given("carrier-out");
    let mut phone = registered(&world, &edge, "401", 5060);
    let full = Sipp::new(&world, "carrier", "refuse", world.at(30, 5060)).calls(1, 1).start();
    let free = Sipp::new(&world, "carrier-2", "answer", world.at(31, 5060)).calls(1, 1).start();
    for carrier in [30, 31] {
        sipp::await_bound(world.at(carrier, 5060));
    }
    let (answer, dialog) = phone.call(&format!("sip:902079470000@{ACME}"));
    assert_eq!(answer.status(), Some(200), "{answer}");
    assert_eq!(phone.hang_up(&mut dialog.unwrap()).status(), Some(200));
    full.finish().all_good(1);
    free.finish().all_good(1);

    let rows = edge.await_rows(&["cdr"], 2);
    let outwards = rows.iter().find(|row| row["side"] == "trunk_out").unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!(
        (&outwards["egress_peer"], &outwards["route"]),
        (&"carrier-2".into(), &"out".into()),
        "{outwards:#}"
    );
    assert_eq!(outwards["attempts"], 2);
    let events = edge.events("call.routed");
    let second = events.iter().find(|event| event["data"]["why"]["failover_status"] == 503);
    assert_eq!(second.unwrap_or_else(|| panic!("{events:#?}"))["data"]["target"]["name"], "carrier-2");
}

#[test]
fn given_the_readmes_carriers_when_route_is_asked_then_it_says_what_would_happen_and_by_which_rule() {
    let (_world, edge, _pbx) = given("carrier-asked");
    for (from, to, rule, target) in [
        ("pbx", "902079470000", "out", Some("carrier")),
        ("carrier", "+442079460001", "did", None),
        ("pbx", "401", "", None),
    ] {
        let told =
            edge.rows(&["route", "--from", from, "--to", to, "--at", "2026-11-21T22:00:00Z"]).remove(0);
        assert_eq!(told["rule"].as_str().unwrap_or_default(), rule, "{told:#}");
        assert_eq!(told["targets"][0].as_str(), target, "{told:#}");
    }
    let shown = edge.text(&["route", "--from", "pbx", "--to", "902079470000"]);
    assert!(shown.contains("carrier") && shown.contains("+442079470000"), "{shown}");
    assert_eq!(edge.verb(&["backends", "drain", "carrier"]).code, 0);
    edge.await_backend("carrier", "draining");
}

/// The first message like this that the tapped host was sent.
fn tapped(tap: &Tap, what: &str, is: impl Fn(&Message) -> bool) -> Message {
    wait::until(what, || tap.heard().into_iter().find(|message| is(message)))
}

#[test]
fn given_the_readmes_header_rules_when_calls_and_messages_pass_then_a_real_pbx_and_the_carrier_see_what_they_leave()
 {
    let (world, edge, pbx) = given_by("header-rules", "Header rules");
    let tap = Tap::on(pbx.address().ip());
    let mut phone = registered(&world, &edge, "401", 5060);
    let mut carrier = Phone::new("+4930123456", "carrier.example", world.at(30, 5060), edge.sip());
    for method in ["INVITE", "MESSAGE"] {
        let headers = |cseq: u32| {
            format!(
                "From: <sip:+4930123456@carrier.example>;tag=t\r\nTo: <{DID}>\r\nCall-ID: {method}\r\n\
                 CSeq: {cseq} {method}\r\nContact: <sip:c@{}>\r\nX-Junk: carrier\r\nX-Trunk: another\r\n\
                 P-Charging-Vector: icid-value=1\r\n",
                world.at(30, 5060)
            )
        };
        let answer = carrier.transaction(DID, method, headers, "");
        assert_eq!(answer.status(), Some(404), "Kamailio has no such user: {answer}");
        let at_pbx = tapped(&tap, "Kamailio to hear of it", |m| m.status().is_none() && m.method() == method);
        assert_eq!(at_pbx.all("X-Trunk").collect::<Vec<_>>(), ["carrier"], "{at_pbx}");
        assert!(at_pbx.header("X-Junk").or(at_pbx.header("P-Charging-Vector")).is_none(), "{at_pbx}");
        assert!(pbx.log().contains(&format!("seen {method} to +442079460001@")), "{}", pbx.log());
    }

    let dialing = phone.dial(&format!("sip:902079470000@{ACME}"));
    let invite = carrier.rung();
    assert_eq!(invite.header("User-Agent"), Some("acme"), "{invite}");
    assert_eq!(invite.header("Organization"), Some("Acme Ltd"));
    carrier.answer_with(&invite, 486, "Busy Here", "X-Inner: 1\r\nServer: Carrier/2\r\n", "");
    let (answer, _) = phone.conclude(dialing);
    assert_eq!((answer.status(), answer.header("X-Inner")), (Some(486), None), "{answer}");
    let refused = tapped(&tap, "Kamailio to be refused", |m| m.status() == Some(486));
    assert_eq!(refused.all("X-Trunk").collect::<Vec<_>>(), ["carrier"], "{refused}");
    assert_eq!(refused.header("Server"), Some("Carrier/2"), "what no rule names stays");
}
