//! Header rules of peers, applied to a message as it was written: those of whom it comes from, then those of whom it goes to.
//! Between the two sides what the edge itself guards and hides is gone already, so no rule lets it through.
//!
//! What no rule names keeps its bytes and its place, and fields that are written anew stand behind all others. Messages of the
//! edge's own (probes, CANCEL, refusals) have no rules.

use crate::call::CLAIMS;
use crate::settings::{FieldName, FieldValue, HeaderAction, HeaderRule, Part, Rules, is_owned};
use signalbox_sip::{HeaderName, Message, Put};
use smallvec::SmallVec;

/// Applies the rules of two peers of a tenant, by their names (none is a phone), to the message that was written to `out` from
/// `start` on. Costs nothing where nobody has rules.
pub(crate) fn cross(
    rules: &Rules,
    tenant: &str,
    [from, to]: [Option<&str>; 2],
    out: &mut Vec<u8>,
    start: usize,
) {
    enter(rules, tenant, from, out, start);
    if let Some(rules) = rules.borders.of(tenant, to).and_then(|border| border.to.as_deref()) {
        rewrite(rules, &Words { tenant, peer: to, guarded: false }, out, start);
    }
}

/// A request of a peer as routes look at it; none where it is as it came.
pub(crate) fn entered<B: AsRef<[u8]>>(
    rules: &Rules,
    tenant: &str,
    from: Option<&str>,
    request: &Message<B>,
) -> Option<Vec<u8>> {
    rules.borders.of(tenant, from)?.from.as_ref()?;
    let mut bytes = request.as_bytes().to_vec();
    enter(rules, tenant, from, &mut bytes, 0);
    Some(bytes)
}

fn enter(rules: &Rules, tenant: &str, from: Option<&str>, out: &mut Vec<u8>, start: usize) {
    if let Some(rules) = rules.borders.of(tenant, from).and_then(|border| border.from.as_deref()) {
        // A phone's own claims are gone: what says so now is the edge's word.
        rewrite(rules, &Words { tenant, peer: from, guarded: from.is_none() }, out, start);
    }
}

/// What is put into values, and whether claims are the edge's own.
struct Words<'w> {
    tenant: &'w str,
    peer: Option<&'w str>,
    guarded: bool,
}

/// A header field of a head, with its line end.
struct Field<'m, 'r> {
    id: HeaderName,
    name: &'m [u8],
    line: &'m [u8],
    now: Now<'r>,
}

/// What becomes of a field.
#[derive(Clone, Copy)]
enum Now<'r> {
    AsItWas,
    Gone,
    Says(&'r FieldValue),
}

impl Field<'_, '_> {
    fn is_gone(&self) -> bool {
        matches!(self.now, Now::Gone)
    }
}

/// Fields beside those that were there.
type Added<'r> = SmallVec<[(&'r FieldName, &'r FieldValue); 8]>;

fn rewrite(rules: &[HeaderRule], words: &Words<'_>, out: &mut Vec<u8>, start: usize) {
    let written = out.split_off(start);
    let is_response = written.starts_with(b"SIP/2.0 ");
    let first = line_len(&written);
    let (mut fields, rest) = fields(&written[first..]);
    let mut added = Added::new();
    for rule in rules.iter().filter(|rule| if is_response { rule.responses } else { rule.requests }) {
        let open = |field: &&mut Field<'_, '_>| {
            !(field.is_gone() || is_owned(field.id) || words.guarded && CLAIMS.contains(&field.id))
        };
        match &rule.action {
            HeaderAction::Remove(names) => {
                let takes = |id, name: &[u8]| names.iter().any(|pattern| pattern.takes(id, name));
                let found = fields.iter_mut().filter(open).filter(|field| takes(field.id, field.name));
                found.for_each(|field| field.now = Now::Gone);
                added.retain(|(name, _)| !takes(name.id(), name.as_str().as_bytes()));
            }
            HeaderAction::Set(name, value) => {
                let mut found =
                    fields.iter_mut().filter(open).filter(|field| name.is(field.id, field.name)).peekable();
                let is_new = found.peek().is_none();
                let mut now = Now::Says(value);
                found.for_each(|field| field.now = std::mem::replace(&mut now, Now::Gone));
                added.retain(|(other, _)| !other.same(name));
                added.extend(is_new.then_some((name, value)));
            }
            HeaderAction::Add(name, value) => {
                let is_there = fields.iter().any(|field| !field.is_gone() && name.is(field.id, field.name))
                    || added.iter().any(|(other, _)| other.same(name));
                added.extend((!is_there).then_some((name, value)));
            }
        }
    }
    out.extend_from_slice(&written[..first]);
    for field in &fields {
        match field.now {
            Now::AsItWas => out.extend_from_slice(field.line),
            Now::Gone => {}
            Now::Says(value) => write(field.name, value, words, out),
        }
    }
    added.iter().for_each(|(name, value)| write(name.as_str().as_bytes(), value, words, out));
    out.extend_from_slice(rest);
}

