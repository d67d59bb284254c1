//! An INVITE inside a call that is open when the process dies, from either side: both sides hear how it came out, and both
//! go on (RFC 3261 §14).

use crate::call_support::{
    Dialog, Established, PBX, PHONE, established, respond, sdp, the_cdr, with_body, with_phone,
};
use crate::support::{Phone, Sent, World, addr, inside, response};
use signalbox_base::Flow;
use signalbox_sip::HeaderName;
use std::net::SocketAddr;
use std::time::Duration;

/// A call of which one end changes its mind.
struct Story {
    world: World,
    phone: Phone,
    call: Established,
    by_phone: bool,
}

impl Story {
    fn begin(by_phone: bool, id: &str) -> Self {
        let (mut world, phone) = with_phone();
        let call = established(&mut world, &phone, id);
        // So long that nobody repeats anything of the beginning.
        world.advance(Duration::from_secs(100));
        world.take();
        Self { world, phone, call, by_phone }
    }

    fn sender(&mut self) -> &mut Dialog {
        if self.by_phone { &mut self.call.phone } else { &mut self.call.pbx }
    }

    fn to_sender(&self) -> SocketAddr {
        addr(if self.by_phone { PHONE } else { PBX })
    }

    fn to_receiver(&self) -> SocketAddr {
        addr(if self.by_phone { PBX } else { PHONE })
    }

    fn receiver_flow(&self) -> Flow {
        if self.by_phone { inside(PBX) } else { self.phone.flow }
    }

    /// One end puts the other on hold; gives the INVITE as it was sent.
    fn hold(&mut self) -> String {
        let (contact, ip) = if self.by_phone { (PHONE, "192.0.2.10") } else { (PBX, "10.0.1.1") };
        let contact = format!("Contact: <sip:moved@{contact}>\r\n");
        let offer = with_body(&contact, &sdp(ip, "sendonly", "PCMA"));
        let invite = self.sender().request("INVITE", &offer);
        self.sender_says(&invite);
        invite
    }

    fn sender_says(&mut self, bytes: &str) {
        let flow = self.sender().flow;
        self.world.deliver(flow, bytes);
    }

    fn receiver_says(&mut self, bytes: &str) {
        let flow = self.receiver_flow();
        self.world.deliver(flow, bytes);
    }

    fn die(&mut self, after: Duration) {
        let before = std::mem::replace(&mut self.world, World::new(crate::support::acme()));
        self.world = before.crash_and_restart(after);
    }

    /// What was sent to one end, pings aside.
    fn at(&mut self, who: SocketAddr) -> Vec<Sent> {
        let ping = |sent: &Sent| sent.text().starts_with("OPTIONS");
        self.world.take_to(who).into_iter().filter(|sent| !ping(sent)).collect()
    }

    fn at_sender(&mut self) -> Vec<Sent> {
        self.at(self.to_sender())
    }

    fn at_receiver(&mut self) -> Vec<Sent> {
        self.at(self.to_receiver())
    }

    /// The receiver's 200.
    fn accept(&self, invite: &Sent) -> String {
        let contact = if self.by_phone { "<sip:402@10.0.1.1:5060>" } else { "<sip:me@198.51.100.7:5062>" };
        respond(invite, 200, contact, &sdp("10.0.1.1", "recvonly", "PCMA"))
    }

    /// The 200 reaches the sender, in its own transaction; its ACK reaches the receiver, with the receiver's CSeq.
    fn finish(&mut self, invite: &str, at_receiver: &Sent, ok: &Sent) {
        assert_eq!(ok.status(), Some(200));
        assert_eq!(branch(&ok.text()), branch(invite), "the sender's own transaction");
        assert!(ok.text().contains("a=recvonly"), "with its body");
        let cseq = self.sender().cseq;
        assert_eq!(ok.message().cseq().number, cseq);
        let ack = self.sender().ack(cseq, "");
        self.sender_says(&ack);
        let ack = self.at_receiver();
        assert_eq!(words(&ack), ["ACK"]);
        assert_eq!(ack[0].message().cseq().number, at_receiver.message().cseq().number);
    }

    /// Each end asks for something, holds the other again and is answered; then one hangs up. Nothing is left.
    fn goes_on_to_its_end(mut self) {
        let own = self.by_phone;
        for by_phone in [own, !own] {
            self.by_phone = by_phone;
            let info = self.sender().request("INFO", "");
            self.sender_says(&info);
            let at_receiver = self.at_receiver();
            assert_eq!(words(&at_receiver), ["INFO"]);
            self.receiver_says(&response(&at_receiver[0], 200, ""));
            assert_eq!(words(&self.at_sender()), ["200"]);
            let invite = self.hold();
            assert_eq!(words(&self.at_sender()), ["100"]);
            let at_receiver = self.at_receiver().remove(0);
            self.receiver_says(&self.accept(&at_receiver));
            let ok = self.at_sender().remove(0);
            self.finish(&invite, &at_receiver, &ok);
        }
        let bye = self.sender().request("BYE", "");
        self.sender_says(&bye);
        assert_eq!(words(&self.at_sender()), ["200"]);
        let bye = self.at_receiver();
        assert_eq!(words(&bye), ["BYE"]);
        self.receiver_says(&response(&bye[0], 200, ""));
        the_cdr(&self.world);
        assert_eq!((self.world.engine.calls_active(), self.world.engine.calls_unanswered()), (0, 0));
        self.world.advance(Duration::from_secs(400));
        self.world.take();
        assert_eq!(self.world.engine.calls_unanswered(), 0);
        self.world.assert_replay_equals_live();
    }
}

