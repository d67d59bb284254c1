//! `hide = "full"`, TLS outside and UDP inside: whatever the real PBXs and the phones say, no side sees anything of the other.

use crate::authority::Authority;
use crate::given::{hang_up, hold_and_resume};
use signalbox_e2e::asterisk::{Asterisk, Plan};
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::message::{Message, address, parameter};
use signalbox_e2e::phone::{Dialog, Wire, unique};
use signalbox_e2e::tap::Tap;
use signalbox_e2e::{Edge, Phone, World};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

const OUTSIDE: u8 = 1;
const INSIDE: u8 = 5;
/// Shorter words are of everybody.
const WORD_MIN: usize = 5;

/// An edge with a side for phones over TLS and one for PBXs over UDP, before an Asterisk and a Kamailio.
fn edge(world: &World, pbxs: [SocketAddr; 2]) -> Edge {
    let dir = world.dir().display();
    let tenant = |name: &str, pbx: SocketAddr| {
        format!(
            "[[tenant]]\nname = \"{name}\"\ndomains = [\"{name}.test\"]\n\
             backends = [{{ name = \"pbx\", address = \"udp:{pbx}\", hide = \"full\" }}]\n"
        )
    };
    let text = format!(
        "[[listener]]\nnetwork = \"outside\"\naddress = \"tls:{}\"\nserves = [\"endpoints\"]\n\
         [[listener]]\nnetwork = \"inside\"\naddress = \"udp:{}\"\nserves = [\"backends\"]\n\
         [[tls.certificate]]\ncertificate_file = \"{dir}/edge.pem\"\nkey_file = \"{dir}/edge.key\"\n{}{}",
        world.at(OUTSIDE, 5061),
        world.at(INSIDE, 5060),
        tenant("acme", pbxs[0]),
        tenant("kam", pbxs[1]),
    );
    let mut edge = Edge::configured(world, &text);
    edge.start();
    edge.await_backend("pbx", "up");
    edge
}

fn phone(world: &World, ca: &Path, user: &str, domain: &str) -> Phone {
    let (wire, local) = Wire::tls(world.at(OUTSIDE, 5061), ca, "edge.test");
    let mut phone = Phone::over(wire, local, user, domain);
    let answer = phone.register(600);
    assert_eq!(answer.status(), Some(200), "{answer}");
    phone
}

#[test]
fn given_tls_outside_and_udp_inside_when_everything_is_done_then_a_capture_of_each_side_shows_nothing_of_the_other()
 {
    let world = World::new("hiding");
    let authority = Authority::new(&world, "ca");
    authority.sign(&world, "edge", "edge.test", 90);
    let dialplan = "exten => _40X,1,Dial(${PJSIP_DIAL_CONTACTS(${EXTEN})},20)\n\
                    exten => 402,hint,PJSIP/402\nexten => _5XX,1,Answer()\n same => n,Echo()";
    let plan = Plan { users: &["401", "402", "403"], dialplan, ..Plan::default() };
    let asterisk = Asterisk::start(&world, "asterisk", world.at(2, 5060), &plan);
    let kamailio = Kamailio::start(&world, "kamailio", world.at(3, 5060), world.ip(INSIDE));
    let edge = edge(&world, [asterisk.address(), kamailio.address()]);
    let taps = [2, 3, INSIDE].map(|host| Tap::on(world.ip(host)));

    let mut outside = Vec::new();
    for domain in ["kam.test", "acme.test"] {
        let mut phones = ["401", "402", "403"].map(|user| phone(&world, &authority.ca, user, domain));
        calls(&mut phones, domain);
        if domain == "kam.test" {
            past_a_proxy(&mut phones, domain);
        } else {
            at_an_asterisk(&mut phones, domain);
        }
        outside.extend(phones.into_iter().flat_map(|phone| phone.seen));
    }
    edge.await_rows(&["cdr", "--last", "100"], 19);
    let inside: Vec<Message> = taps.iter().flat_map(Tap::heard).collect();
    for (messages, least) in [(&inside, 150), (&outside, 100)] {
        assert!(messages.len() >= least, "all was seen: {}", messages.len());
    }
    let (of_inside, of_outside) = (identifiers(&inside), identifiers(&outside));
    for known in ["Asterisk PBX", &world.ip(2).to_string(), &world.ip(INSIDE).to_string()] {
        assert!(of_inside.iter().any(|word| word.contains(known)), "{known} in {of_inside:#?}");
    }
    assert!(of_outside.contains("story") && of_outside.contains(&world.ip(OUTSIDE).to_string()));
    let leaks: Vec<String> = shown(&of_inside, &outside).chain(shown(&of_outside, &inside)).collect();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

/// What every PBX does: calls that either end holds, resumes and ends.
fn calls([caller, called, _]: &mut [Phone; 3], domain: &str) {
    let target = format!("sip:402@{domain}");
    let (mut ours, mut theirs) = connected(caller, called, &target);
    if domain == "kam.test" {
        hold_and_resume(caller, &mut ours, called);
        hold_and_resume(called, &mut theirs, caller);
    } else {
        // A B2BUA with media of its own answers by itself.
        for (phone, dialog) in [(&mut *caller, &mut ours), (&mut *called, &mut theirs)] {
            for direction in ["sendonly", "sendrecv"] {
                assert_eq!(phone.offer_again(dialog, direction).status(), Some(200));
            }
        }
    }
    hang_up(caller, &mut ours, called);
    let (_, mut theirs) = connected(caller, called, &target);
    hang_up(called, &mut theirs, caller);
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call(&target).0);
        let invite = called.rung();
        called.answer(&invite, 486, "Busy Here");
        called.asked("ACK");
        assert!(calling.join().unwrap().status() >= Some(480));
    });
}

