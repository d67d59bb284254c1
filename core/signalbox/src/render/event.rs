//! One event in one line: time, tenant, type, what it is about, what happened, and the detail.

use super::human::{Clock, duration};
use super::safe;
use signalbox_bus::Delivered;
use signalbox_schemas::call::{CallRouted, Cdr};
use signalbox_schemas::values::Timestamp;
use signalbox_schemas::{Event, ReadError};
use std::time::Duration;

/// The columns of an event's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `14:03:07.412`
    pub time: String,
    /// Tenant, `–` for none.
    pub tenant: String,
    /// `call.answered`
    pub kind: String,
    /// The aggregate, short and good to paste.
    pub about: String,
    /// What happened.
    pub what: String,
    /// More about it.
    pub detail: String,
}

impl Line {
    /// Of an event as a bus delivers it.
    #[must_use]
    pub fn of(event: &Delivered, clock: &Clock) -> Self {
        let kind = event.kind.rsplit_once(".v").map_or(&*event.kind, |(short, _)| short).to_owned();
        let (what, detail) = match Event::read(&event.kind, &event.data) {
            Ok(read) => describe(&read, clock),
            Err(ReadError::Invalid { detail, .. }) => ("does not read".to_owned(), detail),
            Err(e) => (e.to_string(), String::new()),
        };
        let about = if event.correlation.is_empty() { &event.subject } else { &event.correlation };
        let clean = |text: &str| safe(text).into_owned();
        Self {
            time: clock.time_ms(event.time),
            tenant: if event.tenant.is_empty() { "–".into() } else { event.tenant.to_string() },
            kind,
            about: clean(about),
            what: clean(&what),
            detail: clean(&detail),
        }
    }

    /// The line, in columns that fit most events.
    #[must_use]
    pub fn print(&self) -> String {
        let Self { time, tenant, kind, about, what, detail } = self;
        let text = format!("{time}  {tenant:<8}  {kind:<22}  {about:<14}  {what:<36}  {detail}");
        text.trim_end().to_owned()
    }
}

fn ms(value: u64) -> String {
    duration(Duration::from_millis(value))
}

fn opt(label: &str, value: Option<impl ToString>) -> String {
    value.map(|v| format!("{label}{}", v.to_string())).unwrap_or_default()
}

/// Of a list that is cut.
fn all(listed: usize, more: Option<u64>) -> u64 {
    listed as u64 + more.unwrap_or_default()
}

fn list(parts: &[String]) -> String {
    parts.iter().filter(|p| !p.is_empty()).cloned().collect::<Vec<_>>().join(", ")
}

fn at(stamp: Timestamp, clock: &Clock) -> String {
    clock.time_ms(stamp.0)
}

/// What happened, and the detail.
#[must_use]
pub fn describe(event: &Event, clock: &Clock) -> (String, String) {
    match event {
        Event::RegistrationAdded(_)
        | Event::RegistrationRefreshed(_)
        | Event::RegistrationRemoved(_)
        | Event::RegistrationExpired(_)
        | Event::RegistrationRejected(_)
        | Event::RegistrationOutboundChanged(_) => registration(event, clock),
        Event::SubscriptionStarted(_)
        | Event::SubscriptionRefreshed(_)
        | Event::SubscriptionEnded(_)
        | Event::SubscriptionRejected(_) => subscription(event, clock),
        Event::CallEnded(cdr) => (ended(cdr), result(cdr)),
        Event::CallFailed(failed) => {
            (format!("{} at {}", failed.cdr.category, failed.stage), result(&failed.cdr))
        }
        Event::CallAttempted(_)
        | Event::CallRouted(_)
        | Event::CallProgressed(_)
        | Event::CallAnswered(_)
        | Event::CallModified(_)
        | Event::CallReinvited(_)
        | Event::CallDismissed(_)
        | Event::CallTransferred(_)
        | Event::CallCheckpointed(_)
        | Event::CallRecovered(_) => call(event),
        Event::BackendStateChanged(e) => {
            let probe = list(&[
                opt("probe ", e.probe_status),
                opt("rtt ", e.rtt_ms.map(ms)),
                opt("was down ", e.down_ms.map(ms)),
                opt("by ", e.actor.clone()),
            ]);
            (format!("{} → {} ({})", e.from, e.to, e.cause), probe)
        }
        Event::BackendPoolDegraded(e) => (format!("{} of {} healthy", e.healthy, e.total), String::new()),
        Event::SecurityRequestRejected(e) => {
            let source = opt("from ", e.source);
            let detail = list(&[
                opt("", e.reason.clone()),
                opt("method ", e.method.clone()),
                opt("domain ", e.domain.clone()),
            ]);
            (format!("{} × {} {source}", e.rule, e.count), detail)
        }
        Event::SecurityAuthFailed(e) => {
            (format!("{} × {} {}", e.method, e.count, opt("from ", e.source)), opt("", e.aor.clone()))
        }
        Event::SecurityTlsFailed(e) => {
            let way = if e.outbound { "to " } else { "from " };
            (format!("TLS × {} {}", e.count, opt(way, e.source)), e.reason.to_string())
        }
        other => edge(other, clock),
    }
}

