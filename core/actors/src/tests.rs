//! Phones and a PBX in one room, without an edge between them and without loss unless asked for.

use crate::{
    Answer, CallPlan, Datagram, EndedBy, Observed, Pbx, PbxProfile, Phone, PhoneProfile, Random, Verdict,
};
use signalbox_base::{Mono, Now, Wall};
use signalbox_sip::Method;
use signalbox_sip::digest::Algorithm;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(5);

struct Room {
    now: Now,
    phones: Vec<Phone>,
    pbx: Pbx,
    wire: BTreeMap<(Mono, u64), Datagram>,
    sent: u64,
    /// Datagrams lost of 1,000.
    loss: u64,
    random: Random,
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::new([192, 0, 2, last].into(), 5060)
}

impl Room {
    fn new(users: &[&str], change: impl Fn(&mut PbxProfile)) -> Self {
        let mut profile = PbxProfile::new(address(1), "acme.test", address(1).ip());
        let mut phones = Vec::new();
        for (user, last) in users.iter().zip(10..) {
            profile.trusts.push(address(last).ip());
            phones.push(Phone::new(
                PhoneProfile::new(address(last), address(1), user, "acme.test", &format!("pw-{user}")),
                u64::from(last),
            ));
            if !profile.users.iter().any(|u| u.user == *user) {
                profile = profile.user(user, &format!("pw-{user}"));
            }
        }
        change(&mut profile);
        let now = Now { mono: Mono(0), wall: Wall::from_secs(1_800_000_000) };
        let pbx = Pbx::new(profile, now.mono, 1);
        Self { now, phones, pbx, wire: BTreeMap::new(), sent: 0, loss: 0, random: Random::new(5) }
    }

    fn post(&mut self, out: Vec<Datagram>) {
        for datagram in out {
            self.sent += 1;
            if !self.random.chance(self.loss) {
                self.wire.insert((self.now.mono.plus(DELAY), self.sent), datagram);
            }
        }
    }

    fn with(&mut self, phone: usize, act: impl FnOnce(&mut Phone, Mono, &mut Vec<Datagram>)) {
        let mut out = Vec::new();
        act(&mut self.phones[phone], self.now.mono, &mut out);
        self.post(out);
    }

    fn register_all(&mut self) {
        for phone in 0..self.phones.len() {
            self.with(phone, |p, now, out| p.register(now, out));
        }
        self.run(SECOND);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.mono.plus(time);
        while let Some(at) = self.next_due().filter(|at| *at <= end) {
            let step = at.since(self.now.mono);
            self.now = self.now.plus(step);
            self.step();
        }
        self.now = self.now.plus(end.since(self.now.mono));
    }

    fn next_due(&self) -> Option<Mono> {
        let phones = self.phones.iter().filter_map(Phone::next_due);
        phones.chain(self.pbx.next_due()).chain(self.wire.keys().next().map(|(at, _)| *at)).min()
    }

    fn step(&mut self) {
        let (now, mut out) = (self.now, Vec::new());
        while let Some(first) = self.wire.first_entry().filter(|e| e.key().0 <= now.mono) {
            let datagram = first.remove();
            match self.phones.iter_mut().find(|p| p.profile().local == datagram.to) {
                Some(phone) => phone.handle(now.mono, &datagram.bytes, datagram.from, &mut out),
                None if datagram.to == address(1) => {
                    self.pbx.handle(now, &datagram.bytes, datagram.from, &mut out);
                }
                None => {}
            }
        }
        self.phones.iter_mut().for_each(|p| p.due(now.mono, &mut out));
        self.pbx.due(now, &mut out);
        self.post(out);
    }

    fn saw(&self, phone: usize, what: &Observed) -> bool {
        self.phones[phone].seen().iter().any(|seen| seen.what == *what)
    }

