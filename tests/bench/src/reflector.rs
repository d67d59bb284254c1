//! The limit: a bare UDP reflector on loopback, one datagram in and the same out.

use crate::report::Report;
use anyhow::Result;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Datagrams kept in flight.
const WINDOW: usize = 32;

/// Round trips a second of 600-byte datagrams, and the reflector thread's CPU for each.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn run(report: &mut Report, seconds: u64) -> Result<()> {
    let server = UdpSocket::bind("127.0.0.1:0")?;
    server.set_read_timeout(Some(Duration::from_millis(50)))?;
    let target = server.local_addr()?;
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((len, from)) = server.recv_from(&mut buffer) {
                    let _ = server.send_to(&buffer[..len], from);
                }
            }
            let own = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
            own.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
        })
    };
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.connect(target)?;
    client.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (payload, mut buffer) = ([b'x'; 600], [0u8; 2048]);
    let (begun, mut trips) = (Instant::now(), 0u64);
    while begun.elapsed() < Duration::from_secs(seconds.min(3)) {
        for _ in 0..WINDOW {
            client.send(&payload)?;
        }
        trips += (0..WINDOW).take_while(|_| client.recv(&mut buffer).is_ok()).count() as u64;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let nanos = thread.join().map_err(|_| anyhow::anyhow!("the reflector panicked"))?;
    report.add("limit", "reflector", 0, "round_trips_per_s", trips as f64 / elapsed);
    report.add("limit", "reflector", 0, "cpu_us", nanos as f64 / 1e3 / trips.max(1) as f64);
    Ok(())
}
