//! Many tenants behind one edge: the same extension everywhere, and every call finds its own (issue 3, Shows 2).

use crate::town::{INSIDE, OUTSIDE, SECOND, listed};
use signalbox_actors::{Answer, CallPlan, Observed, PbxProfile, PhoneProfile, Verdict};
use signalbox_engine::settings::CallsFrom;
use signalbox_schemas::Event;
use signalbox_schemas::words::RequestRule;
use signalbox_world::{
    AttackerId, BackendPlan, EdgeId, PbxId, PhoneId, Seeded, TenantPlan, Weather, World, edge_settings,
    hosted, seeds,
};
use std::time::Duration;

/// Who speaks for which domain: tenant, domain, PBX. Two tenants share an address on two ports, two addresses differ by a
/// digit behind the other's, and one tenant has two domains with a PBX each.
const PBXS: [(&str, &str, &str); 4] = [
    ("acme", "acme.test", "10.0.1.1:5060"),
    ("acme", "b.acme.test", "10.0.1.1:5080"),
    ("globex", "globex.test", "10.0.1.10:5060"),
    ("initech", "initech.test", "10.0.1.10:5070"),
];

struct Block {
    world: World,
    edge: EdgeId,
    pbxs: Vec<PbxId>,
    /// 401 of each domain, in the order of [`PBXS`].
    phones: Vec<PhoneId>,
}

fn block(seed: u64) -> Block {
    let mut world = World::new(seed, Weather::FINE);
    let (mut pbxs, mut phones) = (Vec::new(), Vec::new());
    for ((tenant, domain, address), n) in PBXS.iter().zip(0u8..) {
        let profile = PbxProfile::new(hosted(address), domain, hosted(INSIDE).ip());
        let profile = profile.user_at("401", domain, "secret", Verdict::Accept).user_at(
            "402",
            domain,
            "x",
            Verdict::Accept,
        );
        pbxs.push(world.add_pbx(tenant, profile));
        let local = hosted(&format!("198.51.100.{}", 10 + n));
        let mut profile = PhoneProfile::new(local, hosted(OUTSIDE), "401", domain, "secret");
        profile.answer = Answer::After { ring: Duration::from_millis(50), talk: None };
        phones.push(world.add_phone(tenant, profile, None));
    }
    let edge = world.add_edge(edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &plans()));
    world.run(SECOND);
    Block { world, edge, pbxs, phones }
}

fn plans() -> Vec<TenantPlan> {
    let tenants = ["acme", "globex", "initech"];
    let plan = |tenant: &'static str| {
        let own = PBXS.iter().filter(|(t, ..)| *t == tenant);
        let names = ["pbx-1", "pbx-2"];
        TenantPlan {
            name: tenant,
            domains: own.clone().map(|(_, domain, _)| *domain).collect(),
            backends: own
                .zip(names)
                .map(|((_, domain, address), name)| BackendPlan {
                    domain: Some(domain),
                    ..BackendPlan::new(name, address)
                })
                .collect(),
            calls_from: CallsFrom::Registered,
        }
    };
    tenants.map(plan).to_vec()
}

impl Block {
    fn register_all(&mut self) {
        for phone in self.phones.clone() {
            self.world.phone(phone, |p, now, out| p.register(now, out));
        }
        let all = |world: &World| world.phones().all(|p| p.registered_until().is_some());
        assert!(self.world.run_until(SECOND * 60, all), "not everybody could register");
    }

    fn assert_good(&mut self) {
        self.world.run_until(SECOND * 300, World::is_at_rest);
        self.world.run_until_durable(self.edge);
        let faults = self.world.judge();
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), listed(&faults));
    }
}

#[test]
fn promise_6_given_1000_random_calls_to_401_at_the_edge_then_each_reaches_its_own_phone() {
    for seed in seeds(1) {
        let _seeded = Seeded::new("promise_6_given_1000", seed);
        let mut block = block(seed);
        block.register_all();
        let mut expected = vec![0; PBXS.len()];
        for _ in 0..1000 {
            let which = block.world.random().below(PBXS.len() as u64) as usize;
            expected[which] += 1;
            // The edge's address says nothing about the domain: only who asks does.
            let uri = format!("sip:401@{INSIDE}");
            let from = format!("sip:402@{}", PBXS[which].1);
            let leg = block
                .world
                .pbx(block.pbxs[which], |p, now, out| p.originate(now, &uri, &from, hosted(INSIDE), out));
            let leg = leg.expect("a PBX has room for a call");
            let pbx = block.pbxs[which];
            let answered =
                |world: &World| world.see_pbx(pbx).seen_call(leg).is_some_and(|c| c.answered.is_some());
            assert!(block.world.run_until(SECOND * 5, answered), "{} had no answer", PBXS[which].1);
            block.world.pbx(pbx, |p, now, out| p.hang_up(now, leg, out));
        }
        block.world.run(SECOND * 40);
        let reached: Vec<_> =
            block.phones.iter().map(|p| block.world.see_phone(*p).calls().count()).collect();
        assert_eq!(reached, expected);
        block.assert_good();
    }
}