    fn assert_clean(&self) {
        for phone in &self.phones {
            assert!(phone.violations().is_empty(), "{}: {:?}", phone.aor(), phone.violations());
            assert_eq!(phone.legs_alive(), 0, "{}", phone.aor());
        }
        assert!(self.pbx.violations().is_empty(), "{:?}", self.pbx.violations());
        assert_eq!(self.pbx.legs_alive(), 0);
    }
}

#[test]
fn a_phone_registers_with_either_hash_refreshes_and_leaves() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let mut room = Room::new(&["401"], |pbx| (pbx.algorithm, pbx.expires_max_secs) = (algorithm, 60));
        room.register_all();
        assert!(room.saw(0, &Observed::Registered { expires_secs: 60, contacts: 1 }), "{algorithm:?}");
        room.run(SECOND * 200);
        let grants = |o: &Observed| matches!(o, Observed::Registered { .. });
        assert_eq!(room.phones[0].seen().iter().filter(|s| grants(&s.what)).count(), 5, "every 48 s");
        room.with(0, |p, now, out| p.unregister(now, out));
        room.run(SECOND);
        assert!(room.saw(0, &Observed::Unregistered));
        assert!(room.pbx.contacts("401@acme.test", room.now.mono).is_empty());
        room.assert_clean();
    }
}

#[test]
fn wrong_passwords_and_forbidden_users_are_told_so() {
    let forbid = |pbx: &mut PbxProfile| pbx.users[1].verdict = Verdict::Forbid;
    let mut room = Room::new(&["401", "402"], |pbx| {
        pbx.users[0].password = "other".to_owned();
        forbid(pbx);
    });
    room.register_all();
    assert!(room.saw(0, &Observed::RegisterRefused { status: 401 }));
    assert!(room.saw(1, &Observed::RegisterRefused { status: 403 }));
    assert_eq!(room.phones[0].registered_until(), None);
}

#[test]
fn a_call_is_answered_held_resumed_informed_and_hung_up() {
    let mut room = Room::new(&["401", "402"], |_| {});
    room.register_all();
    let plan = CallPlan {
        talk: Some(SECOND * 20),
        hold: Some((SECOND * 2, SECOND * 5)),
        info_after: Some(SECOND * 10),
        ..CallPlan::to("402")
    };
    room.with(0, |p, now, out| assert!(p.call(now, plan, out).is_some()));
    room.run(SECOND * 60);
    let call = room.phones[0].calls().next().unwrap().clone();
    assert_eq!(call.ended.map(|(_, by)| by), Some(EndedBy::Me));
    assert_eq!(call.answered.unwrap().since(call.ringing.unwrap()), SECOND);
    let leg = call.leg;
    for status in [200, 200] {
        assert!(room.saw(0, &Observed::InDialogAnswered { leg, method: Method::Invite, status }));
    }
    let callee = room.phones[1].calls().next().unwrap().clone();
    assert_eq!(callee.ended.map(|(_, by)| by), Some(EndedBy::Peer));
    let info = |o: &Observed| matches!(o, Observed::InDialog { method: Method::Info, body, .. } if **body == *b"Signal=5\r\n");
    assert!(room.phones[1].seen().iter().any(|s| info(&s.what)), "the PBX passes INFO on");
    room.assert_clean();
}

#[test]
fn a_call_is_cancelled_refused_or_finds_nobody() {
    let mut room = Room::new(&["401", "402"], |_| {});
    room.register_all();
    for (target, answer, status) in [
        ("402", Answer::Ring, 487),
        ("402", Answer::Status(486), 486),
        ("601", Answer::Ring, 486),
        ("602", Answer::Ring, 487),
        ("603", Answer::Ring, 603),
        ("999", Answer::Ring, 404),
    ] {
        room.phones[1].set_answer(answer);
        let plan = CallPlan { give_up_after: Some(SECOND * 5), ..CallPlan::to(target) };
        room.with(0, |p, now, out| assert!(p.call(now, plan, out).is_some()));
        room.run(SECOND * 45);
        let last = room.phones[0].calls().last().unwrap();
        assert_eq!(last.failed.map(|(_, status)| status), Some(status), "{target} {answer:?}");
    }
    room.assert_clean();
}

