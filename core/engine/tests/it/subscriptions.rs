//! Subscriptions as the messages that pass tell of them: busy lamps (RFC 4235) and waiting messages (RFC 3842).

use crate::support::*;
use serde_json::Value;
use signalbox_base::Flow;
use signalbox_sip::HeaderName;
use std::time::Duration;

const PBX: &str = "10.0.1.1:5060";

/// A registered phone and its subscription at the PBX.
struct Watching {
    world: World,
    phone: Phone,
    package: &'static str,
    /// Where each side's messages inside the dialog go.
    towards: [String; 2],
    number: u32,
}

impl Watching {
    fn new(package: &'static str) -> Self {
        let mut world = World::new(acme());
        let mut phone = Phone::new("401", "acme.test", "192.0.2.7:40000");
        register(&mut world, &mut phone, PBX, 3600);
        Self { world, phone, package, towards: [String::new(), String::new()], number: 0 }
    }

    fn subscribing(&self, uri: &str, expires: u32) -> String {
        let id = format!("s{}", self.number);
        let lines = format!("Event: {}\r\nExpires: {expires}\r\nContent-Length", self.package);
        request("SUBSCRIBE", uri, "sip:401@acme.test", self.phone.flow.remote, &id)
            .replace("Content-Length", &lines)
            .replace(&format!("tag=f{id}"), "tag=phone")
            .replace(&format!("Call-ID: {id}"), "Call-ID: lamp")
    }

    fn inside(&self, text: &str, to: &str, tag: &str) -> String {
        let start = text.find("To: <").expect("a To");
        let end = start + text[start..].find('\r').expect("a line");
        format!("{}To: <{to}>;tag={tag}{}", &text[..start], &text[end..])
    }

    /// The first SUBSCRIBE, answered.
    fn subscribe(&mut self, expires: u32, status: u16) {
        self.number += 1;
        let text = self.subscribing("sip:402@acme.test", expires);
        self.world.deliver(self.phone.flow, text);
        let at_pbx = self.world.one_to(addr(PBX));
        self.towards[0] = bare(&at_pbx);
        let lines = format!("Contact: <sip:402@10.0.1.1:5060>\r\nExpires: {expires}\r\n");
        self.world.deliver(inside(PBX), response(&at_pbx, status, &lines));
        let answer = self.world.one_to(self.phone.flow.remote);
        assert_eq!(answer.status(), Some(status));
        if status < 300 {
            self.towards[1] = bare(&answer);
        }
    }

    /// A SUBSCRIBE inside the dialog, answered.
    fn refresh(&mut self, expires: u32, status: u16) {
        self.number += 1;
        let text = self.subscribing(&self.towards[1], expires);
        let text = self.inside(&text, "sip:402@acme.test", "pbx");
        let lines = format!("Expires: {expires}\r\n");
        self.pass(self.phone.flow, text, addr(PBX), inside(PBX), status, &lines);
    }

    /// A NOTIFY, answered by the phone.
    fn notify(&mut self, state: &str, status: u16) {
        self.number += 1;
        let id = format!("n{}", self.number);
        let lines = format!("Event: {}\r\nSubscription-State: {state}\r\nContent-Length", self.package);
        let text = request("NOTIFY", &self.towards[0], "sip:402@acme.test", addr(PBX), &id)
            .replace("Content-Length", &lines)
            .replace(&format!("Call-ID: {id}"), "Call-ID: lamp");
        let text = self.inside(&text, "sip:401@acme.test", "phone");
        self.pass(inside(PBX), text, self.phone.flow.remote, self.phone.flow, status, "");
    }

    fn pass(
        &mut self,
        from: Flow,
        text: String,
        to: std::net::SocketAddr,
        answers: Flow,
        status: u16,
        lines: &str,
    ) {
        self.world.deliver(from, text);
        let passed = self.world.one_to(to);
        self.world.deliver(answers, response(&passed, status, lines));
        assert_eq!(self.world.one_to(from.remote).status(), Some(status));
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        self.world.records(kind).iter().map(|record| record.json()).collect()
    }

    fn kinds(&self) -> Vec<&str> {
        ["started", "refreshed", "ended", "rejected"]
            .into_iter()
            .flat_map(|name| std::iter::repeat_n(name, self.events(&format!("subscription.{name}")).len()))
            .collect()
    }
}

fn bare(sent: &Sent) -> String {
    sent.header(HeaderName::Contact).expect("a Contact").trim_matches(['<', '>']).to_owned()
}

