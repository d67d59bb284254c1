//! `signalbox check --live`: what the configuration names, tried for real.

use super::Out;
use crate::config::Loaded;
use crate::errors::Failure;
use signalbox_engine::Settings;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// How long a backend may take to answer an OPTIONS.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Resolves names and probes every backend; the first failure decides the exit code, all are printed.
pub fn check(out: &Out, loaded: &Loaded, settings: &Settings) -> Result<(), Failure> {
    let mut failed = 0usize;
    for tenant in &settings.tenants {
        for backend in &tenant.backends {
            let name = format!("{}/{}", tenant.name, backend.name);
            match probe(&backend.address.host, backend.address.port) {
                Ok(answer) => out.line(&format!("{name}  {answer}"))?,
                Err(why) => {
                    failed += 1;
                    out.line(&format!("{name}  no answer: {why}"))?;
                }
            }
        }
    }
    if let Err(why) = super::runtime()?
        .block_on(async { super::open_store(loaded).await?.ping().await.map_err(Failure::from) })
    {
        failed += 1;
        out.line(&format!("store  {why}"))?;
    } else {
        out.line("store  good")?;
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(crate::errors::CONFIG, format!("{failed} live check(s) failed"))
        .fix("see the lines above"))
}

fn probe(host: &str, port: u16) -> Result<String, String> {
    let target: SocketAddr =
        (host, port).to_socket_addrs().map_err(|e| e.to_string())?.next().ok_or("the name has no address")?;
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