#[test]
fn two_contacts_are_dialled_once_each_and_the_first_to_lift_wins() {
    let mut room = Room::new(&["401", "402", "402"], |_| {});
    room.register_all();
    room.phones[2].set_answer(Answer::After { ring: SECOND * 3, talk: None });
    room.with(0, |p, now, out| assert!(p.call(now, CallPlan::talking("402", SECOND), out).is_some()));
    room.run(SECOND * 60);
    let invited = |o: &Observed| matches!(o, Observed::Invited { .. });
    for phone in [1, 2] {
        assert_eq!(room.phones[phone].seen().iter().filter(|s| invited(&s.what)).count(), 1);
    }
    assert!(room.phones[1].calls().next().unwrap().answered.is_some());
    assert_eq!(room.phones[2].calls().next().unwrap().failed.map(|(_, s)| s), Some(487));
    room.assert_clean();
}

#[test]
fn calls_get_through_although_every_fifth_datagram_is_lost() {
    let mut room = Room::new(&["401", "402"], |_| {});
    room.register_all();
    room.loss = 200;
    for _ in 0..40 {
        room.with(0, |p, now, out| assert!(p.call(now, CallPlan::talking("402", SECOND * 5), out).is_some()));
        room.run(SECOND * 10);
    }
    room.run(SECOND * 120);
    let answered = room.phones[0].calls().filter(|c| c.answered.is_some()).count();
    assert!(answered >= 38, "{answered} of 40");
    room.assert_clean();
}

#[test]
fn a_challenged_call_is_repeated_with_credentials() {
    let mut room = Room::new(&["401"], |pbx| pbx.challenge_calls = true);
    room.register_all();
    room.with(0, |p, now, out| assert!(p.call(now, CallPlan::talking("600", SECOND), out).is_some()));
    room.run(SECOND * 40);
    assert!(room.phones[0].calls().next().unwrap().answered.is_some());
    room.assert_clean();
}

#[test]
fn a_killed_pbx_answers_nobody_and_the_callers_bye_times_out() {
    let mut room = Room::new(&["401"], |_| {});
    room.register_all();
    room.with(0, |p, now, out| assert!(p.call(now, CallPlan::talking("600", SECOND * 5), out).is_some()));
    room.run(SECOND * 2);
    let now = room.now.mono;
    room.pbx.kill(now, 77);
    room.run(SECOND * 60);
    assert_eq!(room.phones[0].legs_alive(), 0);
    room.pbx.start(room.now.mono);
    room.with(0, |p, now, out| assert!(p.call(now, CallPlan::talking("600", SECOND * 5), out).is_some()));
    room.run(SECOND * 60);
    assert!(room.phones[0].calls().last().unwrap().answered.is_some());
    room.assert_clean();
}

#[test]
fn an_untrusted_caller_is_refused() {
    let mut room = Room::new(&["401"], |pbx| pbx.trusts.clear());
    room.with(0, |p, now, out| assert!(p.call(now, CallPlan::to("600"), out).is_some()));
    room.run(SECOND * 40);
    assert_eq!(room.phones[0].calls().next().unwrap().failed.map(|(_, s)| s), Some(403));
    let distrusted = Observed::Distrusted { source: address(10) };
    assert!(room.pbx.seen().iter().any(|seen| seen.what == distrusted));
}

#[test]
fn qualify_asks_every_contact_and_knows_who_is_gone() {
    let mut room = Room::new(&["401"], |pbx| pbx.qualify = Some(SECOND * 10));
    room.register_all();
    room.run(SECOND * 15);
    let reachable = |room: &Room| room.pbx.contacts("401@acme.test", room.now.mono)[0].reachable;
    assert_eq!(reachable(&room), Some(true));
    room.loss = 1000;
    room.run(SECOND * 60);
    assert_eq!(reachable(&room), Some(false));
}
