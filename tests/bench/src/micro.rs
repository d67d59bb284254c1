//! Parse and forward: nanoseconds and allocations for a 700-byte INVITE.

use crate::messages;
use crate::report::Report;
use signalbox_sip::{Forward, HeaderName, Limits, Message};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(80);

/// Nanoseconds a call: the least of several rounds, since everything else on the machine only adds.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn nanos(mut work: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let (begun, mut count) = (Instant::now(), 0u64);
        while begun.elapsed() < ROUND {
            (0..256).for_each(|_| work());
            count += 256;
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / count as f64);
    }
    best
}

fn measure(report: &mut Report, part: &str, mut work: impl FnMut()) {
    work();
    let allocations = allocation_counter::measure(&mut work).count_total;
    report.add(part, "signalbox", 0, "allocations", allocations as f64);
    report.add(part, "signalbox", 0, "ns", nanos(work));
}

/// Measures both.
pub(crate) fn run(report: &mut Report) {
    let invite = messages::sample_invite();
    report.add("parse", "message", 0, "bytes", invite.len() as f64);
    measure(report, "parse", || {
        black_box(Message::parse(black_box(invite.as_slice()), &Limits::DATAGRAM).is_ok());
    });
    measure(report, "parse+keys", || {
        let message = Message::parse(black_box(invite.as_slice()), &Limits::DATAGRAM)
            .expect("the sample is well formed");
        black_box((
            message.call_id(),
            message.from_tag(),
            message.to_tag(),
            message.top_via().is_ok(),
            message.cseq().number,
        ));
    });
    let mut out = Vec::with_capacity(2048);
    measure(report, "forward", || {
        let message = Message::parse(black_box(invite.as_slice()), &Limits::DATAGRAM)
            .expect("the sample is well formed");
        let mut forward = Forward::new(&message);
        forward.insert_first(HeaderName::Via, "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK0123456789a;rport");
        forward.insert_first(HeaderName::RecordRoute, "<sip:192.0.2.9:5060;lr>");
        forward.decrement_max_forwards().expect("the sample has one");
        out.clear();
        forward.write_into(&mut out);
        black_box(out.len());
    });
}
