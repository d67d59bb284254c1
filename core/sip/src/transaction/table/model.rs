//! The table beside a plain map by whole keys: places are used again and again, and each message still finds the
//! transaction that it belongs to and no other.

use super::tests::{INVITE, OPTIONS, Out, client_key, ms, received, request, server_key, table};
use super::{
    ClientKey, ClientTx, Gate, NewClient, OnAck, OnRequest, OnResponse, OpenError, Output, ServerTx, Table,
    Tx,
};
use crate::transaction::ServerKey;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Keys are few, so that each is used many times, by transactions in many places.
const KEYS: u64 = 12;
/// Opened at once: more than a piece of the slab, so that tables grow while others live.
const CROWD: u64 = 600;

#[derive(Clone, Debug)]
enum Op {
    Start { key: u64, held: bool },
    Open { key: u64 },
    Response { key: u64, status: u16 },
    Respond { key: u64, status: u16, held: bool },
    Request { key: u64 },
    Ack { key: u64 },
    Released { key: u64 },
    Withdraw { key: u64 },
    Fail { key: u64 },
    Crowd,
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..KEYS;
    let status = prop_oneof![Just(100_u16), Just(180), Just(200), Just(404)];
    prop_oneof![
        6 => (key.clone(), any::<bool>()).prop_map(|(key, held)| Op::Start { key, held }),
        6 => key.clone().prop_map(|key| Op::Open { key }),
        6 => (key.clone(), status.clone()).prop_map(|(key, status)| Op::Response { key, status }),
        6 => (key.clone(), status, any::<bool>())
            .prop_map(|(key, status, held)| Op::Respond { key, status, held }),
        6 => key.clone().prop_map(|key| Op::Request { key }),
        3 => key.clone().prop_map(|key| Op::Ack { key }),
        2 => key.clone().prop_map(|key| Op::Released { key }),
        3 => key.clone().prop_map(|key| Op::Withdraw { key }),
        3 => key.prop_map(|key| Op::Fail { key }),
        1 => Just(Op::Crowd),
        4 => prop_oneof![0_u64..600, 0_u64..40_000].prop_map(Op::Advance),
    ]
}

/// What a map by whole keys knows.
#[derive(Default)]
struct Model {
    clients: HashMap<ClientKey, ClientTx>,
    servers: HashMap<ServerKey, ServerTx>,
    /// What each living transaction was opened with.
    users: BTreeMap<Tx, u32>,
    /// Whose bytes are whose, for ever: a number that no other message bears.
    owners: HashMap<Vec<u8>, Tx>,
    ended: Vec<Tx>,
    serial: u32,
    now: u64,
}

/// Even ones are INVITEs, on either side.
fn client_of(key: u64) -> ClientKey {
    client_key(if key.is_multiple_of(2) { INVITE } else { OPTIONS }, key)
}

fn server_of(key: u64) -> ServerKey {
    server_key(if key.is_multiple_of(2) { b"INVITE" } else { b"INFO" }, key)
}

impl Model {
    fn next(&mut self) -> (u32, Vec<u8>) {
        self.serial += 1;
        (self.serial, self.serial.to_be_bytes().to_vec())
    }

    fn start(&mut self, table: &mut Table<u32>, key: ClientKey, held: bool) {
        let (user, bytes) = self.next();
        let gate = if held { Gate::Held } else { Gate::Now };
        let new = NewClient { bytes: &bytes, ..request(key.method, key.branch.0, gate, false) };
        let started = table.start(new, user, ms(self.now));
        if self.clients.contains_key(&key) {
            return assert_eq!(started, Err(OpenError::Duplicate));
        }
        let tx = started.expect("there is room and the key is free");
        self.clients.insert(key, tx);
        assert_eq!(self.users.insert(tx.into(), user), None, "a handle names one transaction, ever");
        self.owners.insert(bytes, tx.into());
    }

    fn open(&mut self, table: &mut Table<u32>, key: ServerKey, invite: bool) {
        let (user, _) = self.next();
        let opened = table.open(received(key, invite, false), user, ms(self.now));
        if self.servers.contains_key(&key) {
            return assert_eq!(opened, Err(OpenError::Duplicate));
        }
        let tx = opened.expect("there is room and the key is free");
        self.servers.insert(key, tx);
        assert_eq!(self.users.insert(tx.into(), user), None, "a handle names one transaction, ever");
    }