fn words(sent: &[Sent]) -> Vec<String> {
    let word = |sent: &Sent| match sent.status() {
        Some(status) => status.to_string(),
        None => sent.text().split(' ').next().expect("a method").to_owned(),
    };
    sent.iter().map(word).collect()
}

fn branch(text: &str) -> String {
    let via = text.lines().find(|line| line.starts_with("Via:")).expect("a Via");
    via.split("branch=").nth(1).expect("a branch").split(';').next().expect("its end").to_owned()
}

#[test]
fn given_an_open_reinvite_when_the_process_dies_and_it_is_accepted_then_its_sender_hears_and_acknowledges() {
    for by_phone in [true, false] {
        let mut story = Story::begin(by_phone, "ri1");
        let invite = story.hold();
        assert_eq!(words(&story.at_sender()), ["100"]);
        let at_receiver = story.at_receiver().remove(0);
        story.die(Duration::from_secs(2));
        let cancel = story.at_receiver();
        assert_eq!(words(&cancel), ["CANCEL"], "nobody else would hear of it if it is still open");
        assert_eq!(branch(&cancel[0].text()), branch(&at_receiver.text()));
        assert_eq!(words(&story.at_sender()), Vec::<String>::new());
        let before = story.world.journal.len();
        // It had answered before the CANCEL came: that has no effect (RFC 3261 §9.2).
        story.receiver_says(&response(&cancel[0], 481, ""));
        let ok = story.accept(&at_receiver);
        story.receiver_says(&ok);
        assert_eq!(story.world.kinds(before), ["call.modified"]);
        let heard = story.at_sender().remove(0);
        story.finish(&invite, &at_receiver, &heard);
        story.receiver_says(&ok);
        assert_eq!(words(&story.at_receiver()), ["ACK"], "the 200 again, the ACK again");
        story.world.advance(Duration::from_secs(5));
        assert_eq!(words(&story.at_sender()), Vec::<String>::new());
        story.goes_on_to_its_end();
    }
}

#[test]
fn given_a_reinvite_that_never_arrived_when_the_process_dies_then_its_sender_may_try_again() {
    for by_phone in [true, false] {
        let mut story = Story::begin(by_phone, "ri2");
        let invite = story.hold();
        story.world.take();
        story.die(Duration::from_secs(2));
        let cancel = story.at_receiver().remove(0);
        story.receiver_says(&response(&cancel, 481, ""));
        story.sender_says(&invite);
        story.world.advance(Duration::from_secs(4));
        assert_eq!(words(&story.at_sender()), Vec::<String>::new(), "a repeated 200 could still come");
        story.world.advance(Duration::from_secs(1));
        let refused = story.at_sender();
        assert_eq!(words(&refused), ["491"], "not 408 or 481, which would end its dialog");
        assert_eq!(branch(&refused[0].text()), branch(&invite));
        story.sender_says(&ack_of(&invite));
        story.world.advance(Duration::from_secs(3));
        assert_eq!(words(&story.at_sender()), Vec::<String>::new());
        story.goes_on_to_its_end();
    }
}

/// The ACK of a refused INVITE: hop by hop.
fn ack_of(invite: &str) -> String {
    let head = invite.split("\r\n\r\n").next().expect("a head").replace("INVITE", "ACK");
    let lines =
        head.split("\r\n").filter(|line| !line.starts_with("Content-") && !line.starts_with("Contact"));
    lines.collect::<Vec<_>>().join("\r\n") + "\r\nContent-Length: 0\r\n\r\n"
}

#[test]
fn given_a_reinvite_that_its_receiver_ponders_when_the_process_dies_then_it_is_cancelled_and_may_be_tried_again()
 {
    for by_phone in [true, false] {
        let mut story = Story::begin(by_phone, "ri3");
        let invite = story.hold();
        let at_receiver = story.at_receiver().remove(0);
        story.receiver_says(&response(&at_receiver, 100, ""));
        story.world.take();
        story.die(Duration::from_secs(2));
        let cancel = story.at_receiver().remove(0);
        story.receiver_says(&response(&cancel, 200, ""));
        story.receiver_says(&response(&at_receiver, 487, ""));
        assert_eq!(words(&story.at_receiver()), ["ACK"]);
        assert_eq!(words(&story.at_sender()), ["491"]);
        story.sender_says(&ack_of(&invite));
        story.goes_on_to_its_end();
    }
}

