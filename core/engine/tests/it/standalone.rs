//! Requests outside calls: by location, by failover, and through stateless dialogs.

use crate::support::*;
use signalbox_base::Flow;
use signalbox_engine::settings::Serves;
use signalbox_engine::{Command, Settings};
use signalbox_schemas::words::BackendState;
use signalbox_sip::HeaderName;
use std::time::Duration;

const PBX: &str = "10.0.1.1:5060";

fn world_with_phone() -> (World, Phone, String) {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:40000");
    phone.contact = "<sip:401@192.168.1.20;ob>".to_owned();
    let token = register(&mut world, &mut phone, PBX, 3600);
    (world, phone, token)
}

fn options(uri: &str, via: &str) -> String {
    request("OPTIONS", uri, "sip:probe@x.test", addr(via), "opt")
}

#[test]
fn given_options_to_the_edge_then_peers_and_phones_get_200_and_503_while_draining() {
    let (mut world, phone, _) = world_with_phone();
    world.deliver(inside(PBX), options("sip:10.0.0.5:5060", PBX));
    assert_eq!(world.one_to(addr(PBX)).status(), Some(200));
    world.deliver(phone.flow, options("sip:acme.test", "192.0.2.7:40000").replace("70", "0"));
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(200), "even with no hop left");
    world.deliver(inside(PBX), options("sip:10.0.0.5", PBX).replace("Contact", "Require: frob\r\nContact"));
    let refused = world.one_to(addr(PBX));
    assert_eq!(
        (refused.status(), refused.header(HeaderName::Unsupported)),
        (Some(420), Some("frob".to_owned()))
    );
    world.deliver(outside("192.0.2.99:5060"), options("sip:203.0.113.1", "192.0.2.99:5060"));
    assert!(world.take().is_empty(), "strangers learn nothing");
    world.command(Command::Drain { deadline: Duration::from_secs(300), actor: "root".into() });
    world.deliver(inside(PBX), options("sip:10.0.0.5:5060", PBX));
    assert_eq!(world.one_to(addr(PBX)).status(), Some(503));
    assert_eq!(world.records("edge.draining").len(), 1);
}

#[test]
fn given_no_hop_left_or_a_proxy_require_then_it_goes_no_further() {
    let (mut world, _, token) = world_with_phone();
    let uri = format!("sip:{token}@10.0.0.5");
    let text = request("MESSAGE", &uri, "sip:x@acme.test", addr(PBX), "hops")
        .replace("Max-Forwards: 70", "Max-Forwards: 0");
    world.deliver(inside(PBX), text);
    assert_eq!(world.one_to(addr(PBX)).status(), Some(483));
    let text = request("MESSAGE", &uri, "sip:x@acme.test", addr(PBX), "ext")
        .replace("Contact", "Proxy-Require: zap\r\nContact");
    world.deliver(inside(PBX), text);
    assert_eq!(world.one_to(addr(PBX)).status(), Some(420));
}

#[test]
fn given_a_request_that_exists_in_dialogs_only_when_it_names_none_then_it_gets_481_and_goes_nowhere() {
    let (mut world, phone, _) = world_with_phone();
    let mut answer = |method: &str| {
        let text = request(
            method,
            "sip:402@acme.test",
            "sip:401@acme.test",
            phone.flow.remote,
            &format!("x{method}"),
        );
        world.deliver(phone.flow, text);
        let passed = !world.take_to(addr(PBX)).is_empty();
        (passed, world.take().first().and_then(Sent::status))
    };
    for method in ["BYE", "PRACK", "UPDATE"] {
        assert_eq!(answer(method), (false, Some(481)), "{method}");
    }
    // A NOTIFY may come unasked, and what nobody knows is the backend's to judge.
    for method in ["NOTIFY", "INFO", "FROBNICATE"] {
        assert_eq!(answer(method), (true, None), "{method}");
    }
    assert_eq!(answer("ACK"), (false, None));
}

#[test]
fn given_two_contacts_then_what_does_not_fork_goes_to_the_one_that_is_preferred() {
    let (mut world, _, _) = world_with_phone();
    let mut other = Phone::new("401", "acme.test", "192.0.2.8:5060");
    other.contact = "<sip:401@192.0.2.8:5060>;q=0.2".to_owned();
    register(&mut world, &mut other, PBX, 3600);
    let text = request("MESSAGE", "sip:401@10.0.0.5", "sip:x@acme.test", addr(PBX), "q");
    world.deliver(inside(PBX), text);
    let sent = world.one_to(addr("192.0.2.7:40000"));
    assert_eq!(sent.uri(), "sip:401@192.168.1.20;ob");
    assert!(world.take().is_empty());
}

