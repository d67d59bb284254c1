//! The table under random interleavings of peer, user, gate and clock.

use super::tests::{INVITE, OPTIONS, Out, client_key, ms, received, request, server_key, table};
use super::{ClientKey, ClientTx, Gate, NewClient, OnRequest, OnResponse, Output, ServerTx, Table, Tx};
use crate::transaction::ServerKey;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

#[derive(Clone, Debug)]
enum Op {
    Start { invite: bool, held: bool, reliable: bool },
    Open { invite: bool, reliable: bool },
    Response { nth: usize, status: u16 },
    Respond { nth: usize, status: u16, held: bool },
    Release(usize),
    Withdraw(usize),
    Fail(usize),
    Cancelled(usize),
    Request(usize),
    Ack { nth: usize, dialog: bool },
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (any, nth, status) =
        (any::<bool>, 0usize..8, prop_oneof![Just(100u16), Just(180), Just(200), Just(486)]);
    prop_oneof![
        3 => (any(), any(), any()).prop_map(|(invite, held, reliable)| Op::Start { invite, held, reliable }),
        3 => (any(), any()).prop_map(|(invite, reliable)| Op::Open { invite, reliable }),
        4 => (nth.clone(), status.clone()).prop_map(|(nth, status)| Op::Response { nth, status }),
        4 => (nth.clone(), status, any()).prop_map(|(nth, status, held)| Op::Respond { nth, status, held }),
        2 => nth.clone().prop_map(Op::Release),
        1 => nth.clone().prop_map(Op::Withdraw),
        1 => nth.clone().prop_map(Op::Fail),
        1 => nth.clone().prop_map(Op::Cancelled),
        2 => nth.clone().prop_map(Op::Request),
        2 => (nth, any()).prop_map(|(nth, dialog)| Op::Ack { nth, dialog }),
        3 => prop_oneof![0u64..600, 0u64..40_000].prop_map(Op::Advance),
    ]
}

/// A table driven at random, and what must hold of its outputs.
#[derive(Default)]
struct World {
    clients: Vec<(ClientTx, ClientKey)>,
    servers: Vec<(ServerTx, ServerKey)>,
    /// Bytes that the gate holds back: none of them may be sent.
    held: HashMap<Tx, Vec<u8>>,
    alive: HashSet<Tx>,
    serial: u32,
    now: u64,
    out: Out,
}

impl World {
    fn bytes(&mut self) -> Vec<u8> {
        self.serial += 1;
        self.serial.to_be_bytes().to_vec()
    }

    fn any(&self, nth: usize) -> Option<Tx> {
        let clients = self.clients.iter().map(|(tx, _)| Tx::Client(*tx));
        let all: Vec<_> = clients.chain(self.servers.iter().map(|(tx, _)| Tx::Server(*tx))).rev().collect();
        all.get(nth).copied()
    }

    fn check(&mut self) {
        for output in self.out.drain(..) {
            match output {
                Output::Send { tx, bytes, .. } => {
                    assert!(self.alive.contains(&tx));
                    assert_ne!(
                        self.held.get(&tx).map(Vec::as_slice),
                        Some(&*bytes),
                        "sent before its release"
                    );
                }
                Output::Tell { tx, .. } => assert!(self.alive.contains(&tx)),
                Output::Ended { tx, .. } => assert!(self.alive.remove(&tx), "ends once"),
            }
        }
    }

    fn client(&self, nth: usize) -> Option<(ClientTx, ClientKey)> {
        self.clients.iter().rev().nth(nth).copied()
    }

    fn server(&self, nth: usize) -> Option<(ServerTx, ServerKey)> {
        self.servers.iter().rev().nth(nth).copied()
    }