#[test]
fn given_a_named_domain_then_the_domain_decides_within_the_tenant_only() {
    let mut block = block(2);
    block.register_all();
    let ask = |block: &mut Block, pbx: usize, uri: &str| {
        let from = format!("sip:402@{}", PBXS[pbx].1);
        block.world.pbx(block.pbxs[pbx], |p, now, out| p.originate(now, uri, &from, hosted(INSIDE), out));
        block.world.run(SECOND * 2);
        let call = block.world.see_pbx(block.pbxs[pbx]).calls().last().unwrap().clone();
        block.world.pbx(block.pbxs[pbx], |p, now, out| p.hang_up(now, call.leg, out));
        block.world.run(SECOND);
        call
    };
    // The tenant's other domain, by name.
    assert!(ask(&mut block, 0, "sip:401@b.acme.test").answered.is_some());
    assert_eq!(block.world.see_phone(block.phones[1]).calls().count(), 1);
    // Another tenant's domain, by name: read as one's own backend's domain, or refused; never that tenant's phone.
    ask(&mut block, 0, "sip:401@globex.test");
    assert_eq!(block.world.see_phone(block.phones[2]).calls().count(), 0);
    // Nobody there.
    let nobody = ask(&mut block, 0, &format!("sip:499@{INSIDE}"));
    assert_eq!(nobody.failed.map(|(_, status)| status), Some(404));
    block.assert_good();
}

#[test]
fn given_a_source_of_no_tenant_on_the_inside_then_it_is_refused_with_an_event() {
    let mut block = block(3);
    block.register_all();
    for source in ["10.0.1.100:5060", "10.0.1.2:5060"] {
        let profile = PbxProfile::new(hosted(source), "acme.test", hosted(INSIDE).ip());
        let stranger = block.world.add_pbx("stranger", profile);
        let uri = format!("sip:401@{INSIDE}");
        let ask = |p: &mut signalbox_actors::Pbx, now, out: &mut Vec<_>| {
            p.originate(now, &uri, "sip:402@acme.test", hosted(INSIDE), out)
        };
        block.world.pbx(stranger, ask);
        block.world.run(SECOND * 40);
        let answered = block.world.see_pbx(stranger).calls().next().unwrap().answered;
        assert!(answered.is_none(), "{source} was served");
    }
    assert!(block.phones.iter().all(|p| block.world.see_phone(*p).calls().count() == 0));
    let rejected = block.world.events(block.edge).into_iter().filter(|recorded| {
        matches!(&recorded.event, Event::SecurityRequestRejected(e) if e.rule == RequestRule::UnknownPeer)
    });
    assert!(rejected.count() >= 1, "no event tells of it");
}

#[test]
fn promise_6_given_an_unregistered_address_then_its_invite_never_reaches_a_trusting_pbx() {
    let mut block = block(4);
    block.register_all();
    let attacker = signalbox_actors::AttackerProfile {
        local: hosted("203.0.113.66:5060"),
        target: hosted(OUTSIDE),
        // Also with the PBXs' and the phones' own addresses as source.
        spoofs: vec![hosted("203.0.113.67"), hosted("10.0.1.1:5060"), hosted("10.0.1.10:5070")],
        domain: "acme.test".to_owned(),
        attacks: vec![signalbox_actors::Attack::Relay, signalbox_actors::Attack::SweepInvite],
        interval: Duration::from_millis(20),
    };
    let attacker: AttackerId = block.world.add_attacker(attacker);
    // A phone that is not registered, and one that is but says it is somebody else.
    let stranger = PhoneProfile::new(hosted("203.0.113.70"), hosted(OUTSIDE), "401", "acme.test", "secret");
    let stranger = block.world.add_phone("acme", stranger, None);
    block.world.phone(stranger, |p, now, out| p.call(now, CallPlan::to("600"), out));
    block.world.run(SECOND * 10);
    block.world.attacker(attacker, |a, _| a.stop());
    block.world.run(SECOND * 40);
    for pbx in block.world.pbxs() {
        let invited = pbx.seen().iter().filter(|seen| matches!(seen.what, Observed::Invited { .. })).count();
        assert_eq!(invited, 0, "{} was reached", pbx.profile().agent);
    }
    let refused = block.world.see_phone(stranger).calls().next().unwrap().failed.map(|(_, status)| status);
    assert!(matches!(refused, Some(403 | 480 | 404)), "{refused:?}");
}
