//! Asterisks that take one contact of each user, and ask for credentials everywhere: two phones of one user in turn, two
//! nodes by weight, `qualify` on. Nobody who has the password ever hears 401 or 403 in the end.

use crate::brokered::effort;
use crate::given::ACME;
use signalbox_e2e::asterisk::{Asterisk, Plan};
use signalbox_e2e::{Edge, Phone, World};

/// Users, each with two phones.
const USERS: usize = 10;
/// Refreshes of a user, and its calls; `SIGNALBOX_EFFORT=20` makes 5,000 and 500 of all.
const REFRESHES: u32 = 25;
const REFRESHES_A_CALL: u32 = 10;
/// Refreshes until it is the other phone's turn.
const TURN: u32 = 5;

/// Of the first half of users the latest phone wins, of the others the one before must have gone.
fn one_contact(user: &str) -> &'static str {
    match user.starts_with("40") {
        true => "max_contacts=1\nremove_existing=yes\nqualify_frequency=1\nminimum_expiration=1\n",
        false => "max_contacts=1\nremove_existing=no\nqualify_frequency=1\nminimum_expiration=1\n",
    }
}

#[test]
fn given_one_contact_a_user_and_two_nodes_that_ask_for_credentials_when_phones_take_turns_then_none_is_refused()
 {
    let world = World::new("one-contact");
    let users: Vec<String> = (0..USERS).map(|at| format!("4{}{}", at % 2, at / 2)).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let plan =
        Plan { users: &names, dialplan: "exten => 100,1,Answer()\n same => n,Echo()", aor: one_contact };
    let nodes =
        [("a", 2), ("b", 3)].map(|(name, host)| Asterisk::start(&world, name, world.at(host, 5060), &plan));
    let mut edge = Edge::configured(
        &world,
        &format!(
            // A node that a busy machine makes slow is not left: another one's nonce would be stale there.
            "[sip]\nfailover_after = \"20s\"\n[probe]\ninterval = \"1s\"\ntimeout = \"900ms\"\ndown_after = 20\n\
             [[tenant]]\nname = \"acme\"\ndomains = [\"{ACME}\"]\nbackends = [\n\
             {{ name = \"a\", address = \"udp:{}\", weight = 2 }},\n{{ name = \"b\", address = \"udp:{}\", weight = 1 }}]\n",
            nodes[0].address(),
            nodes[1].address()
        ),
    );
    edge.start();
    edge.await_backend("a", "up");
    edge.await_backend("b", "up");
    let (refreshes, mut calls) = (REFRESHES * effort(), 0);
    std::thread::scope(|scope| {
        let (world, edge) = (&world, &edge);
        let living = users
            .iter()
            .enumerate()
            .map(|(at, user)| scope.spawn(move || live(world, edge, user, at, refreshes)));
        let living: Vec<_> = living.collect();
        calls = living.into_iter().map(|life| life.join().unwrap()).sum();
    });
    assert_eq!(edge.events("registration.rejected").len(), 0);
    let records = edge.await_rows(&["cdr", "--last", "10000"], calls);
    assert!(records.iter().all(|row| row["category"] == "answered"), "{records:#?}");
    let node = |name: &str| records.iter().filter(|row| row["egress_peer"] == name).count();
    assert!(
        node("a") > 0 && node("b") > 0 && node("a") + node("b") == calls,
        "both nodes had calls: {records:#?}"
    );
}

/// Both phones of a user, until it has refreshed so often; how many calls that were.
fn live(world: &World, edge: &Edge, user: &str, at: usize, refreshes: u32) -> usize {
    let mut calls = 0;
    let mut phones =
        [20, 21].map(|host| Phone::new(user, ACME, world.at(host, 5060 + at as u16), edge.sip()));
    for number in 0..refreshes {
        let turn = number / TURN;
        let [mine, other] = if turn.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        if number.is_multiple_of(TURN) && number > 0 && user.starts_with("41") {
            assert_eq!(phones[other].register(0).status(), Some(200), "{user} leaves");
        }
        let answer = phones[mine].register(600);
        assert_eq!(answer.status(), Some(200), "{user}, refresh {number}: {answer}");
        if number.is_multiple_of(REFRESHES_A_CALL) {
            let (answer, dialog) = phones[mine].call(&format!("sip:100@{ACME}"));
            assert_eq!(answer.status(), Some(200), "{user}, after refresh {number}: {answer}");
            assert_eq!(phones[mine].hang_up(&mut dialog.unwrap()).status(), Some(200));
            calls += 1;
        }
    }
    calls
}
