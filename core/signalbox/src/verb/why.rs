//! `signalbox why`: one thing's story out of the journal, with causes and times.

use super::{Out, load_config, now, runtime};
use crate::args::{Cli, WhyArgs};
use crate::errors::{Failure, NOTHING_FOUND, USAGE};
use crate::history::{History, Range};
use crate::render::{Line, duration};
use crate::verb::tail::Printer;
use serde_json::Value;
use signalbox_base::{CallUid, EventSeq};
use signalbox_bus::{Delivered, Filter, Start};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Events kept for a story; older ones are left out and counted.
const STORY_MAX: usize = 2000;

/// Tells the story.
pub fn run(cli: &Cli, args: &WhyArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let file = load_config(cli)?.file;
    let target = Target::detect(&args.what)?;
    let range = Range::of(&args.window, now())?;
    runtime()?.block_on(async {
        let filter = Filter { kinds: Vec::new(), tenants: args.window.tenant.iter().cloned().collect() };
        let mut story = Story::new(target);
        let start = range.from.map_or(Start::Beginning, Start::Time);
        History::open(&file, filter.clone(), start)
            .await?
            .all(|event| {
                if range.contains(event.time) {
                    story.consider(event);
                }
                Ok(())
            })
            .await?;
        story.check(&args.what)?;
        let printer = Printer::new(&out);
        if out.json {
            return story.events.values().try_for_each(|event| printer.print(event));
        }
        print(&out, &story)
    })
}

fn print(out: &Out, story: &Story) -> Result<(), Failure> {
    out.line(&story.headline())?;
    if story.dropped > 0 {
        out.line(&format!("({} older event(s) left out; narrow it with --since or --from)", story.dropped))?;
    }
    let mut before: Option<&Delivered> = None;
    for event in story.events.values() {
        let gap = before.map(|b| event.time.since(b.time)).unwrap_or_default();
        let line = Line::of(event, &out.clock);
        let cause = match event.causation {
            EventSeq(0) => String::new(),
            seq => {
                story.events.get(&seq).map(|c| format!("  because of {}", short(&c.kind))).unwrap_or_default()
            }
        };
        let text = format!(
            "{}  {:>10}  {:<22}  {:<38}  {}{cause}",
            line.time,
            format!("+{}", duration(gap)),
            line.kind,
            line.what,
            line.detail
        );
        out.line(text.trim_end())?;
        before = Some(event);
    }
    Ok(())
}

fn short(kind: &str) -> &str {
    kind.rsplit_once(".v").map_or(kind, |(short, _)| short)
}

/// What a person may ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Call(CallUid),
    /// `401`, `401@acme.test`, `acme/401@acme.test`, or a backend's name: what it is shows in the events.
    Name {
        tenant: Option<String>,
        name: String,
    },
    Address(IpAddr, Option<u16>),
}

impl Target {
    fn detect(text: &str) -> Result<Self, Failure> {
        let text = text.trim().trim_start_matches("sip:");
        if text.starts_with("c_") {
            return text.parse().map(Self::Call).map_err(|e| {
                Failure::new(USAGE, format!("\"{text}\" is not a call's id: {e}"))
                    .fix("copy it whole from `signalbox tail call` or `cdr`")
            });
        }
        let bare = text.strip_prefix("udp:").unwrap_or(text);
        if let Ok(ip) = bare.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::Address(ip.to_canonical(), None));
        }
        if let Ok(address) = bare.parse::<std::net::SocketAddr>() {
            return Ok(Self::Address(address.ip().to_canonical(), Some(address.port())));
        }
        if text.is_empty() {
            return Err(Failure::new(USAGE, "nothing was named"));
        }
        let (tenant, name) = match text.split_once('/') {
            Some((tenant, name)) => (Some(tenant.to_owned()), name),
            None => (None, text),
        };
        Ok(Self::Name { tenant, name: name.to_owned() })
    }
}

/// The events that belong to the target, and the calls they lead to.
struct Story {
    target: Target,
    events: BTreeMap<EventSeq, Delivered>,
    dropped: usize,
    /// SIP Call-IDs of the call asked about: its other half through the PBX often shares them.
    call_ids: BTreeSet<String>,
    /// Calls that belong.
    calls: BTreeSet<String>,
    /// Subjects that a short name could mean.
    candidates: BTreeSet<String>,
}

impl Story {
    fn new(target: Target) -> Self {
        let calls = match &target {
            Target::Call(uid) => BTreeSet::from([uid.to_string()]),
            _ => BTreeSet::new(),
        };
        Self {
            target,
            events: BTreeMap::new(),
            dropped: 0,
            call_ids: BTreeSet::new(),
            calls,
            candidates: BTreeSet::new(),
        }
    }

    fn consider(&mut self, event: Delivered) {
        let data: Value = serde_json::from_slice(&event.data).unwrap_or(Value::Null);
        if !self.belongs(&event, &data) {
            return;
        }
        if event.domain() == "call" {
            self.calls.insert(event.correlation.to_string());
            for key in ["call_id", "ingress_call_id", "egress_call_id"] {
                if let (Target::Call(_), Some(id)) = (&self.target, data.get(key).and_then(Value::as_str)) {
                    self.call_ids.insert(id.to_owned());
                }
            }
        }
        self.events.insert(event.seq, event);
        if self.events.len() > STORY_MAX {
            self.events.pop_first();
            self.dropped += 1;
        }
    }