fn write(name: &[u8], value: &FieldValue, words: &Words<'_>, out: &mut Vec<u8>) {
    (name, ": ").put(out);
    for part in value.parts() {
        match part {
            Part::Text(text) => text.as_str().put(out),
            Part::Tenant => words.tenant.put(out),
            // A phone has none: such rules are refused where they are read.
            Part::Peer => words.peer.unwrap_or_default().put(out),
        }
    }
    "\r\n".put(out);
}

/// The fields of a head without its start line, and what follows from the empty line on.
fn fields<'m, 'r>(mut rest: &'m [u8]) -> (SmallVec<[Field<'m, 'r>; 48]>, &'m [u8]) {
    let mut found = SmallVec::new();
    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        let (line, behind) = rest.split_at(line_len(rest));
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
        found.push(Field { id: HeaderName::from_bytes(name), name, line, now: Now::AsItWas });
        rest = behind;
    }
    (found, rest)
}

/// Bytes of the first line with its folds (RFC 3261 §7.3.1) and its end.
fn line_len(text: &[u8]) -> usize {
    let mut ends = text.windows(2).enumerate().filter(|(_, pair)| *pair == b"\r\n").map(|(at, _)| at + 2);
    ends.find(|end| !matches!(text.get(*end), Some(b' ' | b'\t'))).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::NamePattern;
    use proptest::prelude::*;

    fn names(text: &str) -> Vec<NamePattern> {
        text.split(' ').map(|name| NamePattern::parse(name).expect("a pattern")).collect()
    }

    fn pair(name: &str, value: &str) -> (FieldName, FieldValue) {
        (FieldName::parse(name).expect("a name"), FieldValue::parse(value).expect("a value"))
    }

    fn remove(text: &str) -> HeaderRule {
        HeaderRule { action: HeaderAction::Remove(names(text)), requests: true, responses: true }
    }

    fn set(name: &str, value: &str) -> HeaderRule {
        let (name, value) = pair(name, value);
        HeaderRule { action: HeaderAction::Set(name, value), requests: true, responses: true }
    }

    fn add(name: &str, value: &str) -> HeaderRule {
        let (name, value) = pair(name, value);
        HeaderRule { action: HeaderAction::Add(name, value), requests: true, responses: true }
    }

    /// A request with these lines through these rules.
    fn through(rules: &[HeaderRule], lines: &str) -> String {
        let mut out = format!("before INVITE sip:a@b SIP/2.0\r\n{lines}\r\nbody: X-A").into_bytes();
        rewrite(rules, &Words { tenant: "acme", peer: Some("pbx"), guarded: false }, &mut out, 7);
        let out = String::from_utf8(out).expect("text");
        let lines = out.strip_prefix("before INVITE sip:a@b SIP/2.0\r\n").expect("what was before stays");
        lines.strip_suffix("\r\nbody: X-A").expect("the body stays").to_owned()
    }

    #[test]
    fn given_rules_in_order_then_each_sees_what_those_before_it_left() {
        let lines = "Via: a\r\nX-A: 1\r\nSubject : x\r\n y\r\nx-a: 2\r\n";
        for (rules, expected) in [
            (vec![remove("X-A")], "Via: a\r\nSubject : x\r\n y\r\n"),
            (vec![remove("s X-*")], "Via: a\r\n"),
            (vec![set("X-a", "{tenant} {peer}")], "Via: a\r\nX-A: acme pbx\r\nSubject : x\r\n y\r\n"),
            (vec![set("X-B", "b"), set("X-B", "c")], &format!("{lines}X-B: c\r\n")),
            (vec![add("X-A", "3")], lines),
            (
                vec![add("X-B", "3"), add("x-b", "4"), add("X-C", "5")],
                &format!("{lines}X-B: 3\r\nX-C: 5\r\n"),
            ),
            (vec![remove("X-A"), add("X-A", "3")], "Via: a\r\nSubject : x\r\n y\r\nX-A: 3\r\n"),
            (vec![set("X-B", "b"), remove("X-*")], "Via: a\r\nSubject : x\r\n y\r\n"),
            (vec![remove("*")], "Via: a\r\n"),
        ] {
            assert_eq!(through(&rules, lines), expected, "{rules:?}");
        }
    }

    #[test]
    fn given_rules_for_responses_then_requests_pass_as_they_are_and_the_other_way_round() {
        let rules = [HeaderRule { requests: false, ..set("Server", "x") }];
        assert_eq!(through(&rules, "Server: y\r\n"), "Server: y\r\n");
        let mut out = b"SIP/2.0 200 OK\r\nServer: y\r\n\r\n".to_vec();
        rewrite(&rules, &Words { tenant: "", peer: None, guarded: false }, &mut out, 0);
        assert_eq!(out, b"SIP/2.0 200 OK\r\nServer: x\r\n\r\n");
    }

    /// A line whose name rules may or may not be about.
    fn line() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "Via",
            "v",
            "Contact",
            "From",
            "t",
            "Content-Length",
            "X-A",
            "x-b",
            "X-Abc",
            "Subject",
            "s",
            "User-Agent",
        ]);
        (name, "[ -~]{0,20}", any::<bool>()).prop_map(|(name, value, folded)| {
            format!("{name}: {value}{}\r\n", if folded { "\r\n\tfold: x" } else { "" })
        })
    }

    fn rule() -> impl Strategy<Value = HeaderRule> {
        let named = || prop::sample::select(vec!["X-A", "X-B", "Subject", "User-Agent", "X-New"]);
        prop_oneof![
            prop::sample::select(vec!["X-*", "*", "S*", "X-A", "C*", "User-Agent X-B"]).prop_map(remove),
            named().prop_map(|name| set(name, "set")),
            named().prop_map(|name| add(name, "added")),
        ]
    }

    fn is_named(rules: &[HeaderRule], line: &str) -> bool {
        let name = line.split(':').next().expect("a name").as_bytes();
        let id = HeaderName::from_bytes(name);
        let by = |rule: &HeaderRule| match &rule.action {
            HeaderAction::Remove(names) => names.iter().any(|pattern| pattern.takes(id, name)),
            HeaderAction::Set(this, _) | HeaderAction::Add(this, _) => this.is(id, name),
        };
        !is_owned(id) && rules.iter().any(by)
    }

    proptest! {
        #[test]
        fn what_no_rule_names_keeps_its_bytes_and_its_order_and_rules_twice_are_rules_once(
            lines in prop::collection::vec(line(), 0..20),
            rules in prop::collection::vec(rule(), 0..6),
        ) {
            let unnamed = |lines: &[String]| -> Vec<String> {
                lines.iter().filter(|line| !is_named(&rules, line)).cloned().collect()
            };
            let split = |head: &str| -> Vec<String> {
                let (found, rest) = fields(head.as_bytes());
                assert!(rest.is_empty());
                found.iter().map(|field| String::from_utf8_lossy(field.line).into_owned()).collect()
            };
            let once = through(&rules, &lines.concat());
            prop_assert_eq!(unnamed(&split(&once)), unnamed(&lines));
            let sorted = |head: &str| {
                let mut lines = split(head);
                lines.sort();
                lines
            };
            prop_assert_eq!(sorted(&through(&rules, &once)), sorted(&once));
        }

        #[test]
        fn any_bytes_are_taken_and_without_rules_they_stay(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = bytes.clone();
            rewrite(&[], &Words { tenant: "", peer: None, guarded: false }, &mut out, 0);
            prop_assert_eq!(out, bytes);
        }
    }
}