/// One calls the other, with credentials where it is asked for them.
fn connected(caller: &mut Phone, called: &mut Phone, target: &str) -> (Dialog, Dialog) {
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call(target));
        let invite = called.rung();
        called.answer(&invite, 180, "Ringing");
        let theirs = called.accept(&invite);
        let (answer, ours) = calling.join().unwrap();
        assert_eq!(answer.status(), Some(200), "{answer}");
        (ours.unwrap(), theirs)
    })
}

/// A proxy passes on what it is told: both ends of everything are phones.
fn past_a_proxy([first, second, third]: &mut [Phone; 3], domain: &str) {
    // Attended: the first has both others, and tells the second to take its place with the third.
    let (mut ours, mut theirs) = connected(first, second, &format!("sip:402@{domain}"));
    let (mut consulting, _) = connected(first, third, &format!("sip:403@{domain}"));
    let [local, remote] = consulting.tags();
    let replaces = format!("{}%3Bto-tag%3D{remote}%3Bfrom-tag%3D{local}", consulting.call_id);
    let more = format!(
        "Refer-To: <sip:403@{domain}?Replaces={replaces}>\r\nReferred-By: <sip:401@{}>\r\nContact: <{}>\r\n",
        first.local,
        first.contact()
    );
    let refer = passed(first, &mut ours, second, "REFER", &more, "");
    assert!(refer.header("Refer-To").is_some_and(|to| !to.contains(&consulting.call_id)), "{refer}");
    let done = "Event: refer\r\nSubscription-State: terminated;reason=noresource\r\nContent-Type: message/sipfrag\r\n";
    passed(second, &mut theirs, first, "NOTIFY", done, "SIP/2.0 200 OK\r\n");
    hang_up(first, &mut ours, second);
    hang_up(first, &mut consulting, third);

    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let more = "Event: dialog\r\nExpires: 60\r\nReply-To: <sip:401@198.18.9.9>\r\n";
            outside_a_dialog(first, "SUBSCRIBE", "402", domain, more, "")
        });
        let subscribe = second.asked("SUBSCRIBE");
        let more = format!("Contact: <{}>\r\nExpires: 60\r\nServer: story\r\n", second.contact());
        second.answer_with(&subscribe, 200, "OK", &more, "");
        assert_eq!(asking.join().unwrap().status(), Some(200));
        subscribe
    });
    let mut subscription = second.dialog_of(&asked);
    let state = format!(
        "Event: dialog\r\nSubscription-State: active;expires=60\r\nContact: <{}>\r\n\
         Content-Type: application/dialog-info+xml\r\n",
        second.contact()
    );
    let body = format!("<dialog-info entity=\"sip:402@{}\"/>", second.local);
    passed(second, &mut subscription, first, "NOTIFY", &state, &body);
    std::thread::scope(|scope| {
        let more = "Content-Type: text/plain\r\nWarning: 399 here \"of the first\"\r\n";
        let asking = scope.spawn(|| outside_a_dialog(first, "MESSAGE", "402", domain, more, "hello"));
        let message = second.asked("MESSAGE");
        second.answer_with(&message, 200, "OK", "Server: story\r\n", "");
        assert_eq!(asking.join().unwrap().status(), Some(200));
    });
}

