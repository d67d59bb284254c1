//! `signalbox check --live`: what the configuration names, tried for real.

use super::Out;
use crate::config::Loaded;
use crate::config::model::File;
use crate::errors::Failure;
use crate::identity;
use serde_json::json;
use signalbox_base::Transport;
use signalbox_bus::publisher::Failure as NotConnected;
use signalbox_edge::dns::Dns;
use signalbox_engine::settings::BackendSettings;
use signalbox_engine::tenancy::Directory;
use signalbox_engine::{ResolvedTarget, Settings};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// How long a backend may take to answer an OPTIONS.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long the bus may take to answer everything that it is asked.
const BUS_WITHIN: Duration = Duration::from_secs(20);

/// Probes every backend and trunk, asks the store and the bus; one failure decides the exit code, all are printed.
pub fn check(out: &Out, loaded: &Loaded, settings: &Settings) -> Result<(), Failure> {
    let mut told = Told { out, failed: 0 };
    let runtime = super::runtime()?;
    let dns = Dns::new(&loaded.file.dns.servers());
    for (_, found) in Directory::peers(settings) {
        let name = found.tenant.map_or_else(String::new, |tenant| format!("{}/", tenant.name));
        let name = name + &found.backend.name;
        match runtime.block_on(places(settings, &dns, found.backend)) {
            Ok(places) => each_place(&mut told, &name, &places)?,
            Err(why) => told.failed(&name, &why)?,
        }
    }
    runtime.block_on(async {
        let pinged = async { super::open_store(loaded).await?.ping().await.map_err(Failure::from) }.await;
        match pinged {
            Ok(()) => told.good("store", "good")?,
            Err(why) => told.failed("store", &why.to_string())?,
        }
        bus(&mut told, &loaded.file).await
    })?;
    if told.failed == 0 {
        return Ok(());
    }
    Err(Failure::new(crate::errors::CONFIG, format!("{} live check(s) failed", told.failed))
        .fix("see the lines above"))
}

/// Whether the relay could publish, each thing that keeps it from that with what to do.
async fn bus(told: &mut Told<'_>, file: &File) -> Result<(), Failure> {
    let bus = &file.bus;
    let edge = identity::known_name(file);
    let client = format!("signalbox {}/{edge} check", file.edge.cluster);
    let Some(broker) = bus.broker(client, &edge) else {
        return told.good("bus", &bus.describe());
    };
    let name = bus.describe();
    match tokio::time::timeout(BUS_WITHIN, broker.inspect(&edge)).await {
        Ok(Ok(found)) => {
            for note in &found.notes {
                told.line("bus", "note", note)?;
            }
            for wrong in &found.wrong {
                told.failed("bus", wrong)?;
            }
            if found.wrong.is_empty() { told.good("bus", &format!("{name}: good")) } else { Ok(()) }
        }
        Ok(Err(why @ NotConnected::Denied(_))) => {
            let section = bus.kind.as_str();
            told.failed(
                "bus",
                &format!("{name}: {why}: correct the login in [bus.{section}], or its rights there"),
            )
        }
        Ok(Err(why)) => told.failed("bus", &format!("{name}: {why}: start it, or correct bus.url")),
        Err(_) => {
            let within = BUS_WITHIN.as_secs();
            told.failed("bus", &format!("{name}: no answer within {within} s: start it, or correct bus.url"))
        }
    }
}

/// Lines for people, objects for programs.
struct Told<'a> {
    out: &'a Out,
    failed: usize,
}

impl Told<'_> {
    fn good(&self, what: &str, text: &str) -> Result<(), Failure> {
        self.line(what, "good", text)
    }

    fn failed(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        self.failed += 1;
        self.line(what, "failed", text)
    }

    fn line(&self, what: &str, state: &str, text: &str) -> Result<(), Failure> {
        if self.out.json {
            return self.out.object(&json!({ "check": what, "state": state, "text": text }));
        }
        let mark = if state == "note" { "note: " } else { "" };
        self.out.line(&format!("{what}  {mark}{text}"))
    }
}

/// Where a backend is: its address, or what DNS says of its name.
async fn places(
    settings: &Settings,
    dns: &Result<Dns, String>,
    backend: &BackendSettings,
) -> Result<Vec<ResolvedTarget>, String> {
    let Some(question) = settings.question(backend.network, &backend.address) else {
        let address = backend.address.literal.ok_or("it has no address")?;
        let (transport, host) = (backend.address.transport, backend.address.host.clone());
        return Ok(vec![ResolvedTarget { address, transport, priority: 0, weight: 0, host }]);
    };
    let found = match dns {
        Ok(dns) => dns.find(&question).await,
        Err(why) => Err(why.clone()),
    };
    let host = &backend.address.host;
    match found {
        Ok(found) if found.targets.is_empty() => Err(format!("{host} has no address")),
        Ok(found) => Ok(found.targets),
        Err(why) => Err(format!("{host} does not resolve: {why}")),
    }
}

/// A backend is there when one of its places is; all are told.
fn each_place(told: &mut Told<'_>, name: &str, places: &[ResolvedTarget]) -> Result<(), Failure> {
    let by_name = places.first().is_some_and(|first| first.host.parse::<IpAddr>().is_err());
    let mut answered = Vec::new();
    let mut silent = Vec::new();
    for place in places {
        let ResolvedTarget { address, transport, priority, weight, ref host } = *place;
        if by_name {
            let text =
                format!("{host} is {transport}:{address}, priority {}, weight {weight}", priority & 0xFFFF);
            told.line(name, "note", &text)?;
        }
        match probe(transport, address) {
            Ok(answer) => answered.push(answer),
            Err(why) => silent.push(format!("no answer by {address}: {why}")),
        }
    }
    for why in &silent {
        if answered.is_empty() { told.failed(name, why)? } else { told.line(name, "note", why)? }
    }
    answered.iter().try_for_each(|answer| told.good(name, answer))
}

/// An OPTIONS over UDP; over anything else whether it takes a connection.
fn probe(transport: Transport, target: SocketAddr) -> Result<String, String> {
    if transport != Transport::Udp {
        let connected = TcpStream::connect_timeout(&target, ANSWER_WITHIN);
        return connected.map(|_| format!("{target} takes connections")).map_err(|e| e.to_string());
    }
    let bind = if target.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(bind).map_err(|e| e.to_string())?;
    socket.connect(target).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).map_err(|e| e.to_string())?;
    let local = socket.local_addr().map_err(|e| e.to_string())?;
    let id = std::process::id();
    let options = format!(
        "OPTIONS sip:{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKcheck{id};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:check@{local}>;tag=check{id}\r\nTo: <sip:{target}>\r\nCall-ID: check-{id}@{local}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    socket.send(options.as_bytes()).map_err(|e| e.to_string())?;
    let mut buffer = [0u8; 65_535];
    let len = socket.recv(&mut buffer).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => format!("nothing within {} s", ANSWER_WITHIN.as_secs()),
        _ => e.to_string(),
    })?;
    let first = buffer[..len].split(|b| *b == b'\r').next().unwrap_or_default();
    Ok(format!("{target} answers {}", String::from_utf8_lossy(first)))
}
