//! The usual cast of the stories: an edge, tenants with PBXs, phones that register and call.

use signalbox_actors::{Answer, CallPlan, Device, PbxProfile, PhoneProfile};
use signalbox_base::{Text, Transport};
use signalbox_engine::settings::{CallsFrom, ContactMode, Hide, ListenerSettings, Settings, TimerSettings};
use signalbox_world::oracle::Fault;
use signalbox_world::{
    BackendPlan, EdgeId, PbxId, PhoneId, TenantPlan, Weather, World, edge_settings, hosted,
};
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) const OUTSIDE: &str = "192.0.2.1:5060";
pub(crate) const INSIDE: &str = "10.0.0.5:5060";
/// Where phones connect over TCP, in towns that have it.
const STREAMS: &str = "192.0.2.1:5070";

pub(crate) struct Town {
    pub(crate) world: World,
    pub(crate) edge: EdgeId,
    pub(crate) pbxs: Vec<PbxId>,
    pub(crate) phones: Vec<PhoneId>,
}

/// A tenant with one PBX and extensions from 401 on.
pub(crate) struct Household {
    pub(crate) tenant: &'static str,
    pub(crate) domain: &'static str,
    pub(crate) pbx: &'static str,
    pub(crate) phones: u8,
    /// Third byte of the phones' addresses 198.51.x.
    pub(crate) street: u8,
}

pub(crate) const ACME: Household =
    Household { tenant: "acme", domain: "acme.test", pbx: "10.0.1.1", phones: 4, street: 100 };
pub(crate) const GLOBEX: Household =
    Household { tenant: "globex", domain: "globex.test", pbx: "10.0.1.10", phones: 4, street: 101 };

impl Household {
    pub(crate) fn plan(&self) -> TenantPlan {
        TenantPlan {
            name: self.tenant,
            domains: vec![self.domain],
            backends: vec![BackendPlan::new("pbx", self.pbx)],
            calls_from: CallsFrom::Registered,
        }
    }

    pub(crate) fn pbx_profile(&self) -> PbxProfile {
        let profile = PbxProfile::new(hosted(self.pbx), self.domain, hosted(INSIDE).ip());
        (0..self.phones).fold(profile, |profile, n| profile.user(&extension(n), "secret"))
    }

    pub(crate) fn phone_profile(&self, n: u8) -> PhoneProfile {
        let local = hosted(&format!("198.51.{}.{}", self.street, 10 + n));
        PhoneProfile::new(local, hosted(OUTSIDE), &extension(n), self.domain, "secret")
    }
}

pub(crate) fn extension(n: u8) -> String {
    (401 + u32::from(n)).to_string()
}

impl Town {
    /// Builds it; nobody has registered yet.
    pub(crate) fn new(seed: u64, weather: Weather, households: &[Household]) -> Self {
        Self::with(seed, weather, households, |_| {}, |_| {}, |_| {})
    }

    /// The same with other timers, and phones that have no session timers of their own.
    pub(crate) fn timed(
        seed: u64,
        weather: Weather,
        households: &[Household],
        timers: impl FnOnce(&mut TimerSettings),
    ) -> Self {
        let change = |settings: &mut Settings| timers(&mut settings.timers);
        let plain = |phone: &mut PhoneProfile| phone.device = Some(&Device::PLAIN);
        Self::with(seed, weather, households, |_| {}, change, plain)
    }

    /// The same with backends configured one way or another, as the seed says: contacts as tokens or by Path,
    /// identifiers passed on or hidden.
    pub(crate) fn varied(seed: u64, weather: Weather, households: &[Household]) -> Self {
        Self::varied_over(seed, weather, households, false)
    }

    /// The same, with phones that speak over TCP or not.
    pub(crate) fn varied_over(seed: u64, weather: Weather, households: &[Household], streams: bool) -> Self {
        let vary = |plan: &mut TenantPlan| {
            for (backend, bits) in plan.backends.iter_mut().zip([seed, seed >> 1]) {
                backend.contact = if bits & 1 == 0 { ContactMode::Token } else { ContactMode::Path };
                backend.hide = if bits & 2 == 0 { Hide::Off } else { Hide::Full };
            }
        };
        let change = |settings: &mut Settings| {
            if streams {
                let (address, advertise) = (hosted(STREAMS), Text::new(STREAMS));
                let first = settings.listeners[0].clone();
                let transport = Transport::Tcp;
                settings.listeners.push(ListenerSettings { address, advertise, transport, ..first });
            }
        };
        let connected = |phone: &mut PhoneProfile| {
            if streams {
                (phone.edge, phone.transport) = (hosted(STREAMS), Transport::Tcp);
            }
        };
        Self::with(seed, weather, households, vary, change, connected)
    }