#[test]
fn given_a_reinvite_that_its_sender_cancels_after_a_restart_then_it_gets_its_487() {
    let mut story = Story::begin(true, "ri4");
    let invite = story.hold();
    let at_receiver = story.at_receiver().remove(0);
    story.die(Duration::from_secs(2));
    story.at_receiver();
    story.at_sender();
    story.sender_says(&ack_of(&invite).replace("ACK", "CANCEL"));
    assert_eq!(words(&story.at_sender()), ["200"]);
    story.receiver_says(&response(&at_receiver, 487, ""));
    assert_eq!(words(&story.at_sender()), ["487"]);
    story.sender_says(&ack_of(&invite));
    story.at_receiver();
    story.goes_on_to_its_end();
}

#[test]
fn given_an_accepted_reinvite_when_the_process_dies_before_or_behind_its_200_then_the_repeated_200_ends_it() {
    for (by_phone, heard) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut story = Story::begin(by_phone, "ri5");
        let invite = story.hold();
        let at_receiver = story.at_receiver().remove(0);
        let ok = story.accept(&at_receiver);
        story.receiver_says(&ok);
        let sent = story.at_sender().pop().expect("its 200");
        // Lost with the process, or its ACK was.
        assert!(!heard || sent.status() == Some(200));
        story.die(Duration::from_secs(2));
        assert_eq!(
            words(&story.at_receiver()),
            Vec::<String>::new(),
            "it was accepted: there is nothing to cancel"
        );
        story.receiver_says(&ok);
        let again = story.at_sender().remove(0);
        story.finish(&invite, &at_receiver, &again);
        assert_eq!(story.world.records("call.modified").len(), 1, "told once");
        story.goes_on_to_its_end();
    }
}

#[test]
fn given_a_reinvite_that_is_not_on_disk_when_the_process_dies_then_nobody_has_heard_of_it() {
    for by_phone in [true, false] {
        let mut story = Story::begin(by_phone, "ri6");
        story.world.auto_commit = false;
        let invite = story.hold();
        assert_eq!(story.world.take().len(), 0, "no 100 either: its sender goes on repeating it");
        story.die(Duration::from_secs(2));
        assert_eq!(words(&story.at_receiver()), Vec::<String>::new());
        story.sender_says(&invite);
        assert_eq!(words(&story.at_sender()), ["100"]);
        let at_receiver = story.at_receiver().remove(0);
        story.receiver_says(&story.accept(&at_receiver));
        let ok = story.at_sender().remove(0);
        story.finish(&invite, &at_receiver, &ok);
        story.goes_on_to_its_end();
    }
}

#[test]
fn given_an_open_reinvite_in_a_call_that_ended_when_the_process_dies_then_both_ends_hear_of_the_end() {
    for by_phone in [true, false] {
        let mut story = Story::begin(by_phone, "ri7");
        let invite = story.hold();
        let at_receiver = story.at_receiver().remove(0);
        story.by_phone = !by_phone;
        let bye = story.sender().request("BYE", "");
        story.sender_says(&bye);
        story.world.take();
        story.by_phone = by_phone;
        story.die(Duration::from_secs(2));
        let cancel = story.at_receiver();
        assert_eq!(words(&cancel), ["CANCEL"]);
        let mut heard = words(&story.at_sender());
        heard.sort();
        assert_eq!(heard, ["487", "BYE"]);
        story.sender_says(&ack_of(&invite));
        story.receiver_says(&response(&cancel[0], 481, ""));
        story.receiver_says(&story.accept(&at_receiver));
        assert_eq!(words(&story.at_receiver()), ["ACK"], "its 200 is heard, and for nobody");
        story.world.advance(Duration::from_secs(400));
        story.world.take();
        assert_eq!((story.world.engine.calls_active(), story.world.engine.counters().transactions), (0, 0));
        the_cdr(&story.world);
    }
}

#[test]
fn given_a_reinvite_of_long_ago_when_the_process_dies_then_nobody_is_bothered() {
    let mut story = Story::begin(true, "ri8");
    let invite = story.hold();
    let at_receiver = story.at_receiver().remove(0);
    story.receiver_says(&response(&at_receiver, 488, ""));
    story.sender_says(&ack_of(&invite));
    story.world.take();
    story.world.advance(Duration::from_secs(301));
    story.world.take();
    story.die(Duration::from_secs(2));
    assert_eq!(words(&story.at_receiver()), Vec::<String>::new());
    story.goes_on_to_its_end();
}

#[test]
fn given_a_200_of_a_reinvite_that_nobody_knows_then_its_sender_gets_an_ack_and_stops() {
    for by_phone in [true, false] {
        let mut story = Story::begin(by_phone, "ri9");
        story.hold();
        let at_receiver = story.at_receiver().remove(0);
        let ok = story.accept(&at_receiver);
        story.receiver_says(&response(&at_receiver, 500, ""));
        story.world.take();
        story.world.advance(Duration::from_secs(100));
        story.world.take();
        story.receiver_says(&ok);
        let ack = story.at_receiver();
        assert_eq!(words(&ack), ["ACK"], "by_phone {by_phone}");
        assert_eq!(ack[0].message().cseq().number, at_receiver.message().cseq().number);
        assert_eq!(ack[0].header(HeaderName::To), at_receiver.header(HeaderName::To));
        assert_eq!(words(&story.at_sender()), Vec::<String>::new());
    }
}