fn subscription(event: &Event, clock: &Clock) -> (String, String) {
    let who =
        |package: &str, subscriber: &str, notifier: &str| format!("{package}: {subscriber} → {notifier}");
    let until = |expires: Option<Timestamp>| opt("until ", expires.map(|e| at(e, clock)));
    match event {
        Event::SubscriptionStarted(e) => {
            let detail = list(&[until(e.expires_at), opt("via ", e.backend.clone())]);
            (who(&e.package, &e.subscriber, &e.notifier), detail)
        }
        Event::SubscriptionRefreshed(e) => (who(&e.package, &e.subscriber, &e.notifier), until(e.expires_at)),
        Event::SubscriptionEnded(e) => {
            (who(&e.package, &e.subscriber, &e.notifier), list(&[e.reason.to_string(), opt("", e.status)]))
        }
        Event::SubscriptionRejected(e) => {
            let status = format!("{} {}", e.status, opt("", e.reason.clone()));
            (who(&e.package, &e.subscriber, &e.notifier), format!("{status} by {}", e.by))
        }
        _ => Default::default(),
    }
}

fn registration(event: &Event, clock: &Clock) -> (String, String) {
    match event {
        Event::RegistrationAdded(e) => {
            let received = opt("seen at ", e.received.map(|a| a.to_string()));
            let detail = list(&[
                format!("until {}", at(e.expires_at, clock)),
                received,
                opt("via ", e.backend.clone()),
            ]);
            (e.contact.to_string(), detail)
        }
        Event::RegistrationRefreshed(e) => {
            let moved = match (&e.received_before, &e.received) {
                (Some(old), Some(new)) => format!("moved {old} → {new}"),
                _ => String::new(),
            };
            (e.contact.to_string(), list(&[format!("until {}", at(e.expires_at, clock)), moved]))
        }
        Event::RegistrationRemoved(e) => (e.contact.to_string(), format!("by {}", e.reason)),
        Event::RegistrationExpired(e) => {
            (e.contact.to_string(), format!("last seen {}", at(e.last_seen_at, clock)))
        }
        Event::RegistrationRejected(e) => (format!("{} {}", e.status, e.reason), format!("by {}", e.by)),
        Event::RegistrationOutboundChanged(e) => {
            let until = opt("until ", e.expires_at.map(|until| at(until, clock)));
            let said = list(&[opt("", e.status), opt("", e.reason.clone())]);
            (format!("{} → {} at {}", e.from, e.to, e.registrar), list(&[said, until]))
        }
        _ => Default::default(),
    }
}

fn call(event: &Event) -> (String, String) {
    match event {
        Event::CallAttempted(e) => {
            let flow = e.flow.as_ref().map(|f| format!("{} {}", f.transport, f.remote)).unwrap_or_default();
            (format!("{} → {}", short_uri(&e.from_uri), e.callee), list(&[e.side.to_string(), flow]))
        }
        Event::CallRouted(e) => (format!("attempt {} → {}", e.attempt, e.target.name), why(e)),
        Event::CallProgressed(e) => (
            format!("{} after {}", e.status, ms(e.pdd_ms)),
            if e.early_media { "early media".into() } else { String::new() },
        ),
        Event::CallAnswered(e) => {
            (list(&[format!("setup {}", ms(e.setup_ms)), opt("pdd ", e.pdd_ms.map(ms))]), e.codecs.join(" "))
        }
        Event::CallModified(e) => (format!("{} by {}", e.kind, e.by), e.codecs.join(" ")),
        Event::CallReinvited(e) => (format!("by {}", e.by), format!("CSeq {}", e.cseq)),
        Event::CallDismissed(e) => {
            (format!("attempt {}: {} came too late", e.attempt, e.status), e.peer.to_string())
        }
        Event::CallTransferred(e) => (format!("{} to {}", e.kind, e.target), e.outcome.to_string()),
        Event::CallCheckpointed(e) => (format!("{} so far", ms(e.elapsed_ms)), String::new()),
        Event::CallRecovered(e) => (format!("after {}", e.cause), format!("gap {}", ms(e.gap_ms))),
        _ => Default::default(),
    }
}

