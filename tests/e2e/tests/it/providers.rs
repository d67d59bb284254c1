//! Providers that send calls only to who has registered: the edge registers at a real Kamailio and a real Asterisk, and is
//! called back by what they know of it.

use crate::given::{acme, hang_up, registered, talk};
use signalbox_e2e::asterisk::{Asterisk, Plan};
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::{Edge, Phone, World, wait};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// The account; the last four digits are the tenant's to choose.
const NUMBER: &str = "+442079460001";
/// The longest first wait behind a failure is half a minute, and the second twice that.
const TWO_WAITS: Duration = Duration::from_secs(120);

/// An edge before a PBX, that registers at a provider: its address, and what else its account says.
fn edge_with_account(world: &World, pbx: &Kamailio, address: &str, account: &str) -> Edge {
    let password = world.file("provider.password", &format!("pw-{NUMBER}\n"));
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let listener = |transport| format!("[[listener]]\naddress = \"{transport}:{}\"\n", world.at(HOST, 5060));
    let tenant = acme(pbx.address()) + "numbers = [\"+442079460000/4\"]\ncountry = \"44\"\n";
    let trunk = format!(
        "[[trunk]]\nname = \"provider\"\naddress = \"{address}\"\n\
         register = {{ user = \"{NUMBER}\", password_file = \"provider.password\", {account} }}\n\
         [[template]]\nname = \"did\"\ncalled = {{ strip = \"+4420794600\", prefix = \"4\" }}\n\
         [[route]]\nname = \"did\"\nmatch = {{ source = \"trunks\", number = \"+44207946\" }}\n\
         template = \"did\"\nto = \"backends\"\n"
    );
    let mut edge = Edge::configured(world, &[listener("udp"), listener("tcp"), tenant, trunk].concat());
    edge.start();
    edge.await_backend("pbx", "up");
    edge
}

/// What became of the registration, in order.
fn states(edge: &Edge) -> Vec<String> {
    let events = edge.events("registration.outbound_changed");
    events.iter().map(|event| event["data"]["to"].as_str().unwrap_or_default().to_owned()).collect()
}

fn await_states(edge: &Edge, expected: &[&str]) {
    wait::until_within(TWO_WAITS, &format!("{expected:?}"), || (states(edge) == expected).then_some(()));
}

#[test]
fn given_a_kamailio_that_wants_digest_then_calls_come_by_the_registration_and_again_when_it_was_away() {
    let world = World::new("provider");
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
    let at = world.at(4, 5060);
    let mut provider = Kamailio::with_neighbour(&world, "provider", at, world.ip(HOST), world.ip(40));
    let mut edge = edge_with_account(&world, &pbx, &format!("tcp:{at}"), "domain = \"provider.test\"");
    await_states(&edge, &["registered"]);
    wait::until_true("status to show it", || {
        let shown = edge.text(&["status"]);
        shown.lines().any(|line| line.contains("provider") && line.contains("registered"))
    });

    // When another customer of the provider calls the number, then the phone behind it rings, and both can hang up.
    let mut desk = registered(&world, &edge, "401", 6000);
    let mut outside = Phone::new("600", "provider.test", world.at(40, 5060), at);
    let target = format!("sip:{NUMBER}@provider.test");
    let (mut theirs, _) = talk(&mut outside, &mut desk, &target);
    hang_up(&mut outside, &mut theirs, &mut desk);
    let (_, mut ours) = talk(&mut outside, &mut desk, &target);
    hang_up(&mut desk, &mut ours, &mut outside);
    let rows = edge.await_rows(&["cdr"], 4);
    let inwards = rows.iter().filter(|row| row["side"] == "trunk_in" && row["ingress_peer"] == "provider");
    assert_eq!(inwards.filter(|row| row["category"] == "answered").count(), 2, "{rows:#?}");

    // When it dies and comes back, having forgotten everybody, then nobody has to do anything.
    provider.kill();
    await_states(&edge, &["registered", "unreachable"]);
    provider.start_again();
    await_states(&edge, &["registered", "unreachable", "registered"]);
    let (mut theirs, _) = talk(&mut outside, &mut desk, &target);
    hang_up(&mut outside, &mut theirs, &mut desk);

    // When the edge goes, then it says so, and the provider finds nobody any more.
    assert_eq!(edge.terminate().code, 0);
    wait::until_true("the provider to know nobody", || outside.call(&target).0.status() == Some(404));
}

#[test]
fn given_an_asterisk_whose_to_names_our_contact_then_its_call_is_for_the_account() {
    let world = World::new("provider-asterisk");
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
    let plan = Plan { users: &[NUMBER], ..Plan::default() };
    let provider = Asterisk::start(&world, "provider", world.at(4, 5060), &plan);
    let address = format!("udp:{}", provider.address());
    let edge = edge_with_account(&world, &pbx, &address, "realm = \"asterisk\"");
    await_states(&edge, &["registered"]);
    let contacts = provider.console("pjsip show contacts");
    assert!(contacts.contains(&format!("{NUMBER}/sip:")), "{contacts}");
    let mut desk = registered(&world, &edge, "401", 6000);
    let _ = provider.console(&format!("channel originate PJSIP/{NUMBER} application Wait 60"));
    let invite = desk.rung();
    let mut dialog = desk.accept(&invite);
    assert_eq!(desk.hang_up(&mut dialog).status(), Some(200));
    let rows = edge.await_rows(&["cdr"], 2);
    let inwards = rows.iter().find(|row| row["side"] == "trunk_in").unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!((&inwards["ingress_peer"], &inwards["callee"]), (&"provider".into(), &NUMBER.into()));
    assert!(edge.events("").iter().all(|event| !event.to_string().contains(&format!("pw-{NUMBER}"))));
}
