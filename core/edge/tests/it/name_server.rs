//! A name server on the loopback interface that serves what a story tells it.

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

type Key = (String, RecordType);

/// Answers by UDP until it is dropped; after that its port is closed.
pub(crate) struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<Key, (u32, Vec<RData>)>,
    fails: Option<RecordType>,
    asked: Vec<Key>,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let (address, served) = (socket.local_addr().unwrap(), Arc::clone(&zone));
        let thread = Some(std::thread::spawn(move || serve(&socket, &served)));
        Self { address, zone, thread }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// These are all records of a name and type from now on.
    pub(crate) fn put(&self, name: &str, ttl: u32, records: impl IntoIterator<Item = RData>) {
        let records: Vec<RData> = records.into_iter().collect();
        let kind = records[0].record_type();
        self.zone.lock().unwrap().records.insert((format!("{name}."), kind), (ttl, records));
    }

    /// Questions for this type are answered with SERVFAIL.
    pub(crate) fn fail(&self, kind: RecordType) {
        self.zone.lock().unwrap().fails = Some(kind);
    }

    /// What was asked for since the last look, without repetitions.
    pub(crate) fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut self.zone.lock().unwrap().asked);
        asked.dedup();
        asked.iter().map(|(name, kind)| format!("{kind} {name}")).collect()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(&[], self.address).unwrap();
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>) {
    let mut buffer = [0; 4096];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if len == 0 {
            return;
        }
        let Ok(query) = Message::from_vec(&buffer[..len]) else { continue };
        let response = answer(&query, &mut zone.lock().unwrap());
        socket.send_to(&response.to_vec().unwrap(), from).unwrap();
    }
}

fn answer(query: &Message, zone: &mut Zone) -> Message {
    let question = query.queries[0].clone();
    let (name, kind) = (question.name().to_ascii().to_ascii_lowercase(), question.query_type());
    let mut response = Message::response(query.metadata.id, OpCode::Query);
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    match zone.records.get(&(name.clone(), kind)) {
        _ if zone.fails == Some(kind) => response.metadata.response_code = ResponseCode::ServFail,
        Some((ttl, records)) => {
            let records =
                records.iter().map(|data| Record::from_rdata(question.name().clone(), *ttl, data.clone()));
            response.add_answers(records);
        }
        None if zone.records.keys().any(|(known, _)| *known == name) => {}
        None => response.metadata.response_code = ResponseCode::NXDomain,
    }
    zone.asked.push((name, kind));
    response
}

pub(crate) fn a(last: u8) -> RData {
    RData::A(A::new(127, 0, 0, last))
}

pub(crate) fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(format!("{target}.")).unwrap()))
}

pub(crate) fn naptr(order: u16, services: &str, replacement: &str) -> RData {
    let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    let replacement = Name::from_ascii(format!("{replacement}.")).unwrap();
    RData::NAPTR(NAPTR::new(order, 10, bytes("s"), bytes(services), bytes(""), replacement))
}
