//! `hide = "full"`: nothing of one side is seen on the other, in calls, registrations and dialogs outside calls.

use crate::call_support::*;
use crate::support::*;
use signalbox_engine::settings::Hide;
use signalbox_sip::HeaderName;

/// What the phone's messages tell of it, and where its own address is written besides.
const OF_PHONE: &str = "User-Agent: Phone/1.2\r\nReply-To: <sip:401@198.51.100.7:5062>\r\n\
     In-Reply-To: other-call\r\nCall-Info: <http://198.51.100.7/me.png>;purpose=icon\r\n";
/// The same of the backend.
const OF_PBX: &str = "Server: PBX/16\r\nUser-Agent: PBX/16\r\nWarning: 392 10.0.1.1:5060 \"req_src_ip=10.0.0.5\"\r\n\
     Organization: Acme\r\nAlert-Info: <http://10.0.1.1/ring>\r\nError-Info: <sip:busy@10.0.1.1:5060>\r\n";

fn hidden() -> (World, Phone) {
    let mut settings = acme();
    settings.tenants[0].backends[0].hide = Hide::Full;
    with_phone_under(settings)
}

#[track_caller]
fn shows_nothing(sent: &Sent, secrets: &[&str]) {
    let text = sent.text();
    let shown: Vec<_> = secrets.iter().filter(|secret| text.contains(**secret)).collect();
    assert!(shown.is_empty(), "{shown:?} in {text}");
}

const PHONES: [&str; 9] = [
    "198.51.100.7",
    "203.0.113.1",
    "Phone/1.2",
    "secret",
    "other-call",
    "o=- 1 1",
    "192.0.2.10\r\ns=",
    "z9hG4bKs",
    "x-feature",
];
const PBXS: [&str; 7] = ["10.0.1.1", "10.0.0.5", "PBX/16", "Acme\r\n", "req_src", "root 77", "Asterisk"];

/// A description whose media is elsewhere.
fn of_asterisk() -> String {
    sdp("10.9.9.9", "sendrecv", "PCMA")
        .replace("o=- 1 1 IN IP4 10.9.9.9\r\ns=-", "o=root 77 78 IN IP4 10.0.1.1\r\ns=Asterisk")
}

#[test]
fn given_hidden_sides_when_a_phone_calls_then_each_sees_only_the_edge() {
    let (mut world, phone) = hidden();
    let offer = sdp("192.0.2.10", "sendrecv", "PCMA");
    let invite = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "secret", &offer)
        .replace("X-Custom", &format!("{OF_PHONE}X-Custom"))
        .replace("7:5062>\r\nUser", "7:5062>;+x-feature\r\nUser");
    world.deliver(phone.flow, invite);
    world.take_to(phone.flow.remote);
    let at_pbx = world.one_to(addr(PBX));
    shows_nothing(&at_pbx, &PHONES);
    assert!(at_pbx.text().contains("Reply-To: <sip:401@acme.test>\r\n"), "{}", at_pbx.text());
    assert!(at_pbx.text().contains("c=IN IP4 192.0.2.10\r\n"), "media goes there: {}", at_pbx.text());

    let answer = respond(&at_pbx, 200, "<sip:402@10.0.1.1:5060>", &of_asterisk());
    world.deliver(inside(PBX), answer.replacen("Contact", &format!("{OF_PBX}Contact"), 1));
    let ok = world.one_to(phone.flow.remote);
    shows_nothing(&ok, &PBXS);
    assert!(
        ok.text().contains("Alert-Info: <http://acme.test/ring>") && ok.text().contains("c=IN IP4 10.9.9.9")
    );

    // Inside the dialog, both ways.
    let (mut caller, mut pbx) =
        (Dialog::calling(phone.flow, &ok), Dialog::called(inside(PBX), &at_pbx, "pbx"));
    world.deliver(phone.flow, caller.ack(1, OF_PHONE));
    shows_nothing(&world.one_to(addr(PBX)), &PHONES);
    world.deliver(inside(PBX), pbx.request("INFO", OF_PBX));
    let info = world.one_to(phone.flow.remote);
    shows_nothing(&info, &PBXS);
    assert_eq!(info.header(HeaderName::To).as_deref(), Some("\"Caller\" <sip:401@acme.test>;tag=fsecret"));
    world.deliver(phone.flow, response(&info, 200, OF_PHONE));
    shows_nothing(&world.one_to(addr(PBX)), &PHONES);
    world.deliver(phone.flow, caller.request("BYE", OF_PHONE));
    let bye = world.one_to(addr(PBX));
    shows_nothing(&bye, &PHONES);
    world.deliver(inside(PBX), response(&bye, 200, OF_PBX));
    shows_nothing(&world.one_to(phone.flow.remote), &PBXS);
}