    fn belongs(&mut self, event: &Delivered, data: &Value) -> bool {
        if event.domain() == "call" && self.calls.contains(&*event.correlation) {
            return true;
        }
        let field = |key: &str| data.get(key).and_then(Value::as_str);
        match &self.target {
            Target::Call(_) => {
                event.domain() == "call" && field("call_id").is_some_and(|id| self.call_ids.contains(id))
            }
            Target::Address(ip, port) => {
                mentions_address(data, *ip, *port) || *event.subject == *ip.to_string()
            }
            Target::Name { tenant, name } => {
                if tenant.as_ref().is_some_and(|t| **t != *event.tenant) {
                    return false;
                }
                let named = named(event, data, name);
                if named && matches!(event.domain(), "registration" | "backend") && is_about(event, name) {
                    self.candidates.insert(subject_of(event));
                }
                named
            }
        }
    }

    /// A name that several phones or PBXs have is not guessed at.
    fn check(&self, asked: &str) -> Result<(), Failure> {
        if self.events.is_empty() {
            return Err(Failure::new(NOTHING_FOUND, format!("nothing is recorded about {asked}"))
                .fix("a call's id, user@domain, an address or a backend's name; --from widens the time"));
        }
        if self.candidates.len() > 1 {
            let list: Vec<_> = self.candidates.iter().map(|c| format!("  signalbox why {c}")).collect();
            return Err(Failure::new(USAGE, format!("{asked} can mean {} things", self.candidates.len()))
                .fix(format!("ask for one of them:\n{}", list.join("\n"))));
        }
        Ok(())
    }

    fn headline(&self) -> String {
        let count = self.events.len();
        match &self.target {
            Target::Call(uid) => {
                format!("call {uid}: {count} events on {} traversal(s) of the edge", self.calls.len())
            }
            Target::Address(ip, port) => {
                format!("address {ip}{}: {count} events", port.map(|p| format!(":{p}")).unwrap_or_default())
            }
            Target::Name { name, .. } => match self.candidates.first() {
                Some(subject) => format!("{subject}: {count} events, {} call(s)", self.calls.len()),
                None => format!("{name}: {count} events, {} call(s)", self.calls.len()),
            },
        }
    }
}

fn subject_of(event: &Delivered) -> String {
    let prefix = format!("{}/", event.tenant);
    if event.subject.starts_with(&prefix) || event.tenant.is_empty() {
        event.subject.to_string()
    } else {
        format!("{prefix}{}", event.subject)
    }
}

/// Whether the event's own subject is what was named, and not merely something it mentions.
fn is_about(event: &Delivered, name: &str) -> bool {
    let own = event.subject.rsplit('/').next().unwrap_or_default();
    own.eq_ignore_ascii_case(name)
        || (!name.contains('@') && own.split_once('@').is_some_and(|(user, _)| user == name))
}

/// Whether an event is about a phone (`401`, `401@domain`) or a backend of that name.
fn named(event: &Delivered, data: &Value, name: &str) -> bool {
    let is = |text: &str| {
        let text = text.strip_prefix("sips:").or_else(|| text.strip_prefix("sip:")).unwrap_or(text);
        let text = text.split([';', '?']).next().unwrap_or(text);
        text.eq_ignore_ascii_case(name)
            || (!name.contains('@') && text.split_once('@').is_some_and(|(user, _)| user == name))
    };
    let subject = event.subject.rsplit('/').next().unwrap_or_default();
    let field = |key: &str| data.get(key).and_then(Value::as_str).is_some_and(is);
    let target = data.get("target").and_then(|t| t.get("name")).and_then(Value::as_str).is_some_and(is);
    is(subject)
        || target
        || ["aor", "from_uri", "to_uri", "ruri", "caller", "callee", "backend", "ingress_peer", "egress_peer"]
            .iter()
            .any(|k| field(k))
}

/// Whether any value of an event is this address.
fn mentions_address(value: &Value, ip: IpAddr, port: Option<u16>) -> bool {
    match value {
        Value::String(text) => {
            let text = ["udp:", "tcp:", "tls:", "ws:", "wss:"]
                .iter()
                .find_map(|t| text.strip_prefix(t))
                .unwrap_or(text);
            match text.parse::<std::net::SocketAddr>() {
                Ok(address) => address.ip() == ip && port.is_none_or(|p| p == address.port()),
                Err(_) => port.is_none() && text.parse() == Ok(ip),
            }
        }
        Value::Array(list) => list.iter().any(|v| mentions_address(v, ip, port)),
        Value::Object(map) => map.values().any(|v| mentions_address(v, ip, port)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_thing_is_detected() {
        assert!(matches!(Target::detect("c_0aB3dE5fG7h"), Ok(Target::Call(_))));
        assert_eq!(Target::detect("10.0.1.1").unwrap(), Target::Address("10.0.1.1".parse().unwrap(), None));
        assert_eq!(
            Target::detect("udp:10.0.1.1:5060").unwrap(),
            Target::Address("10.0.1.1".parse().unwrap(), Some(5060))
        );
        let name = |tenant: Option<&str>, name: &str| Target::Name {
            tenant: tenant.map(str::to_owned),
            name: name.into(),
        };
        assert_eq!(Target::detect("sip:401@acme.test").unwrap(), name(None, "401@acme.test"));
        assert_eq!(Target::detect("acme/pbx-1").unwrap(), name(Some("acme"), "pbx-1"));
        assert!(Target::detect("c_short").is_err() && Target::detect("").is_err());
    }

    #[test]
    fn an_address_is_not_a_substring() {
        let data =
            serde_json::json!({ "flow": { "remote": "10.0.1.10:5060" }, "received": "udp:10.0.1.10:5060" });
        assert!(!mentions_address(&data, "10.0.1.1".parse().unwrap(), None));
        assert!(mentions_address(&data, "10.0.1.10".parse().unwrap(), Some(5060)));
        assert!(!mentions_address(&data, "10.0.1.10".parse().unwrap(), Some(5061)));
    }
}