fn why(e: &CallRouted) -> String {
    let weight = match (e.why.weight, e.why.weight_total) {
        (Some(w), Some(total)) => format!("weight {w} of {total}"),
        _ => String::new(),
    };
    let failover = match (&e.why.failover_from, e.why.failover_status) {
        (Some(from), Some(status)) => format!("failover from {from} ({status})"),
        (Some(from), None) => format!("failover from {from} (no answer)"),
        _ => String::new(),
    };
    let basis = e.why.basis.to_string();
    list(&[
        if weight.is_empty() && failover.is_empty() { basis } else { String::new() },
        opt("by ", e.why.rule.as_ref()),
        opt("priority ", e.why.priority),
        weight,
        failover,
    ])
}

fn ended(cdr: &Cdr) -> String {
    format!("{}, by {}", ms(cdr.billable_ms), cdr.released_by)
}

fn result(cdr: &Cdr) -> String {
    let completeness = cdr.completeness.to_string();
    let estimated = if completeness == "normal" { String::new() } else { completeness };
    list(&[format!("{} {}", cdr.status, cdr.category), opt("Q.850 ", cdr.q850_cause), estimated])
}

fn edge(event: &Event, clock: &Clock) -> (String, String) {
    match event {
        Event::EdgeStarted(e) => {
            let recovered =
                format!("{} call(s), {} binding(s) recovered", e.calls_recovered, e.bindings_recovered);
            (
                format!("version {}", e.version),
                list(&[recovered, if e.clean { String::new() } else { "after a crash".into() }]),
            )
        }
        Event::EdgeDraining(e) => (
            format!("{} call(s) left", e.calls_left),
            e.deadline_at.map(|d| format!("deadline {}", at(d, clock))).unwrap_or_default(),
        ),
        Event::EdgeStopped(e) => {
            (if e.clean { "clean" } else { "not clean" }.to_owned(), format!("{} call(s) left", e.calls_left))
        }
        Event::EdgeLost(e) => {
            (format!("last heard {}", at(e.last_heard_at, clock)), format!("noticed by {}", e.detected_by))
        }
        Event::EdgeReturned(e) => {
            (format!("last heard {}", at(e.last_heard_at, clock)), format!("noticed by {}", e.detected_by))
        }
        Event::EdgeClockStepped(e) => (format!("by {} ms", e.step_ms), String::new()),
        Event::EdgeOverloaded(e) => (format!("{} {}", e.resource, e.level), format!("{} shed", e.shed)),
        Event::EdgeCertificateExpiring(e) => {
            (e.subject.to_string(), format!("not after {}", at(e.not_after, clock)))
        }
        Event::JournalSealed(e) => {
            (format!("segment {} to {}", e.segment, e.last_sequence), format!("{} bytes", e.bytes))
        }
        Event::JournalOverrun(e) => {
            (format!("{} lost {} to {}", e.sink, e.first_sequence, e.last_sequence), String::new())
        }
        Event::ConfigApplied(e) => (
            format!("revision {}", e.revision),
            list(&[format!("{} change(s)", all(e.diff.len(), e.more)), opt("by ", e.actor.clone())]),
        ),
        Event::ConfigRejected(e) => {
            (format!("{} error(s)", all(e.errors.len(), e.more)), opt("by ", e.actor.clone()))
        }
        Event::AdminActed(e) => (
            list(&[e.action.to_string(), opt("", e.target.clone())]),
            format!("{} by {}", e.outcome, e.actor),
        ),
        Event::ProjectionRebuilt(e) => (
            format!("{} event(s), {} row(s) carried over", e.events, e.carried_rows),
            format!("{} ms, {}", e.duration_ms, e.reason),
        ),
        Event::ProjectionParked(e) => (format!("{} of {}", e.kind, e.aggregate), e.error_class.to_string()),
        Event::ProjectionResumed(e) => {
            (format!("{}, {} event(s)", e.aggregate, e.events), e.decision.to_string())
        }
        _ => Default::default(),
    }
}

/// `sip:401@acme.test` as `401@acme.test`.
fn short_uri(uri: &str) -> &str {
    uri.strip_prefix("sips:").or_else(|| uri.strip_prefix("sip:")).unwrap_or(uri)
}
