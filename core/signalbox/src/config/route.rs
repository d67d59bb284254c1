//! `[[route]]` and `[[group]]`: where calls go. What is written here is made into the engine's rules, or told to be wrong.

use super::check::Check;
use super::limits::PeerLimits;
use super::model::File;
use super::value::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;
use signalbox_engine::settings as engine;
use std::time::Duration;

/// `[[route]]`: the first in the file that matches a call and leads somewhere decides, whatever stands behind it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// What events and `signalbox route` call it. Default: its place, as `route[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose calls it is for. Default: of whoever owns what `to` names, else of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Which calls: all that is written must hold. Default: every call.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Set on the call, for `tags` of later routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The template by which numbers are written on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Where to. None: tags are set, and the search goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<To>,
}

/// `match` of a route. Of a list one entry must match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// `endpoints`, `backends`, `trunks`, or the name of a backend or trunk.
    #[serde(skip_serializing_if = "Many::is_empty")]
    pub source: Many<String>,
    /// The number or user that was dialled, as it was dialled or in E.164.
    #[serde(skip_serializing_if = "Many::is_empty")]
    pub number: Many<Pattern>,
    /// The domain that the call is in.
    #[serde(skip_serializing_if = "Many::is_empty")]
    pub domain: Many<String>,
    /// The user of From, as it is written or in E.164.
    #[serde(skip_serializing_if = "Many::is_empty")]
    pub caller: Many<Pattern>,
    /// Header fields; all must be there.
    #[serde(skip_serializing_if = "Many::is_empty")]
    pub header: Many<Header>,
    /// When.
    #[serde(skip_serializing_if = "Many::is_empty")]
    pub when: Many<When>,
    /// Tags that earlier routes set; all must be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// One, or a list.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected one value, or a list of such")]
pub enum Many<T> {
    /// One.
    One(T),
    /// Several.
    List(Vec<T>),
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl<T> Many<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::List(list) => list,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

/// A number, user or value: what it begins with, or a table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a prefix, \"anonymous\", { exact = \"…\" } or { regex = \"…\" }")]
pub enum Pattern {
    /// It begins with this; `anonymous` is a caller who does not say who it is.
    Prefix(String),
    /// It is this.
    Exact {
        /// The whole.
        exact: String,
    },
    /// It matches this expression.
    Regex {
        /// The expression, which may match anywhere.
        regex: String,
    },
}

impl Pattern {
    pub(super) const FIX: &'static str =
        "write a prefix (\"+44\"), { exact = \"…\" }, { regex = \"^…$\" } or \"anonymous\"";
}

/// A header field.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value. Default: it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// An expression that its value matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// Some hours of some weekdays.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// `HH:MM`. Default: the day's begin.
    #[serde(default = "midnight")]
    pub from: String,
    /// `HH:MM`; at or before `from` it is on the day after. Default: the day's end.
    #[serde(default = "midnight")]
    pub until: String,
    /// IANA name, for example `Europe/London`.
    pub zone: String,
}

fn midnight() -> String {
    "00:00".into()
}

/// A weekday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected the name of a trunk, group or backend, \"backends\", a user, a list of these, { ring = […] }, { reject = 403 } or { redirect = […] }"
)]
pub enum To {
    /// A trunk, group or backend by name, `backends` for the tenant's own, or a user as `401@acme.example.net`.
    Name(String),
    /// Trunks and backends, one after the other; or users, who ring at once.
    Names(Vec<String>),
    /// Users that ring.
    Ring(Ring),
    /// A refusal.
    Reject(Reject),
    /// The caller is told where else to try (302).
    Redirect(Redirect),
}

/// Users that ring.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ring {
    /// Users; those of an inner list ring together, and entries one after the other where there is an inner list.
    pub ring: Vec<Many<String>>,
    /// Whether users of a flat list ring at once or one after the other.
    #[serde(default)]
    pub order: Order,
    /// How long each rings before the next does.
    #[serde(default = "ring_for")]
    pub ring_for: Span,
}

fn ring_for() -> Span {
    Span(Duration::from_secs(20))
}

/// How a flat list rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// All at once.
    #[default]
    All,
    /// One after the other.
    Order,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// SIP status, 400 to 699.
    pub reject: u16,
    /// Reason phrase. Default: the status's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Q.850 cause, 1 to 127.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<u8>,
}

/// Where else the caller may try.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// SIP URIs.
    pub redirect: Vec<String>,
}

