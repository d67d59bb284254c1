//! Hostile bytes through the whole engine: never a panic, and what leaves is always a message.

use crate::support::*;
use proptest::prelude::*;
use signalbox_sip::{Limits, Message, is_keepalive};
use std::time::Duration;

fn corpus() -> Vec<(signalbox_base::Flow, String)> {
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    let pbx = addr("10.0.1.1:5060");
    vec![
        (phone.flow, phone.register(3600)),
        (phone.flow, phone.register_with("Contact: *\r\nExpires: 0\r\n")),
        (phone.flow, request("INVITE", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "i")),
        (phone.flow, request("SUBSCRIBE", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "s")),
        (phone.flow, request("CANCEL", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "i")),
        (phone.flow, request("ACK", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "i")),
        (inside("10.0.1.1:5060"), request("INVITE", "sip:401@10.0.0.5", "sip:9@acme.test", pbx, "j")),
        (inside("10.0.1.1:5060"), request("NOTIFY", "sip:401@acme.test", "sip:9@acme.test", pbx, "n")),
        (inside("10.0.1.1:5060"), request("OPTIONS", "sip:10.0.0.5", "sip:9@acme.test", pbx, "o")),
        (inside("10.0.1.1:5060"), request("BYE", "sip:c00000000000@10.0.0.5", "sip:9@acme.test", pbx, "b")),
    ]
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    Cut(usize, usize),
    Copy(usize, usize, usize),
    Insert(usize, Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, b)| Mutation::Flip(at, b)),
        (any::<usize>(), 0..80usize).prop_map(|(at, n)| Mutation::Cut(at, n)),
        (any::<usize>(), any::<usize>(), 0..200usize).prop_map(|(a, b, n)| Mutation::Copy(a, b, n)),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(at, b)| Mutation::Insert(at, b)),
        (
            any::<usize>(),
            prop::sample::select(vec![
                "\r\nContact: *",
                "<",
                ">",
                "\"",
                ";expires=99999999999",
                "\r\nExpires: 0",
                "\r\nVia: x",
                ",",
                "%00",
                "\r\n\r\n",
                "\r\nRoute: <sip:d_@x>",
                "sip:",
                "@",
                "\r\nContent-Length: 70000",
                "\r\nRequire: x",
                "\r\nSupported: path",
            ])
        )
            .prop_map(|(at, s)| Mutation::Insert(at, s.as_bytes().to_vec())),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match mutation {
        Mutation::Flip(at, byte) => bytes[at % len] = *byte,
        Mutation::Cut(at, n) => {
            let at = at % len;
            bytes.drain(at..(at + n).min(len));
        }
        Mutation::Copy(from, to, n) => {
            let from = from % len;
            let part = bytes[from..(from + n).min(len)].to_vec();
            let to = to % len;
            bytes.splice(to..to, part);
        }
        Mutation::Insert(at, part) => {
            let at = at % (len + 1);
            bytes.splice(at..at, part.iter().copied());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn mutated_messages_never_panic_and_what_is_sent_reads(
        steps in prop::collection::vec((0..10usize, prop::collection::vec(mutation(), 0..4), any::<bool>()), 1..12)
    ) {
        let mut world = World::new(acme());
        let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
        phone.call_id = "steady".to_owned();
        register(&mut world, &mut phone, "10.0.1.1:5060", 60);
        let corpus = corpus();
        for (which, mutations, answer) in steps {
            let (flow, text) = &corpus[which];
            let mut bytes = text.clone().into_bytes();
            mutations.iter().for_each(|m| mutate(&mut bytes, m));
            world.deliver(*flow, &bytes);
            for sent in world.take() {
                if is_keepalive(&sent.bytes) {
                    continue;
                }
                let read = Message::parse(sent.bytes.as_slice(), &Limits::DATAGRAM);
                // A reply to a broken request echoes its Vias and CSeq as they came.
                let echoes = matches!(sent.status(), Some(400 | 414 | 505 | 513));
                prop_assert!(read.is_ok() || echoes, "{:?}: {}", read.err(), sent.text());
                if answer && read.is_ok_and(|m| m.is_request()) {
                    let back = signalbox_base::Flow { ..sent.flow };
                    let mut reply = response(&sent, 200, "Contact: <sip:x@10.0.1.1>\r\n").into_bytes();
                    mutations.iter().take(1).for_each(|m| mutate(&mut reply, m));
                    world.deliver(back, &reply);
                }
            }
            world.advance(Duration::from_millis(700));
        }
        world.assert_replay_equals_live();
    }
}
