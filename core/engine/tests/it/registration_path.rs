//! REGISTER towards a backend in path mode: the Contact stays as it is, and a Path names the edge (RFC 3327).

use crate::support::*;
use signalbox_sip::HeaderName;

const PBX: &str = "10.0.1.1:5060";
const PHONE: &str = "192.0.2.7:40000";

fn phone() -> Phone {
    let mut phone = Phone::new("401", "acme.test", PHONE);
    phone.contact = "\"Desk\" <sip:401@192.168.1.20:5060;ob>;q=0.7".to_owned();
    phone
}

#[test]
fn given_path_mode_then_the_contact_stays_and_the_path_names_the_edge() {
    let mut settings = acme();
    settings.tenants[0].backends[0].contact = signalbox_engine::settings::ContactMode::Path;
    let mut world = World::new(settings);
    let mut phone = phone();
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    assert!(at_pbx.header(HeaderName::Contact).unwrap().contains("sip:401@192.168.1.20:5060;ob"));
    let path = at_pbx.header(HeaderName::Path).expect("a Path");
    assert!(path.starts_with("<sip:b") && path.ends_with("@10.0.0.5:5060;lr>"), "{path}");
    world.deliver(inside(PBX), granted(&at_pbx, 3600));
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(200));
    let via = addr(PBX);
    let text = request("MESSAGE", "sip:401@192.168.1.20:5060;ob", "sip:x@acme.test", via, "m1")
        .replace("Max-Forwards", &format!("Route: {path}\r\nMax-Forwards"));
    world.deliver(inside(PBX), text);
    assert_eq!(world.one_to(phone.flow.remote).uri(), "sip:401@192.168.1.20:5060;ob");
}

#[test]
fn given_path_mode_and_two_contacts_in_one_register_then_each_is_reached_by_its_own_uri() {
    let mut settings = acme();
    settings.tenants[0].backends[0].contact = signalbox_engine::settings::ContactMode::Path;
    let mut world = World::new(settings);
    let mut phone = phone();
    let text = phone.register_with(
        "Contact: <sip:401@192.168.1.20:5060;ob>, <sip:401@192.168.1.20:5070;ob>\r\nExpires: 300\r\n",
    );
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.message().values(HeaderName::Path).count(), 1, "one Path for all (RFC 3327 §5.1)");
    let path = at_pbx.header(HeaderName::Path).expect("a Path");
    world.deliver(inside(PBX), granted(&at_pbx, 300));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!(answer.message().values(HeaderName::Contact).count(), 2);
    for (method, uri) in [
        ("MESSAGE", "sip:401@192.168.1.20:5070;ob"),
        ("MESSAGE", "sip:401@192.168.1.20:5060;ob"),
        ("INVITE", "sip:401@192.168.1.20:5070;ob"),
    ] {
        let text = request(method, uri, "sip:x@acme.test", addr(PBX), &format!("{method}{uri}"))
            .replace("Max-Forwards", &format!("Route: {path}\r\nMax-Forwards"));
        world.deliver(inside(PBX), text);
        assert_eq!(world.one_to(phone.flow.remote).uri(), uri, "{method}");
        world.take();
    }
}