#[test]
fn given_a_phone_that_writes_the_edge_s_address_then_every_backend_tried_sees_the_domain() {
    let mut settings = acme();
    settings.tenants[0].backends.push(backend("pbx-2", "10.0.1.2:5060", 2, None));
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:40000");
    register(&mut world, &mut phone, PBX, 3600);
    for (method, uri, wanted) in [
        ("MESSAGE", "sip:402@203.0.113.1", "sip:402@acme.test"),
        ("SUBSCRIBE", "sip:402@203.0.113.1:5060;x=1", "sip:402@acme.test;x=1"),
        ("PUBLISH", "sip:402@old.acme.test", "sip:402@old.acme.test"),
    ] {
        let text = request(method, uri, "sip:401@acme.test", phone.flow.remote, method);
        world.deliver(phone.flow, text);
        assert_eq!(world.take_to(addr(PBX))[0].uri(), wanted);
        world.advance(Duration::from_millis(3100));
        let second = world.one_to(addr("10.0.1.2:5060"));
        assert_eq!(second.uri(), wanted);
        world.deliver(inside("10.0.1.2:5060"), response(&second, 200, ""));
        world.take();
    }
}

#[test]
fn given_a_contact_that_nobody_could_be_called_by_then_no_token_is_made_of_it() {
    let (mut world, phone, _) = world_with_phone();
    for (at, contact) in ["<@sip:x@192.0.2.7>", "<sip:4\u{1}1@192.0.2.7>"].into_iter().enumerate() {
        let text = request(
            "SUBSCRIBE",
            "sip:402@acme.test",
            "sip:401@acme.test",
            phone.flow.remote,
            &format!("c{at}"),
        )
        .replace("<sip:me@192.0.2.7:40000>", contact);
        world.deliver(phone.flow, text);
        let contacts = world.take_to(addr(PBX)).iter().filter(|s| s.text().contains("\nContact")).count();
        assert_eq!(contacts, 0);
    }
}

#[test]
fn given_a_repeated_request_then_it_is_absorbed_and_answered_again() {
    let (mut world, phone, token) = world_with_phone();
    let text = request("MESSAGE", &format!("sip:{token}@10.0.0.5"), "sip:x@acme.test", addr(PBX), "again");
    world.deliver(inside(PBX), &text);
    let sent = world.one_to(phone.flow.remote);
    world.deliver(inside(PBX), &text);
    assert!(world.take().is_empty());
    world.deliver(phone.flow, response(&sent, 202, ""));
    assert_eq!(world.one_to(addr(PBX)).status(), Some(202));
    world.deliver(inside(PBX), &text);
    assert_eq!(world.one_to(addr(PBX)).status(), Some(202));
    world.deliver(phone.flow, response(&sent, 202, ""));
    assert!(world.take().is_empty(), "a repeated answer is absorbed");
}

#[test]
fn given_the_first_backend_silent_then_the_next_gets_the_request() {
    let mut settings = acme();
    settings.tenants[0].backends.push(backend("pbx-2", "10.0.1.2:5060", 2, None));
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    register(&mut world, &mut phone, PBX, 3600);
    let text = request("PUBLISH", "sip:401@acme.test", "sip:401@acme.test", phone.flow.remote, "pub");
    world.deliver(phone.flow, text);
    assert_eq!(world.take_to(addr(PBX)).len(), 1);
    world.advance(Duration::from_millis(3100));
    let second = world.one_to(addr("10.0.1.2:5060"));
    world.deliver(inside("10.0.1.2:5060"), response(&second, 200, ""));
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(200));
}

/// The same edge with one network for everyone, as the default configuration has it.
fn on_one_network(mut settings: Settings) -> Settings {
    settings.networks.truncate(1);
    settings.listeners.truncate(1);
    settings.listeners[0].serves = Serves::ALL;
    settings.tenants.iter_mut().flat_map(|t| &mut t.backends).for_each(|b| b.network = 0);
    settings
}

/// The state of a backend after as many MESSAGEs as take it down, each answered with these statuses in turn.
fn state_after(statuses: &[u16]) -> BackendState {
    let mut settings = acme();
    settings.tenants[0].backends[0].probe.interval = Some(Duration::from_secs(86_400));
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    register(&mut world, &mut phone, PBX, 3600);
    for n in 0..5 {
        let text =
            request("MESSAGE", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, &format!("m{n}"));
        world.deliver(phone.flow, text);
        let Some(at_pbx) = world.take_to(addr(PBX)).into_iter().find(|s| s.text().starts_with("MESSAGE"))
        else {
            break;
        };
        for status in statuses {
            world.deliver(inside(PBX), response(&at_pbx, *status, ""));
        }
        assert_eq!(world.one_to(phone.flow.remote).status(), statuses.last().copied());
    }
    world.engine.state().backends().get("acme/pbx-1").expect("it was seen up").state
}

#[test]
fn given_what_a_backend_answers_then_only_its_own_503_speaks_against_it() {
    assert_eq!(state_after(&[200]), BackendState::Up);
    assert_eq!(state_after(&[408]), BackendState::Up, "somebody behind it was silent");
    assert_eq!(state_after(&[100, 503]), BackendState::Up, "somebody behind it was not there");
    assert_eq!(state_after(&[503]), BackendState::Down);
}