#[test]
fn given_a_busy_lamp_then_its_start_refreshes_and_end_are_told_of_one_subscription() {
    let mut it = Watching::new("dialog");
    it.subscribe(600, 200);
    let started = it.events("subscription.started").remove(0);
    assert_eq!(
        [&started["package"], &started["aor"], &started["backend"], &started["call_id"]],
        ["dialog", "401@acme.test", "pbx-1", "lamp"]
    );
    assert_eq!([&started["subscriber"], &started["notifier"]], ["sip:401@acme.test", "sip:402@acme.test"]);
    assert!(started["expires_at"].is_string(), "{started}");
    it.notify("active;expires=600", 200);
    it.refresh(600, 200);
    it.notify("terminated;reason=noresource", 200);
    assert_eq!(it.kinds(), ["started", "refreshed", "ended"]);
    let ended = it.events("subscription.ended").remove(0);
    assert_eq!((&ended["reason"], ended.get("status")), (&Value::from("noresource"), None));
    let ids: Vec<Value> = ["started", "refreshed", "ended"]
        .map(|name| it.events(&format!("subscription.{name}"))[0]["subscription"].clone())
        .into();
    assert!(ids.iter().all(|id| *id == ids[0] && id.as_str().is_some_and(|id| id.starts_with("s_"))));
    assert_eq!(it.world.records("subscription.ended")[0].subject, ids[0].as_str().unwrap());
    it.world.assert_replay_equals_live();
}

#[test]
fn given_waiting_messages_when_the_phone_unsubscribes_then_it_ends_once_and_may_begin_again() {
    let mut it = Watching::new("message-summary");
    it.subscribe(600, 202);
    it.refresh(0, 200);
    it.notify("terminated;reason=timeout", 200);
    assert_eq!(it.kinds(), ["started", "ended"]);
    assert_eq!(it.events("subscription.ended")[0]["reason"], "client");
    it.subscribe(600, 200);
    it.notify("terminated;reason=deactivated", 200);
    assert_eq!(it.kinds(), ["started", "started", "ended", "ended"]);
    assert_eq!(it.events("subscription.ended")[1]["reason"], "deactivated");
}

#[test]
fn given_a_side_that_knows_nothing_of_it_then_the_subscription_is_gone_with_the_status() {
    let mut it = Watching::new("dialog");
    it.subscribe(600, 200);
    it.refresh(600, 500);
    assert_eq!(it.kinds(), ["started"], "it may be tried again");
    it.refresh(600, 481);
    let ended = it.events("subscription.ended").remove(0);
    assert_eq!((&ended["reason"], &ended["status"]), (&Value::from("gone"), &Value::from(481)));
    let mut other = Watching::new("dialog");
    other.subscribe(600, 200);
    other.notify("active", 481);
    assert_eq!(other.events("subscription.ended")[0]["status"], 481);
}

#[test]
fn given_a_refusal_a_challenge_or_a_look_then_only_the_refusal_is_told() {
    let mut it = Watching::new("dialog");
    it.subscribe(600, 401);
    it.subscribe(0, 200);
    assert!(it.kinds().is_empty(), "{:?}", it.kinds());
    it.subscribe(600, 489);
    let rejected = it.events("subscription.rejected").remove(0);
    assert_eq!([&rejected["status"], &rejected["by"]], [&Value::from(489), &Value::from("backend")]);
    assert_eq!(it.kinds(), ["rejected"]);
    // Nobody answers at all.
    let text = it.subscribing("sip:402@acme.test", 600).replace("Call-ID: lamp", "Call-ID: silence");
    it.world.deliver(it.phone.flow, text.replace("z9hG4bKs3", "z9hG4bKsilence"));
    it.world.advance(Duration::from_secs(40));
    assert_eq!(it.events("subscription.rejected")[1]["by"], "edge");
}

#[test]
fn given_waiting_messages_told_without_a_subscription_then_nothing_ends() {
    let mut it = Watching::new("message-summary");
    let text = request("NOTIFY", "sip:401@acme.test", "sip:402@acme.test", addr(PBX), "mwi").replace(
        "Content-Length",
        "Event: message-summary\r\nSubscription-State: terminated\r\nContent-Length",
    );
    it.pass(inside(PBX), text, it.phone.flow.remote, it.phone.flow, 200, "");
    assert!(it.kinds().is_empty(), "{:?}", it.kinds());
}
