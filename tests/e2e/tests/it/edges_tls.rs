//! Two edges that speak TLS to each other, both with a certificate of the cluster's own authority.

use crate::authority::Authority;
use crate::edges::{A, QUICK, USER, calls_cross, config, metric, pair_over, phone, with_caller};
use signalbox_brokers::{Nats, NatsOptions};
use signalbox_e2e::load::Voicemail;
use signalbox_e2e::phone::Wire;
use signalbox_e2e::{Edge, Phone, World, wait};

/// Host of the edge that does not belong there, on the edges' network.
const C: u8 = 6;
const UNTRUSTED: &str = "signalbox_sip_connections_closed_total{reason=\"untrusted\"}";

/// What stands in `[cluster]` of an edge whose certificate is in these files.
fn over_tls(world: &World, file: &str) -> (&'static str, String) {
    let dir = world.dir().display();
    let files = format!(
        "certificate_file = \"{dir}/{file}.pem\"\nkey_file = \"{dir}/{file}.key\"\nca_file = \"{dir}/cluster.pem\"\n"
    );
    ("tls", format!("{QUICK}{files}"))
}

fn authority(world: &World) -> Authority {
    let authority = Authority::new(world, "cluster");
    for edge in ["edge-a", "edge-b"] {
        authority.sign(world, edge, edge, 90);
    }
    authority
}

#[test]
fn given_two_edges_over_mutual_tls_when_a_phone_of_one_is_called_at_the_other_then_it_is_reached_both_ways() {
    let world = World::new("edges-tls");
    let _authority = authority(&world);
    let nats = Nats::start(NatsOptions::default());
    let mut pair = pair_over(&world, &nats, |edge| over_tls(&world, edge));
    calls_cross(&world, &mut pair);
    // Each has connected to the other.
    for edge in [&pair.a, &pair.b] {
        assert_eq!(metric(edge, "signalbox_sip_connections_accepted_total{}"), 1);
        assert_eq!(metric(edge, UNTRUSTED), 0);
    }
}

#[test]
fn given_strangers_at_the_listener_for_edges_when_they_show_no_certificate_of_the_cluster_then_nothing_passes()
 {
    let world = World::new("edges-tls-strangers");
    let authority = authority(&world);
    let nats = Nats::start(NatsOptions::default());
    let pair = pair_over(&world, &nats, |edge| over_tls(&world, edge));
    let mut called = phone(&world, &pair.a, "401", 5062);
    // Without a certificate.
    let (wire, local) = Wire::tls(world.at(A, 5070), &authority.ca, "edge-a");
    let mut nobody = Phone::over(wire, local, "409", "acme.test");
    let _dialing = nobody.dial(USER);
    wait::until_true("who shows none to be counted", || metric(&pair.a, UNTRUSTED) == 1);
    // An edge with the cluster's key and bus, whose certificate is somebody else's.
    Authority::new(&world, "others").sign(&world, "foreign", "edge-c", 90);
    let (registrar, caller) = (world.at(7, 5060), world.at(8, 5060));
    let tenants = with_caller("acme", registrar, caller);
    let of_c = |file: &str| config(&world, &nats, C, &tenants, over_tls(&world, file));
    let mut c = Edge::in_cluster(&world, "edge-c", C, &of_c("foreign"));
    let _registrar = Voicemail::start(registrar);
    c.start();
    let bindings = "signalbox_peer_edge_bindings{edge=\"edge-a\"}";
    wait::until_true("it to know the phone", || metric(&c, bindings) == 1);
    let mut pbx = Phone::new("402", "acme.test", caller, c.sip());
    let (answer, _) = pbx.call(USER);
    assert_eq!(answer.status(), Some(480), "{answer}");
    wait::until_true("it to be counted", || metric(&pair.a, UNTRUSTED) == 2);
    assert!(called.unexpected().is_empty());
    // One of the cluster, but another's: it is told before it runs.
    c.kill();
    c.write_config(&of_c("edge-b"));
    let said = c.start_in_vain();
    assert!(said.code != 0 && said.stderr.contains("not good for \"edge-c\""), "{said:?}");
}