#[test]
fn given_hidden_sides_when_a_pbx_calls_in_its_own_name_then_the_phone_sees_its_domain_to_the_end() {
    let mut settings = acme();
    settings.tenants[0].backends[0].hide = Hide::Full;
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let token = register(&mut world, &mut phone, PBX, 3600);
    let offer = of_asterisk();
    let call = invite(&inside(PBX), "sip:402@10.0.1.1", &format!("sip:{token}@10.0.0.5"), "inner", &offer)
        .replace("X-Custom", &format!("{OF_PBX}P-Asserted-Identity: <sip:402@10.0.1.1:5060>\r\nX-Custom"));
    world.deliver(inside(PBX), call);
    world.take_to(addr(PBX));
    let at_phone = world.one_to(addr(PHONE));
    shows_nothing(&at_phone, &PBXS);
    let text = at_phone.text();
    assert!(text.contains("From: \"Caller\" <sip:402@acme.test>;tag="), "{text}");
    assert_eq!(at_phone.header(HeaderName::To).as_deref(), Some("<sip:401@acme.test>"));
    assert!(text.contains("P-Asserted-Identity: <sip:402@acme.test>\r\n"), "{text}");

    let busy = response(&at_phone, 302, &format!("Contact: <sip:9@198.51.100.7:5062>\r\n{OF_PHONE}"));
    world.deliver(phone.flow, busy);
    world.take_to(addr(PHONE));
    let refused = world.one_to(addr(PBX));
    shows_nothing(&refused, &PHONES);
    assert_eq!(refused.header(HeaderName::From).as_deref(), Some("\"Caller\" <sip:402@10.0.1.1>;tag=finner"));
}

#[test]
fn given_hidden_sides_when_a_phone_registers_then_the_backend_hears_of_it_by_other_names() {
    let (mut world, mut phone) = hidden();
    let seen = |world: &mut World, phone: &mut Phone| {
        let text = phone.register(3600);
        world.deliver(phone.flow, text);
        world.one_to(addr(PBX))
    };
    let first = seen(&mut world, &mut phone);
    shows_nothing(&first, &["198.51.100.7", "reg-401", ";tag=p", "Test/1", "203.0.113.1"]);
    let answer = granted(&first, 3600).replace("Content-Length", &format!("{OF_PBX}Content-Length"));
    world.deliver(
        inside(PBX),
        answer.replace("Contact:", "Contact: <sip:401@10.0.1.77>;expires=60\r\nContact:"),
    );
    let ok = world.one_to(phone.flow.remote);
    shows_nothing(&ok, &PBXS);
    assert!(
        ok.text().contains("Call-ID: reg-401-acme.test") && !ok.text().contains(";tag=pbx"),
        "{}",
        ok.text()
    );
    let second = seen(&mut world, &mut phone);
    assert_eq!(first.header(HeaderName::CallId), second.header(HeaderName::CallId), "one phone, one Call-ID");
}

#[test]
fn given_hidden_sides_when_a_phone_subscribes_then_each_side_has_a_dialog_of_its_own_over_a_restart() {
    let (mut world, phone) = hidden();
    let subscribe =
        request("SUBSCRIBE", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "secret");
    world.deliver(
        phone.flow,
        subscribe.replace("Contact", &format!("{OF_PHONE}Event: dialog\r\nExpires: 60\r\nContact")),
    );
    let at_pbx = world.one_to(addr(PBX));
    shows_nothing(&at_pbx, &["198.51.100.7", "secret", "Phone/1.2"]);
    world.deliver(inside(PBX), response(&at_pbx, 200, &format!("{OF_PBX}Contact: <sip:402@10.0.1.1>\r\n")));
    let ok = world.one_to(phone.flow.remote);
    shows_nothing(&ok, &PBXS);
    let mut pbx = Dialog::called(inside(PBX), &at_pbx, "pbx");
    let mut caller = Dialog::calling(phone.flow, &ok);

    let mut world = world.crash_and_restart(std::time::Duration::from_secs(1));
    let state = "<dialog-info entity=\"sip:402@10.0.1.1\"/>";
    let body = format!(
        "{OF_PBX}Event: dialog\r\nSubscription-State: terminated;reason=timeout\r\nContact: <sip:402@10.0.1.1>\r\n\
         Content-Type: application/dialog-info+xml\r\nContent-Length: {}\r\n\r\n{state}",
        state.len()
    );
    world.deliver(inside(PBX), pbx.request("NOTIFY", &body));
    let notify = world.one_to(phone.flow.remote);
    shows_nothing(&notify, &PBXS);
    assert!(notify.text().ends_with("<dialog-info entity=\"sip:402@acme.test\"/>"), "{}", notify.text());
    assert_eq!(notify.header(HeaderName::From), ok.header(HeaderName::To));
    assert_eq!(notify.header(HeaderName::CallId).as_deref(), Some("secret"));
    world.deliver(phone.flow, response(&notify, 200, OF_PHONE));
    let heard = world.one_to(addr(PBX));
    shows_nothing(&heard, &["198.51.100.7", "secret", "Phone/1.2"]);
    let [started, ended] =
        ["started", "ended"].map(|what| world.records(&format!("subscription.{what}"))[0].subject.clone());
    assert_eq!(started, ended, "it is one subscription");

    world.deliver(phone.flow, caller.request("SUBSCRIBE", "Expires: 0\r\n"));
    let again = world.one_to(addr(PBX));
    assert_eq!(again.header(HeaderName::To), heard.header(HeaderName::From), "the dialog that it knows");
    assert_eq!(again.header(HeaderName::CallId), at_pbx.header(HeaderName::CallId));
}