    fn apply(&mut self, table: &mut Table<u32>, op: Op) {
        let (now, bytes) = (ms(self.now), self.bytes());
        match op {
            Op::Start { .. } | Op::Response { .. } | Op::Cancelled(_) => self.apply_client(table, op, &bytes),
            Op::Open { .. } | Op::Respond { .. } | Op::Request(_) | Op::Ack { .. } => {
                self.apply_server(table, op, &bytes);
            }
            Op::Release(nth) => {
                let Some(tx) = self.any(nth) else { return };
                self.held.remove(&tx);
                table.released(tx, now);
            }
            Op::Withdraw(nth) => {
                let Some(tx) = self.any(nth) else { return };
                table.withdraw(tx, &mut self.out);
            }
            Op::Fail(nth) => {
                let Some(tx) = self.any(nth) else { return };
                table.transport_error(tx, &mut self.out);
            }
            Op::Advance(by) => {
                self.now += by;
                while table.next_due().is_some_and(|due| due <= ms(self.now)) {
                    table.due(ms(self.now), 3, &mut self.out);
                }
            }
        }
        self.check();
    }

    fn apply_client(&mut self, table: &mut Table<u32>, op: Op, bytes: &[u8]) {
        let now = ms(self.now);
        match op {
            Op::Start { invite, held, reliable } => {
                let (method, gate) =
                    (if invite { INVITE } else { OPTIONS }, if held { Gate::Held } else { Gate::Now });
                let branch = u64::from(self.serial);
                let new = NewClient { bytes, ..request(method, branch, gate, reliable) };
                let tx = table.start(new, 0, now).unwrap();
                self.clients.push((tx, client_key(method, branch)));
                self.alive.insert(tx.into());
                if held {
                    self.held.insert(tx.into(), bytes.to_vec());
                }
            }
            Op::Response { nth, status } => {
                let Some((tx, key)) = self.client(nth) else { return };
                self.held.remove(&tx.into());
                let told = table.on_response(key, status, now, &mut self.out);
                assert_eq!(told == OnResponse::Stray, !self.alive.contains(&tx.into()));
                if matches!(told, OnResponse::Final { needs_ack: true, .. }) {
                    table.ack(tx, bytes);
                }
            }
            Op::Cancelled(nth) => {
                let Some((tx, _)) = self.client(nth) else { return };
                table.cancelled(tx, now);
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn apply_server(&mut self, table: &mut Table<u32>, op: Op, bytes: &[u8]) {
        let now = ms(self.now);
        match op {
            Op::Open { invite, reliable } => {
                let key = server_key(if invite { b"INVITE" } else { b"INFO" }, u64::from(self.serial));
                let tx = table.open(received(key, invite, reliable), 0, now).unwrap();
                self.servers.push((tx, key));
                self.alive.insert(tx.into());
            }
            Op::Respond { nth, status, held } => {
                let Some((tx, _)) = self.server(nth) else { return };
                let gate = if held { Gate::Held } else { Gate::Now };
                let may = table.may_respond(tx, status);
                let done = table.respond(tx, status, bytes, gate, now).is_ok();
                assert_eq!(may, done);
                if done && held {
                    self.held.insert(tx.into(), bytes.to_vec());
                }
            }
            Op::Request(nth) => {
                let Some((tx, key)) = self.server(nth) else { return };
                let told = table.on_request(key, &mut self.out);
                assert_eq!(told == OnRequest::New, !self.alive.contains(&tx.into()));
            }
            Op::Ack { nth, dialog } => {
                let Some((tx, key)) = self.server(nth) else { return };
                self.held.remove(&tx.into());
                if dialog {
                    table.acked(tx, now);
                } else {
                    table.on_ack(key, now);
                }
            }
            other => unreachable!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_held_is_sent_and_all_ends(ops in prop::collection::vec(op(), 1..80)) {
        let (mut table, mut world) = (table(), World::default());
        for op in ops {
            world.apply(&mut table, op);
        }
        // The user's duties: what is held is released, what rings is cancelled, what waits is answered.
        for (tx, _) in world.clients.clone() {
            world.held.remove(&tx.into());
            table.released(tx, ms(world.now));
        }
        for (tx, _) in world.servers.clone() {
            world.held.remove(&tx.into());
            table.released(tx, ms(world.now));
            let _too_late = table.respond(tx, 500, b"500", Gate::Now, ms(world.now));
        }
        world.apply(&mut table, Op::Advance(33_000));
        for (tx, _) in world.clients.clone() {
            table.cancelled(tx, ms(world.now));
        }
        world.apply(&mut table, Op::Advance(33_000));
        prop_assert!(table.is_empty() && world.alive.is_empty());
        prop_assert_eq!(table.next_due(), None);
    }
}
