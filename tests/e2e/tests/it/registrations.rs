//! What a REGISTER leaves behind, and what not.

use crate::given::{ACME, acme, edge_and_kamailio, phone, registered};
use signalbox_e2e::asterisk::{Asterisk, Plan};
use signalbox_e2e::phone::granted;
use signalbox_e2e::postgres::Database;
use signalbox_e2e::{Edge, Phone, World, contract};

#[test]
fn given_a_registrar_when_phones_are_refused_then_nothing_is_stored() {
    let world = World::new("refused");
    let (edge, _pbx) = edge_and_kamailio(&world);
    let mut forbidden = phone(&world, &edge, "forbidden", 5060);
    assert_eq!(forbidden.register(600).status(), Some(403));
    let mut guessing = phone(&world, &edge, "401", 5061);
    guessing.account.password = "guessed".to_owned();
    assert_eq!(guessing.register(600).status(), Some(401));

    let events = edge.await_events("registration", 2);
    assert_eq!(contract::types(&events), ["registration.rejected", "registration.rejected"]);
    let told = |n: usize| (events[n]["data"]["status"].as_u64(), events[n]["data"]["by"].as_str());
    assert_eq!((told(0), told(1)), ((Some(403), Some("backend")), (Some(401), Some("backend"))));
    assert!(edge.rows(&["locations"]).is_empty());
}

#[test]
fn given_a_registrar_when_a_phone_comes_and_goes_then_rows_and_events_follow() {
    let world = World::new("comes-and-goes");
    let (edge, _pbx) = edge_and_kamailio(&world);

    // It comes: its own Contact comes back with what the registrar granted.
    let mut alice = phone(&world, &edge, "401", 5060);
    let (answer, contact) = (alice.register(300), alice.contact());
    assert_eq!((answer.status(), granted(&answer, &contact)), (Some(200), Some(300)), "{answer}");
    assert_eq!(answer.all("Contact").count(), 1, "{answer}");
    let row = &edge.await_rows(&["locations"], 1)[0];
    assert_eq!(
        (row["username"].as_str(), row["domain"].as_str(), row["contact"].as_str()),
        (Some("401"), Some(ACME), Some(&*contact))
    );

    // It refreshes, and goes.
    assert_eq!(alice.register(400).status(), Some(200));
    let answer = alice.register(0);
    assert_eq!((answer.status(), granted(&answer, &contact)), (Some(200), None), "{answer}");
    edge.await_rows(&["locations"], 0);

    // It comes for a moment and is not heard of again.
    assert_eq!(alice.register(2).status(), Some(200));
    let events = edge.await_events("registration", 5);
    let types = [
        "registration.added",
        "registration.refreshed",
        "registration.removed",
        "registration.added",
        "registration.expired",
    ];
    assert_eq!(contract::types(&events), types);
    assert_eq!(events[2]["data"]["reason"], "client");
    let bindings: Vec<_> = events.iter().map(|e| e["data"]["binding"].as_str().unwrap()).collect();
    assert!(bindings.iter().all(|b| *b == bindings[0]), "one phone is one binding: {bindings:?}");
    edge.await_rows(&["locations"], 0);
}

#[test]
fn given_postgres_when_a_phone_registers_then_any_reader_of_usrloc_finds_it() {
    let world = World::new("postgres");
    let database = Database::create();
    let pbx = signalbox_e2e::kamailio::Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(1));
    let mut edge = Edge::with_store(&world, &database.url(), &acme(pbx.address()));
    edge.start();
    let alice = registered(&world, &edge, "401", 5060);

    // Once our own reader finds it, any other does.
    assert_eq!(edge.await_rows(&["locations"], 1).len(), 1);
    let sql = "SELECT username, domain, contact, received, expires > extract(epoch from now()), tenant, edge FROM location";
    let rows = database.query(sql);
    let expected = format!("401|{ACME}|{}|sip:{}|t|acme|edge-1", alice.contact(), alice.local);
    assert_eq!(rows, [expected]);
}

/// An Asterisk that rings every contact of 401, and an edge before it.
fn edge_and_asterisk(world: &World) -> (Edge, Asterisk) {
    let plan = Plan {
        users: &["401", "402"],
        dialplan: "exten => 401,1,Dial(${PJSIP_DIAL_CONTACTS(401)},20)",
        ..Plan::default()
    };
    let pbx = Asterisk::start(world, "asterisk", world.at(2, 5060), &plan);
    let mut edge = Edge::configured(world, &acme(pbx.address()));
    edge.start();
    edge.await_backend("pbx", "up");
    (edge, pbx)
}

#[test]
fn given_two_phones_of_one_address_when_asterisk_dials_it_then_each_rings_once() {
    let world = World::new("two-contacts");
    let (edge, pbx) = edge_and_asterisk(&world);
    let mut desk = registered(&world, &edge, "401", 5060);
    let mut mobile = registered(&world, &edge, "401", 5061);
    let mut caller = registered(&world, &edge, "402", 5062);
    assert_eq!(edge.await_rows(&["locations", "401"], 2).len(), 2);
    let contacts = pbx.console("pjsip show aor 401");
    assert_eq!(
        contacts.matches(&format!("@{}", edge.sip())).count(),
        2,
        "the PBX has two contacts at the edge: {contacts}"
    );

    let calling = std::thread::spawn(move || (caller.call("sip:401@acme.test"), caller));
    let (at_desk, at_mobile) = (desk.rung(), mobile.rung());
    assert_ne!(at_desk.call_id(), at_mobile.call_id(), "two calls of the PBX, one for each contact");
    desk.answer(&at_desk, 180, "Ringing");
    mobile.answer(&at_mobile, 180, "Ringing");
    let mut dialog = desk.accept(&at_desk);
    cancelled(&mut mobile, &at_mobile);
    let ((answer, up), mut caller) = calling.join().unwrap();
    assert_eq!((answer.status(), up.is_some()), (Some(200), true), "{answer}");
    let no_other = |phone: &mut Phone| phone.unexpected().iter().all(|m| m.method() != "INVITE");
    assert!(no_other(&mut desk) && no_other(&mut mobile), "each rang once");

    // The called side hangs up; the caller hears of it.
    assert_eq!(desk.hang_up(&mut dialog).status(), Some(200));
    let bye = caller.asked("BYE");
    caller.answer(&bye, 200, "OK");
    let rows = edge.await_rows(&["cdr"], 3);
    let categories = |wanted: &str| rows.iter().filter(|r| r["category"] == wanted).count();
    assert_eq!((categories("answered"), categories("cancelled")), (2, 1), "{rows:#?}");
}

fn cancelled(phone: &mut Phone, invite: &signalbox_e2e::Message) {
    let cancel = phone.asked("CANCEL");
    phone.answer(&cancel, 200, "OK");
    phone.answer(invite, 487, "Request Terminated");
    phone.asked("ACK");
}
