//! One tenant never sees another: the same extension, PBXs that share an address, addresses that begin alike.

use crate::given::sipp_registers;
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::sipp::Sipp;
use signalbox_e2e::{Edge, Message, Phone, World};
use std::net::SocketAddr;

const CALLS: u32 = 50;

/// acme and globex, each with a Kamailio that phones register at and a dialler that calls by itself. The Kamailios'
/// addresses begin alike; the diallers share one. globex has two domains, and its dialler speaks for the second.
struct Two {
    edge: Edge,
    acme: Kamailio,
    globex: Kamailio,
    acme_dialler: SocketAddr,
    globex_dialler: SocketAddr,
}

fn two_tenants(world: &World) -> Two {
    let acme = Kamailio::start(world, "pbx-a", world.at(2, 5060), world.ip(HOST));
    let globex = Kamailio::start(world, "pbx-g", world.at(20, 5060), world.ip(HOST));
    let (acme_dialler, globex_dialler) = (world.at(3, 5080), world.at(3, 5090));
    let dialler = |address: SocketAddr, domain: &str| {
        format!(
            "{{ name = \"dialler\", address = \"udp:{address}\", priority = 9, domain = \"{domain}\", \
             probe = {{ interval = \"0s\" }} }}"
        )
    };
    let mut edge = Edge::configured(
        world,
        &format!(
            "[[tenant]]\nname = \"acme\"\ndomains = [\"acme.test\"]\n\
             backends = [{{ name = \"pbx-a\", address = \"udp:{}\" }}, {}]\n\
             [[tenant]]\nname = \"globex\"\ndomains = [\"globex.test\", \"b.globex.test\"]\n\
             backends = [{{ name = \"pbx-g\", address = \"udp:{}\" }}, {}]\n",
            acme.address(),
            dialler(acme_dialler, "acme.test"),
            globex.address(),
            dialler(globex_dialler, "b.globex.test"),
        ),
    );
    edge.start();
    edge.await_backend("pbx-a", "up");
    edge.await_backend("pbx-g", "up");
    Two { edge, acme, globex, acme_dialler, globex_dialler }
}

#[test]
fn given_401_three_times_when_diallers_call_401_then_each_call_reaches_its_own_phone() {
    let world = World::new("tenants");
    let two = two_tenants(&world);
    let (edge, acme_dialler, globex_dialler) = (&two.edge, two.acme_dialler, two.globex_dialler);
    let phones = [
        ("acme.test", world.at(30, 5060)),
        ("globex.test", world.at(31, 5060)),
        ("b.globex.test", world.at(31, 5061)),
    ];
    for (domain, address) in phones {
        sipp_registers(&world, edge, domain, "401", address);
    }
    let rows = edge.await_rows(&["locations", "401"], 3);
    assert_eq!(rows.iter().filter(|r| r["tenant"] == "globex").count(), 2);

    // When both call 401 at the edge's own address, which names no domain.
    let answers = |name: &str, at: SocketAddr| Sipp::new(&world, name, "answer", at).calls(CALLS, 50).start();
    let (of_acme, of_globex) = (answers("acme-401", phones[0].1), answers("globex-b-401", phones[2].1));
    let of_nobody = Sipp::new(&world, "globex-401", "answer", phones[1].1).calls(1, 1).start();
    let dial = |name: &str, from: SocketAddr| {
        let sipp =
            Sipp::new(&world, name, "call", from).to(edge.sip()).word("domain", &edge.sip().ip().to_string());
        sipp.talk(100).lines(&["900;401".to_owned()]).calls(CALLS, 25).start()
    };
    let dialling = [dial("acme-dialler", acme_dialler), dial("globex-dialler", globex_dialler)];

    // Then each phone had its own tenant's calls, and the other domain's phone had none.
    for dialler in dialling {
        dialler.finish().all_good(u64::from(CALLS));
    }
    of_acme.finish().all_good(u64::from(CALLS));
    of_globex.finish().all_good(u64::from(CALLS));
    assert_eq!(of_nobody.stop().good, 0);
    let rows = edge.await_rows(&["cdr", "--last", "1000"], 2 * CALLS as usize);
    for (tenant, peer) in [("acme", "401@acme.test"), ("globex", "401@b.globex.test")] {
        let own: Vec<_> = rows.iter().filter(|r| r["tenant"] == tenant).collect();
        assert_eq!(own.len(), CALLS as usize, "{tenant}");
        assert!(own.iter().all(|r| r["egress_peer"] == peer && r["category"] == "answered"), "{own:#?}");
    }
}

#[test]
fn given_two_tenants_when_nobody_or_a_stranger_is_involved_then_nothing_crosses() {
    let world = World::new("strangers");
    let two = two_tenants(&world);
    let edge = &two.edge;
    let own_address = edge.sip().ip().to_string();
    let at = |user: &str, address: SocketAddr| Phone::new(user, &own_address, address, edge.sip());

    // Nobody there is 404, though globex has such a user.
    sipp_registers(&world, edge, "globex.test", "499", world.at(31, 5060));
    let (answer, _) = at("900", two.acme_dialler).call(&format!("sip:499@{own_address}"));
    assert_eq!(answer.status(), Some(404), "{answer}");

    // An address that only begins like a backend's is nobody's: refused, and told.
    let mut stranger = at("900", world.at(30, 5080));
    let invite =
        stranger.request("sip:499@globex.test", "INVITE", &outside_headers(&stranger, "globex.test"), "");
    stranger.send(invite.as_bytes());
    let told = edge.await_events("security.request_rejected", 1);
    assert!(
        told.iter().all(|e| e["subject"].as_str() == Some(&stranger.local.ip().to_string())),
        "{told:#?}"
    );

    // An INVITE from somebody unregistered never reaches a PBX that trusts the edge.
    let mut unregistered = Phone::new("499", "globex.test", world.at(32, 5060), edge.sip());
    let (answer, _) = unregistered.call("sip:401@globex.test");
    assert!(answer.status() >= Some(400), "{answer}");
    for pbx in [&two.acme, &two.globex] {
        assert_eq!((pbx.invites_for("401"), pbx.invites_for("499")), (0, 0), "{}", pbx.log());
    }
}

fn outside_headers(phone: &Phone, domain: &str) -> String {
    format!(
        "From: <sip:900@{domain}>;tag=stranger\r\nTo: <sip:499@{domain}>\r\nCall-ID: stranger\r\nCSeq: 1 INVITE\r\n\
         Contact: <{}>\r\n",
        phone.contact()
    )
}

#[test]
fn given_a_domain_of_nobody_when_somebody_asks_for_it_then_there_is_no_answer_and_an_event() {
    let world = World::new("unknown-domain");
    let two = two_tenants(&world);
    let mut phone = Phone::new("401", "nobody.test", world.at(30, 5060), two.edge.sip());
    let register = phone.request(
        "sip:nobody.test",
        "REGISTER",
        &format!(
            "From: <sip:401@nobody.test>;tag=1\r\nTo: <sip:401@nobody.test>\r\nCall-ID: nobody\r\nCSeq: 1 REGISTER\r\n\
             Contact: <{}>\r\n",
            phone.contact()
        ),
        "",
    );
    phone.send(register.as_bytes());
    let told = &two.edge.await_events("security.request_rejected", 1)[0];
    assert_eq!(
        (told["data"]["rule"].as_str(), told["data"]["domain"].as_str()),
        (Some("unknown_domain"), Some("nobody.test"))
    );
    let heard: Vec<Message> = phone.unexpected().to_vec();
    assert!(heard.is_empty(), "silence is the answer: {heard:#?}");
}