/// `[[group]]`: peers that take each other's calls.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerGroup {
    /// Unique among groups, trunks and backends.
    pub name: String,
    /// Names of trunks and backends, or tables.
    pub members: Vec<Member>,
    /// What makes one call go where another went.
    #[serde(default)]
    pub affinity: Affinity,
    /// Final statuses after which the next member is tried, beside silence and transport errors.
    #[serde(default = "unavailable")]
    pub failover_on: Vec<u16>,
    /// A member that failed so is tried after the others for this long.
    #[serde(default = "no_time")]
    pub cool_down: Span,
    /// How much all members take together.
    #[serde(default)]
    pub limits: PeerLimits,
}

fn unavailable() -> Vec<u16> {
    vec![503]
}

fn no_time() -> Span {
    Span(Duration::ZERO)
}

/// What makes one call go where another went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Chance alone, by weight.
    #[default]
    None,
    /// The caller.
    Caller,
    /// The number that was dialled.
    Number,
    /// The Call-ID.
    CallId,
}

/// A member of a group: its name, or a table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name or a table { name, priority, weight, limits }")]
pub enum Member {
    /// A trunk or backend; a backend as `tenant/name` where several tenants have that name.
    Name(String),
    /// The same with more.
    Table(MemberTable),
}

/// A member with what is particular about it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberTable {
    /// A trunk or backend.
    pub name: String,
    /// Lower is tried first. Default: 1.
    #[serde(default = "one")]
    pub priority: u16,
    /// Share among equals of a priority. Default: 1.
    #[serde(default = "one")]
    pub weight: u16,
    /// How many calls it has at most when it is given one of this group, wherever they come from.
    #[serde(default)]
    pub limits: PeerLimits,
}

fn one() -> u16 {
    1
}

/// The pattern of a written one.
///
/// # Errors
/// Why it is none.
pub(super) fn pattern(written: &Pattern) -> Result<engine::Pattern, String> {
    Ok(match written {
        Pattern::Prefix(text) if text == "anonymous" => engine::Pattern::Anonymous,
        Pattern::Prefix(text) if text.is_empty() => return Err("an empty prefix matches everything".into()),
        Pattern::Prefix(text) => engine::Pattern::Prefix(Text::new(text)),
        Pattern::Exact { exact } => engine::Pattern::Exact(Text::new(exact)),
        Pattern::Regex { regex } => engine::Pattern::Regex(expression(regex)?),
    })
}

pub(super) fn expression(text: &str) -> Result<regex::Regex, String> {
    let first_line = |e: regex::Error| e.to_string().lines().last().unwrap_or_default().trim().to_owned();
    regex::Regex::new(text).map_err(|e| format!("\"{text}\" is no expression: {}", first_line(e)))
}

/// The engine's rules of a file that was checked.
pub(super) fn settings(file: &File) -> engine::Rules {
    let mut faults = Vec::new();
    super::rules::compile(file, &mut faults)
}

/// What cannot work about routes and groups, and what can never be reached.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    for (i, group) in file.group.iter().enumerate() {
        let path = format!("group[{i}]");
        check.name(&format!("{path}.name"), &group.name);
        let taken = file.group[..i].iter().any(|other| other.name == group.name)
            || file.trunk.iter().any(|trunk| trunk.name == group.name)
            || file.tenant.iter().any(|t| t.backends.iter().any(|b| b.name == group.name));
        if taken || ["backends", "trunks", "endpoints"].contains(&&*group.name) {
            let message = format!("\"{}\" names something else too", group.name);
            check.wrong(&format!("{path}.name"), message, "give each trunk, group and backend its own name");
        }
        group.limits.check(check, &format!("{path}.limits"));
        for (j, status) in group.failover_on.iter().enumerate().filter(|(_, s)| !(400..=699).contains(*s)) {
            let message = format!("{status} is no failure");
            check.wrong(&format!("{path}.failover_on[{j}]"), message, "write statuses from 400 to 699");
        }
    }
    let mut faults = Vec::new();
    let rules = super::rules::compile(file, &mut faults);
    for fault in faults {
        check.wrong(&fault.path, fault.message, fault.fix);
    }
    for (at, by) in super::rules::unreachable(&rules) {
        let message = format!("{} takes every call that this one could", rules.routes[by].name);
        check.warn(
            &format!("route[{at}]"),
            message,
            "put it before that one: the first that matches decides",
        );
    }
}
