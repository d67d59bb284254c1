//! The edge registers at a trunk: credentials, waits, ends, and calls that come on it.

use crate::backends::site;
use crate::support::*;
use crate::trunks::trunk;
use signalbox_base::{Secret, Text};
use signalbox_engine::settings::OutboundSettings;
use signalbox_engine::{Ask, Command, Input, SendError, Settings};
use signalbox_sip::HeaderName;
use std::sync::Arc;
use std::time::Duration;

const REGISTRAR: &str = "198.51.100.10:5060";
const SECOND_PLACE: &str = "198.51.100.11:5060";

fn account() -> OutboundSettings {
    OutboundSettings {
        aor: Text::new("442079460000@provider.test"),
        user: Text::new("acme-trunk"),
        realm: Text::new("provider.test"),
        secret: Secret::new(b"open sesame".to_vec()),
        expires_secs: 600,
        contact: None,
    }
}

fn with(account: OutboundSettings) -> Settings {
    let mut settings = acme();
    settings.listeners[0].serves.trunks = true;
    let mut carrier = trunk("carrier", REGISTRAR);
    carrier.peer.register = Some(Arc::new(account));
    carrier.tenant = Some("acme".parse().expect("a name"));
    settings.trunks.push(carrier);
    settings
}

fn states(world: &World) -> Vec<String> {
    let each = world.records("registration.outbound_changed").into_iter().map(|record| record.json());
    each.map(|event| format!("{} {}", event["to"].as_str().expect("a word"), event["status"])).collect()
}

/// The REGISTER that comes within a while.
fn asked(world: &mut World, within: u64) -> Sent {
    for _ in 0..within {
        world.advance(Duration::from_secs(1));
        if let Some(sent) =
            world.take_to(addr(REGISTRAR)).into_iter().find(|s| s.text().starts_with("REGISTER "))
        {
            return sent;
        }
    }
    panic!("no REGISTER within {within} s");
}

fn answer(world: &mut World, request: &Sent, status: u16, lines: &str) {
    world.deliver(outside(REGISTRAR), response(request, status, lines));
}

fn challenge(realm: &str) -> String {
    format!("WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256\r\n")
}

fn granted_for(request: &Sent, secs: u32) -> String {
    format!("Contact: {};expires={secs}\r\n", request.header(HeaderName::Contact).expect("a Contact"))
}

/// Registered, by a challenge.
fn registered() -> (World, Sent) {
    let mut world = World::new(with(account()));
    let first = asked(&mut world, 3);
    assert!(first.header(HeaderName::Authorization).is_none());
    answer(&mut world, &first, 401, &challenge("provider.test"));
    let second = world.one_to(addr(REGISTRAR));
    answer(&mut world, &second, 200, &granted_for(&second, 300));
    (world, second)
}

#[test]
fn given_a_trunk_to_register_at_then_it_answers_a_challenge_once_and_refreshes_in_time() {
    let (mut world, second) = registered();
    assert!(second.text().starts_with("REGISTER sip:provider.test SIP/2.0\r\n"), "{}", second.text());
    let credentials = second.header(HeaderName::Authorization).expect("credentials");
    for part in ["username=\"acme-trunk\"", "realm=\"provider.test\"", "nc=00000001", "SHA-256"] {
        assert!(credentials.contains(part), "{part}: {credentials}");
    }
    assert!(!second.text().contains("open sesame"));
    assert_eq!(states(&world), ["registered 200"]);
    world.advance(Duration::from_secs(239));
    assert!(world.take_to(addr(REGISTRAR)).is_empty(), "not before 80 % of what was granted");
    let refresh = asked(&mut world, 32);
    assert!(refresh.header(HeaderName::Authorization).expect("credentials").contains("nc=00000002"));
    answer(&mut world, &refresh, 200, &granted_for(&refresh, 300));
    assert_eq!(states(&world), ["registered 200"], "a refresh is no news");
    world.assert_replay_equals_live();
}

#[test]
fn given_another_realm_or_a_wrong_secret_then_nothing_is_given_away_and_each_wait_is_longer() {
    let mut world = World::new(with(account()));
    let first = asked(&mut world, 3);
    answer(&mut world, &first, 401, &challenge("elsewhere.test"));
    assert!(world.take().is_empty(), "credentials are for one realm");
    assert_eq!(states(&world), ["refused 401"]);
    let again = asked(&mut world, 31);
    answer(&mut world, &again, 401, &challenge("provider.test"));
    let with_credentials = world.one_to(addr(REGISTRAR));
    answer(&mut world, &with_credentials, 401, &challenge("provider.test"));
    assert!(world.take().is_empty(), "the secret is wrong: it is not tried again at once");
    world.advance(Duration::from_secs(29));
    assert!(world.take().is_empty(), "twice as long as the first time");
    asked(&mut world, 32);
}

#[test]
fn given_an_interval_too_brief_then_longer_is_asked_for_and_silence_is_told() {
    let mut world = World::new(with(account()));
    let first = asked(&mut world, 3);
    answer(&mut world, &first, 423, "Min-Expires: 1800\r\n");
    let longer = world.one_to(addr(REGISTRAR));
    assert_eq!(longer.header(HeaderName::Expires).as_deref(), Some("1800"));
    answer(&mut world, &longer, 200, "Expires: 1800\r\n");
    assert_eq!(states(&world), ["registered 200"]);
    let refresh = asked(&mut world, 1700);
    world.input(Input::Unsent { ticket: None, remote: refresh.flow.remote, cause: SendError::Refused });
    world.advance(Duration::from_secs(33));
    assert_eq!(states(&world), ["registered 200", "unreachable null"]);
}