    fn with(
        seed: u64,
        weather: Weather,
        households: &[Household],
        plan: impl Fn(&mut TenantPlan),
        change: impl FnOnce(&mut Settings),
        dress: impl Fn(&mut PhoneProfile),
    ) -> Self {
        let mut world = World::new(seed, weather);
        let (mut pbxs, mut phones) = (Vec::new(), Vec::new());
        for household in households {
            pbxs.push(world.add_pbx(household.tenant, household.pbx_profile()));
            for n in 0..household.phones {
                let mut profile = household.phone_profile(n);
                dress(&mut profile);
                phones.push(world.add_phone(household.tenant, profile, None));
            }
        }
        let mut tenants: Vec<_> = households.iter().map(Household::plan).collect();
        tenants.iter_mut().for_each(plan);
        let mut settings = edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &tenants);
        change(&mut settings);
        let edge = world.add_edge(settings);
        let mut town = Self { world, edge, pbxs, phones };
        // The first probes find the PBXs.
        town.world.run(SECOND);
        town
    }

    /// Everybody registers.
    pub(crate) fn register_all(&mut self) {
        for phone in self.phones.clone() {
            self.world.phone(phone, |p, now, out| p.register(now, out));
        }
        let all = |world: &World| world.phones().all(|p| p.registered_until().is_some());
        assert!(self.world.run_until(MINUTE * 2, all), "not everybody could register");
        self.world.run(SECOND);
    }

    /// A short day in which every kind of thing happens once, one after the other, so that each has its own commits.
    pub(crate) fn short_day(&mut self) {
        for phone in self.phones.clone() {
            self.world.phone(phone, |p, now, out| p.register(now, out));
            self.world.run(SECOND / 20);
        }
        let all = |world: &World| world.phones().all(|p| p.registered_until().is_some());
        assert!(self.world.run_until(MINUTE * 2, all), "not everybody could register");
        self.world.run(SECOND / 20);
        let give_up_after = Some(SECOND);
        let plans = [
            CallPlan { hold: Some((SECOND / 2, SECOND / 2)), ..CallPlan::talking("402", SECOND * 2) },
            CallPlan { give_up_after, ..CallPlan::to("602") },
            CallPlan::to("601"),
            CallPlan::talking("600", SECOND),
        ];
        for (phone, plan) in [0, 1, 2, 3].into_iter().zip(plans) {
            self.call(self.phones[phone], plan);
            self.world.run(SECOND * 2 / 5);
        }
        self.world.run(SECOND * 3);
        self.world.phone(self.phones[3], |p, now, out| p.unregister(now, out));
        self.world.run(SECOND * 5);
    }

    /// One phone calls by plan.
    pub(crate) fn call(&mut self, phone: PhoneId, plan: CallPlan) {
        self.world.phone(phone, |p, now, out| p.call(now, plan, out));
    }

    /// Random calls and registrations, one about every `gap`.
    pub(crate) fn live(&mut self, things: u64, gap: Duration) {
        for _ in 0..things {
            let wait = self.world.random().below(2 * gap.as_micros() as u64);
            self.world.run(Duration::from_micros(wait));
            self.something();
        }
    }

    /// Something that phones do.
    pub(crate) fn something(&mut self) {
        let phones = self.phones.clone();
        let phone = *self.world.random().pick(&phones);
        let roll = self.world.random().below(100);
        match roll {
            0..=4 => self.world.phone(phone, |p, now, out| p.register(now, out)),
            5..=7 => {
                self.world.phone(phone, |p, now, out| p.unregister(now, out));
            }
            8..=12 => {
                let answer = *self.world.random().pick(&[
                    Answer::Ring,
                    Answer::Status(486),
                    Answer::Status(603),
                    Answer::After { ring: Duration::from_millis(300), talk: Some(SECOND * 3) },
                    Answer::After { ring: Duration::ZERO, talk: None },
                ]);
                self.world.phone(phone, |p, _, _| p.set_answer(answer));
            }
            13..=15 => {
                self.world.phone(phone, |p, now, out| {
                    p.send(now, signalbox_sip::Method::Message, "600", ("text/plain", b"hello"), out);
                });
            }
            _ => {
                let plan = self.some_plan();
                self.call(phone, plan);
            }
        }
    }

    fn some_plan(&mut self) -> CallPlan {
        let random = self.world.random();
        let numbers =
            ["401", "402", "403", "404", "401", "402", "600", "600", "601", "602", "603", "604", "777"];
        let to = *random.pick(&numbers);
        let talk = Duration::from_millis(random.below(8_000));
        CallPlan {
            talk: Some(talk),
            give_up_after: Some(Duration::from_millis(200 + random.below(9_000))),
            hold: random.chance(200).then_some((talk / 4, talk / 4)),
            info_after: random.chance(200).then_some(talk / 3),
            ..CallPlan::to(to)
        }
    }

    /// Waits until nobody has a call any more, however long retransmissions take.
    pub(crate) fn rest(&mut self) {
        for _ in 0..60 {
            self.world.run(SECOND * 10);
            if self.world.is_at_rest() {
                break;
            }
        }
        self.world.run(SECOND * 2);
        for edge in self.world.edge_ids() {
            self.world.run_until_durable(edge);
        }
    }

    /// Rests, and finds nothing wrong.
    pub(crate) fn assert_good(&mut self) {
        self.rest();
        let faults = self.world.judge();
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), listed(&faults));
        assert!(self.world.oracle().marked > 0, "no message of an actor came through: nothing was judged");
    }
}

pub(crate) fn listed(faults: &[Fault]) -> String {
    faults.iter().take(12).map(|fault| format!("  {fault}\n")).collect()
}