    fn response(&mut self, table: &mut Table<u32>, key: ClientKey, status: u16, out: &mut Out) {
        let found = match table.on_response(key, status, ms(self.now), out) {
            OnResponse::Provisional { tx }
            | OnResponse::Again { tx }
            | OnResponse::Late { tx }
            | OnResponse::Absorbed { tx } => Some(tx),
            OnResponse::Final { tx, request, needs_ack } => {
                let owner = request.as_deref().and_then(|bytes| self.owners.get(bytes));
                assert_eq!(owner, Some(&tx.into()), "the request is the transaction's own");
                if needs_ack {
                    let (_, ack) = self.next();
                    table.ack(tx, &ack);
                    self.owners.insert(ack, tx.into());
                }
                Some(tx)
            }
            OnResponse::Stray => None,
        };
        assert_eq!(found, self.clients.get(&key).copied());
    }

    fn respond(&mut self, table: &mut Table<u32>, key: ServerKey, status: u16, held: bool) {
        let Some(tx) = self.servers.get(&key).copied() else { return };
        let (_, bytes) = self.next();
        let gate = if held { Gate::Held } else { Gate::Now };
        if table.respond(tx, status, &bytes, gate, ms(self.now)).is_ok() {
            self.owners.insert(bytes, tx.into());
        }
    }

    fn either(&self, key: u64) -> Option<Tx> {
        let client = self.clients.get(&client_of(key)).copied().map(Tx::from);
        client.or_else(|| self.servers.get(&server_of(key)).copied().map(Tx::from))
    }

    fn apply(&mut self, table: &mut Table<u32>, op: &Op) {
        let mut out = Vec::new();
        match *op {
            Op::Start { key, held } => self.start(table, client_of(key), held),
            Op::Open { key } => self.open(table, server_of(key), key.is_multiple_of(2)),
            Op::Response { key, status } => self.response(table, client_of(key), status, &mut out),
            Op::Respond { key, status, held } => self.respond(table, server_of(key), status, held),
            Op::Request { key } => {
                let known = self.servers.get(&server_of(key)).copied();
                let wanted = known.map_or(OnRequest::New, |tx| OnRequest::Repeated { tx });
                assert_eq!(table.on_request(server_of(key), &mut out), wanted);
            }
            Op::Ack { key } => {
                let found = match table.on_ack(server_of(key), ms(self.now)) {
                    OnAck::Absorbed { tx } | OnAck::Deliver { tx } => Some(tx),
                    OnAck::Unmatched => None,
                };
                assert_eq!(found, self.servers.get(&server_of(key)).copied());
            }
            Op::Released { key } => _ = self.either(key).map(|tx| table.released(tx, ms(self.now))),
            Op::Withdraw { key } => _ = self.either(key).map(|tx| table.withdraw(tx, &mut out)),
            Op::Fail { key } => _ = self.either(key).map(|tx| table.transport_error(tx, &mut out)),
            Op::Crowd => {
                for key in KEYS..KEYS + CROWD / 2 {
                    self.start(table, client_of(key), false);
                    self.open(table, server_of(key), key.is_multiple_of(2));
                }
            }
            Op::Advance(by) => {
                self.now += by;
                while table.next_due().is_some_and(|due| due <= ms(self.now)) {
                    table.due(ms(self.now), 50, &mut out);
                }
            }
        }
        self.hear(out);
        self.compare(table);
    }

    fn hear(&mut self, out: Out) {
        for output in out {
            match output {
                Output::Send { tx, bytes, .. } => {
                    assert_eq!(self.owners.get(&*bytes), Some(&tx), "what is repeated is its own");
                    assert!(self.users.contains_key(&tx));
                }
                Output::Tell { tx, .. } => assert!(self.users.contains_key(&tx)),
                Output::Ended { tx, user, .. } => {
                    assert_eq!(self.users.remove(&tx), Some(user), "it ends once, with what it was given");
                    self.clients.retain(|_, client| Tx::from(*client) != tx);
                    self.servers.retain(|_, server| Tx::from(*server) != tx);
                    self.ended.push(tx);
                }
            }
        }
    }

    fn compare(&self, table: &Table<u32>) {
        assert_eq!(table.len(), (self.clients.len(), self.servers.len()));
        assert_eq!(
            (table.by_branch.len(), table.by_request.len()),
            table.len(),
            "no key outlives its transaction"
        );
        for key in 0..KEYS + CROWD / 2 {
            let (client, server) = (client_of(key), server_of(key));
            assert_eq!(table.find_client(client), self.clients.get(&client).copied());
            assert_eq!(table.find_server(server), self.servers.get(&server).copied());
        }
        assert!(self.users.iter().all(|(tx, user)| table.user(*tx) == Some(user)));
        let gone =
            |tx: &Tx| table.user(*tx).is_none() && table.flow(*tx).is_none() && table.bytes_kept(*tx) == 0;
        assert!(self.ended.iter().all(gone), "a handle of one that ended names nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_message_finds_what_a_map_by_whole_keys_finds(ops in prop::collection::vec(op(), 1..120)) {
        let (mut table, mut model) = (table(), Model::default());
        for op in &ops {
            model.apply(&mut table, op);
        }
    }
}