/// An Asterisk speaks in its own name, and transfers and notifies by itself.
fn at_an_asterisk([first, second, third]: &mut [Phone; 3], domain: &str) {
    let more = "Event: dialog\r\nAccept: application/dialog-info+xml\r\nExpires: 60\r\n";
    let answer = outside_a_dialog(first, "SUBSCRIBE", "402", domain, more, "");
    assert_eq!(answer.status(), Some(200), "{answer}");
    let (mut ours, _) = connected(first, second, &format!("sip:402@{domain}"));
    for _ in 0..2 {
        let notify = first.asked("NOTIFY");
        first.answer(&notify, 200, "OK");
    }
    // Blind: the Asterisk calls the third itself, and tells how that goes.
    let more = format!("Refer-To: <sip:403@{domain}>\r\nContact: <{}>\r\n", first.contact());
    let (answer, mut dialog) = std::thread::scope(|scope| {
        let referring = scope.spawn(|| first.ask(&mut ours, "REFER", &more, ""));
        let invite = third.rung();
        (referring.join().unwrap(), third.accept(&invite))
    });
    assert_eq!(answer.status(), Some(202), "{answer}");
    let of_refer = |m: &Message| m.method() == "NOTIFY" && m.status().is_none() && m.body.contains(" 200 ");
    let notify = first.await_message("the transfer's end", of_refer);
    first.answer(&notify, 200, "OK");
    assert_eq!(first.hang_up(&mut ours).status(), Some(200));
    hang_up(third, &mut dialog, second);
    let answer = outside_a_dialog(first, "MESSAGE", "500", domain, "Content-Type: text/plain\r\n", "hello");
    assert!(answer.status() >= Some(200), "{answer}");
}

/// A request inside a dialog that reaches the other phone, which is content with it.
fn passed(
    phone: &mut Phone,
    dialog: &mut Dialog,
    other: &mut Phone,
    method: &str,
    more: &str,
    body: &str,
) -> Message {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| phone.ask(dialog, method, more, body));
        let request = other.asked(method);
        other.answer_with(&request, 202, "Accepted", "Server: story\r\n", "");
        assert_eq!(asking.join().unwrap().status(), Some(202));
        request
    })
}

fn outside_a_dialog(
    phone: &mut Phone,
    method: &str,
    to: &str,
    domain: &str,
    more: &str,
    body: &str,
) -> Message {
    let (tag, call_id, contact) = (unique("tag"), unique("call"), phone.contact());
    let (uri, user) = (format!("sip:{to}@{domain}"), phone.account.user.clone());
    phone.transaction(
        &uri,
        method,
        |cseq| {
            format!(
                "From: <sip:{user}@{domain}>;tag={tag}\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
                 Contact: <{contact}>\r\nUser-Agent: story\r\n{more}"
            )
        },
        body,
    )
}

/// Everything in these messages by which a side could be known: names of dialogs and transactions, addresses, software.
fn identifiers(messages: &[Message]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for message in messages {
        found.insert(message.call_id().to_owned());
        found.extend(["From", "To"].iter().filter_map(|name| message.tag(name)).map(str::to_owned));
        for via in message.all("Via") {
            found.extend(parameter(via, "branch").map(str::to_owned));
            found.extend(via.split([' ', ';']).nth(1).map(str::to_owned));
        }
        for name in ["User-Agent", "Server", "Warning", "Organization", "In-Reply-To"] {
            found.extend(message.all(name).map(str::to_owned));
        }
        for name in ["Contact", "Record-Route", "Route"] {
            found.extend(message.all(name).map(|value| user_of(address(value))).map(str::to_owned));
        }
        let text = as_compared(message);
        let is_address =
            |word: &&str| word.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| !ip.is_unspecified());
        let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        found.extend(words.map(|word| word.trim_matches('.')).filter(is_address).map(str::to_owned));
        let origins = text.lines().filter_map(|line| line.strip_prefix("o="));
        found.extend(origins.flat_map(|origin| origin.split(' ').take(3)).map(str::to_owned));
    }
    found.retain(|word| word.len() >= WORD_MIN && !word.ends_with(".test"));
    found
}

fn user_of(uri: &str) -> &str {
    uri.split_once('@').map_or("", |(user, _)| user.trim_start_matches("sips:").trim_start_matches("sip:"))
}

/// A message without where media goes, which is directly between the ends, and without challenges and credentials, which
/// nobody between them can write.
fn as_compared(message: &Message) -> String {
    let starts = [
        "c=",
        "m=",
        "a=rtcp:",
        "a=candidate:",
        "WWW-Authenticate:",
        "Proxy-Authenticate:",
        "Authorization:",
        "Proxy-Authorization:",
    ];
    let is_theirs = |line: &&str| starts.iter().any(|start| line.starts_with(start));
    message.to_string().lines().filter(|line| !is_theirs(line)).map(|line| format!("{line}\n")).collect()
}

/// Identifiers of one side in messages of the other.
fn shown<'s>(of_one: &'s BTreeSet<String>, other: &'s [Message]) -> impl Iterator<Item = String> + 's {
    other.iter().flat_map(move |message| {
        let text = as_compared(message);
        let shown: Vec<&str> =
            of_one.iter().map(String::as_str).filter(|word| text.contains(*word)).collect();
        (!shown.is_empty()).then(|| format!("{shown:?} in\n{text}"))
    })
}