#[test]
fn given_a_drain_or_a_reload_without_it_then_the_registration_is_withdrawn() {
    let drain = Command::Drain { deadline: Duration::from_secs(60), actor: "root".into() };
    let mut without = with(account());
    without.trunks[0].peer.register = None;
    let reload = Command::Reload {
        settings: without.into(),
        revision: 2,
        sha256: "x".into(),
        effective: "{}".into(),
        diff: vec![],
        actor: "root".into(),
    };
    for command in [drain, reload] {
        let (mut world, _) = registered();
        world.command(command);
        let end = world.one_to(addr(REGISTRAR));
        assert_eq!(end.header(HeaderName::Expires).as_deref(), Some("0"));
        answer(&mut world, &end, 200, "");
        assert_eq!(states(&world), ["registered 200", "ended 200"]);
        world.advance(Duration::from_secs(1000));
        let again = world.take_to(addr(REGISTRAR));
        assert!(!again.iter().any(|sent| sent.text().starts_with("REGISTER ")));
    }
}

#[test]
fn given_a_name_of_two_places_when_the_first_says_503_then_the_second_is_asked_at_once_and_then_it_waits() {
    let mut settings = with(account());
    let address = &mut settings.trunks[0].peer.address;
    (address.literal, address.host, address.port) = (None, Text::new("provider.test"), None);
    let mut world = World::new(settings);
    let Some(Ask::Resolve { query, .. }) = world.asks.first().cloned() else { panic!("nothing asked") };
    let targets = [site(REGISTRAR, 0, 0), site(SECOND_PLACE, 1, 0)];
    world.input(Input::Resolved { query, targets: &targets, again_after: Duration::from_secs(3600) });
    let first = asked(&mut world, 7);
    answer(&mut world, &first, 503, "");
    let second = world.one_to(addr(SECOND_PLACE));
    assert!(second.text().starts_with("REGISTER "));
    world.deliver(outside(SECOND_PLACE), response(&second, 503, ""));
    assert!(world.take().is_empty(), "there is no third");
    assert_eq!(states(&world), ["refused 503"]);
}

#[test]
fn given_a_registrar_that_never_has_enough_or_grants_nothing_then_it_has_refused() {
    let mut world = World::new(with(account()));
    let mut request = asked(&mut world, 3);
    for tries in 1.. {
        let longer = 600 + tries * 60;
        answer(&mut world, &request, 423, &format!("Min-Expires: {longer}\r\n"));
        match world.take_to(addr(REGISTRAR)).pop() {
            Some(again) => request = again,
            None => break,
        }
        assert!(tries < 9, "it goes on for ever");
    }
    assert_eq!(states(&world), ["refused 423"]);
    let again = asked(&mut world, 31);
    answer(&mut world, &again, 200, &granted_for(&again, 0));
    assert_eq!(states(&world), ["refused 423", "refused 200"]);
    world.advance(Duration::from_secs(25));
    assert!(world.take_to(addr(REGISTRAR)).is_empty(), "it is left alone for longer");
}

#[test]
fn given_a_registrar_that_grants_a_second_then_it_is_not_asked_every_second() {
    let (mut world, request) = registered();
    let refresh = asked(&mut world, 280);
    answer(&mut world, &refresh, 200, &granted_for(&request, 1));
    world.advance(Duration::from_secs(9));
    assert!(world.take_to(addr(REGISTRAR)).is_empty());
    asked(&mut world, 3);
}

#[test]
fn given_a_call_on_the_registration_then_it_is_the_trunk_s_from_wherever_it_comes_and_for_whom_to_names() {
    let (mut world, register_request) = registered();
    let contact = register_request.header(HeaderName::Contact).expect("a Contact");
    let uri = contact.trim_matches(['<', '>']).to_owned();
    let elsewhere = "198.51.100.77:5060";
    let text = request("INVITE", &uri, "sip:+441632960000@provider.test", addr(elsewhere), "in1")
        .replace(&format!("To: <{uri}>"), "To: <sip:+442079460000@provider.test>");
    world.deliver(outside(elsewhere), text);
    let attempted = world.records("call.attempted").last().expect("a call").json();
    assert_eq!(attempted["side"], "trunk_in", "{attempted}");
    let at_pbx = world.one_to(addr("10.0.1.1:5060"));
    assert!(at_pbx.uri().starts_with("sip:+442079460000@"), "{}", at_pbx.text());
    let guessed = uri.replace("sip:", "sip:x");
    let text = request("INVITE", &guessed, "sip:+441632960000@provider.test", addr(elsewhere), "in2");
    world.deliver(outside(elsewhere), text);
    assert!(
        world.take_to(addr("10.0.1.1:5060")).is_empty(),
        "whoever does not know the Contact is a stranger"
    );
}

#[test]
fn given_a_registrar_whose_to_is_our_contact_then_the_call_is_for_the_account() {
    let (mut world, register_request) = registered();
    let contact = register_request.header(HeaderName::Contact).expect("a Contact");
    let uri = contact.trim_matches(['<', '>']).to_owned();
    world.deliver(
        outside(REGISTRAR),
        request("INVITE", &uri, "sip:+441632960000@provider.test", addr(REGISTRAR), "in1"),
    );
    let at_pbx = world.one_to(addr("10.0.1.1:5060"));
    assert!(at_pbx.uri().starts_with("sip:442079460000@"), "{}", at_pbx.text());
}