#[test]
fn given_a_subscription_then_its_notifies_pass_both_ways_even_after_a_restart() {
    for restart in [false, true] {
        subscription(acme(), inside, restart);
    }
}

#[test]
fn given_one_network_for_phones_and_backends_then_notifies_pass_both_ways_too() {
    for restart in [false, true] {
        subscription(on_one_network(acme()), outside, restart);
    }
}

/// A phone subscribes; each side speaks inside the dialog, others do not. `from` is where backends' messages arrive.
fn subscription(settings: Settings, from: fn(&str) -> Flow, restart: bool) {
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:40000");
    phone.contact = "<sip:401@192.168.1.20;ob>".to_owned();
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(from(PBX), granted(&at_pbx, 3600));
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(200));
    let text = request("SUBSCRIBE", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "blf")
        .replace("<sip:me@192.0.2.7:40000>", "<sip:401@192.168.1.20;ob>")
        .replace("Content-Length", "Event: dialog\r\nExpires: 600\r\nContent-Length");
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    let contact = at_pbx.header(HeaderName::Contact).expect("a Contact");
    assert!(contact.starts_with("<sip:d_") && !at_pbx.text().contains("192.168.1.20"), "{contact}");
    let towards_phone = contact.trim_matches(['<', '>']).to_owned();
    world.deliver(
        from(PBX),
        response(
            &at_pbx,
            200,
            "Contact: <sip:402@10.0.1.1:5060>\r\nRecord-Route: <sip:10.0.1.1;lr>\r\nExpires: 600\r\n",
        ),
    );
    let answer = world.one_to(phone.flow.remote);
    let towards_pbx =
        answer.header(HeaderName::Contact).expect("a Contact").trim_matches(['<', '>']).to_owned();
    assert!(!answer.text().contains("10.0.1.1"), "{}", answer.text());

    if restart {
        world = world.crash_and_restart(Duration::from_secs(5));
        world.take();
    }
    let notify = |id: &str| {
        request("NOTIFY", &towards_phone, "sip:402@acme.test", addr(PBX), id)
            .replace("To: <", "To: <sip:401@acme.test>;tag=p;x=<")
    };
    world.deliver(from(PBX), notify("n1"));
    let at_phone = world.one_to(phone.flow.remote);
    assert_eq!(at_phone.uri(), "sip:401@192.168.1.20;ob");
    world.deliver(phone.flow, response(&at_phone, 200, ""));
    assert_eq!(world.one_to(addr(PBX)).status(), Some(200));

    let refresh = request("SUBSCRIBE", &towards_pbx, "sip:401@acme.test", phone.flow.remote, "re");
    world.deliver(phone.flow, refresh);
    let again = world.one_to(addr(PBX));
    assert_eq!(again.uri(), "sip:402@10.0.1.1:5060");
    assert_eq!(again.header(HeaderName::Route).expect("a Route"), "<sip:10.0.1.1;lr>");

    let stranger = "10.0.7.7:5060";
    world.deliver(from(stranger), notify("n2"));
    assert_eq!(world.one_to(addr(stranger)).status(), Some(403));
    let forged = request("NOTIFY", &towards_phone.replace("d_", "d_A"), "sip:402@acme.test", addr(PBX), "n3");
    world.deliver(from(PBX), forged);
    assert_eq!(world.one_to(addr(PBX)).status(), Some(481));
}

#[test]
fn given_who_asserts_an_identity_then_a_backend_is_believed_and_a_phone_is_not_rfc3325_5() {
    const CLAIMS: &str =
        "P-Asserted-Identity: <sip:boss@acme.test>\r\nRemote-Party-ID: <sip:boss@acme.test>\r\n";
    let claims = |sent: &Sent| {
        [HeaderName::PAssertedIdentity, HeaderName::RemotePartyId].map(|name| sent.header(name).is_some())
    };
    let with = |text: String| text.replace("Max-Forwards", &format!("{CLAIMS}Max-Forwards"));
    let (mut world, phone, token) = world_with_phone();
    let text = request("MESSAGE", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "claim-out");
    world.deliver(phone.flow, with(text));
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(claims(&at_pbx), [false; 2]);
    world.deliver(inside(PBX), response(&at_pbx, 200, CLAIMS));
    assert_eq!(claims(&world.one_to(phone.flow.remote)), [true; 2]);
    let uri = format!("sip:{token}@10.0.0.5");
    world.deliver(inside(PBX), with(request("MESSAGE", &uri, "sip:x@acme.test", addr(PBX), "claim-in")));
    let at_phone = world.one_to(phone.flow.remote);
    assert_eq!(claims(&at_phone), [true; 2]);
    world.deliver(phone.flow, response(&at_phone, 200, CLAIMS));
    assert_eq!(claims(&world.one_to(addr(PBX))), [false; 2]);
}
