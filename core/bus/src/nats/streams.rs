//! The streams: made and widened when Signalbox manages them, else compared, and what is wrong said exactly.
//!
//! A stream's configuration is handled as the server writes it, so that settings of later servers, or of people, stay as
//! they are. Nothing is ever changed that would delete events at once.

use super::Config;
use super::api::{Api, Trouble};
use crate::publisher::{Failure, Inspection};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use signalbox_base::{Text, Wall};
use std::time::Duration;

/// A stream as it should be.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) stream: &'static str,
    pub(super) subjects: Vec<String>,
    pub(super) max_age: Duration,
    /// Its name among `bus.max_age`; empty when that is fixed.
    pub(super) setting: &'static str,
}

/// A stream that may be used.
pub(super) struct Ready {
    pub(super) created: Text,
    pub(super) notes: Vec<String>,
}

/// A stream as the server describes it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Info {
    pub(super) config: Map<String, Value>,
    pub(super) created: String,
    pub(super) state: Held,
}

/// What it holds.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Held {
    pub(super) bytes: u64,
    #[serde(rename = "first_seq")]
    pub(super) first: u64,
    #[serde(rename = "last_seq")]
    pub(super) last: u64,
    pub(super) first_ts: String,
    pub(super) messages: u64,
}

/// What differs.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    /// Settings that Signalbox can change, and what is wrong with them now.
    mend: Vec<(&'static str, Value, String)>,
    /// What a person must change.
    findings: Vec<String>,
    /// What is not as configured, but does no harm.
    notes: Vec<String>,
}

/// There is no such stream.
const NOT_FOUND: u32 = 10_059;
/// Another process has just made it, a little different.
const NAME_IN_USE: u32 = 10_058;

/// Makes the stream, or mends it, or says what is wrong.
pub(super) async fn ensure(api: &Api, config: &Config, want: &Want) -> Result<Ready, Failure> {
    let info = match find(api, want.stream).await? {
        Some(info) => info,
        None if config.manage => make(api, config, want).await?,
        None => return Err(Failure::Misfit(vec![missing(config, want)])),
    };
    let mut found = compare(config, want, &info, wall_now());
    if config.manage && !found.mend.is_empty() && found.findings.is_empty() {
        let mut changed = info.config.clone();
        changed.extend(found.mend.drain(..).map(|(name, value, _)| (name.to_owned(), value)));
        let changed = api.call(&format!("STREAM.UPDATE.{}", want.stream), &Value::Object(changed)).await;
        let info: Info = read(changed.map_err(|trouble| refused("change", want, trouble))?)?;
        found = compare(config, want, &info, wall_now());
    }
    found.findings.extend(found.mend.into_iter().map(|(_, _, what)| what));
    if !found.findings.is_empty() {
        return Err(Failure::Misfit(found.findings));
    }
    Ok(Ready { created: info.created.into(), notes: found.notes })
}

/// What [`ensure`] would do and say, changing nothing; whether there is such a stream.
pub(super) async fn inspect(
    api: &Api,
    config: &Config,
    want: &Want,
    inspection: &mut Inspection,
) -> Result<bool, Failure> {
    let Some(info) = find(api, want.stream).await? else {
        if config.manage {
            inspection.notes.push(format!("there is no stream {} yet; the relay makes it", want.stream));
        } else {
            inspection.wrong.push(missing(config, want));
        }
        return Ok(false);
    };
    let found = compare(config, want, &info, wall_now());
    inspection.wrong.extend(found.findings);
    inspection.notes.extend(found.notes);
    for (name, value, what) in found.mend {
        if config.manage {
            inspection.notes.push(format!("stream {}: the relay sets {name} to {value}", want.stream));
        } else {
            inspection.wrong.push(what);
        }
    }
    Ok(true)
}

/// The stream, if there is one.
pub(super) async fn find(api: &Api, stream: &str) -> Result<Option<Info>, Failure> {
    match api.call(&format!("STREAM.INFO.{stream}"), &json!({})).await {
        Ok(info) => read(info).map(Some),
        Err(Trouble::Api(error)) if error.err_code == NOT_FOUND => Ok(None),
        Err(trouble) => Err(trouble.failure(&format!("stream {stream}"))),
    }
}

async fn make(api: &Api, config: &Config, want: &Want) -> Result<Info, Failure> {
    let body = json!({
        "name": want.stream,
        "description": "Signalbox events",
        "subjects": want.subjects,
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "max_bytes": limit(config.max_bytes),
        "max_age": nanos(want.max_age),
        "num_replicas": config.replicas,
        "duplicate_window": nanos(window(config, want)),
        "allow_direct": true,
        "deny_delete": true,
    });
    match api.call(&format!("STREAM.CREATE.{}", want.stream), &body).await {
        Ok(info) => read(info),
        Err(Trouble::Api(error)) if error.err_code == NAME_IN_USE => {
            let made = find(api, want.stream).await?;
            made.ok_or_else(|| Failure::Unreachable(format!("stream {} comes and goes", want.stream).into()))
        }
        Err(trouble) => Err(refused("make", want, trouble)),
    }
}

fn refused(what: &str, want: &Want, trouble: Trouble) -> Failure {
    let stream = want.stream;
    match trouble {
        Trouble::Api(error) => {
            let advice = match error.err_code {
                10_065 => ": another stream takes these subjects; remove them from it (nats stream ls)",
                10_074 => ": bus.nats.replicas needs a cluster with as many servers",
                10_047 | 10_023 => {
                    ": raise jetstream max_file_store, or the account's limits, or lower bus.nats.max_bytes"
                }
                _ => "",
            };
            let said = error.description;
            Failure::Misfit(vec![format!("the server does not {what} stream {stream} ({said}){advice}")])
        }
        trouble => trouble.failure(&format!("stream {stream}")),
    }
}

fn missing(config: &Config, want: &Want) -> String {
    format!(
        "there is no stream {}: set bus.manage = true, or make it: nats stream add {0} --subjects '{}' --storage file \
         --retention limits --discard new --replicas {} --max-bytes {} --max-age {}s --dupe-window {}s --allow-direct \
         --deny-delete --defaults",
        want.stream,
        want.subjects.join(","),
        config.replicas,
        limit(config.max_bytes),
        want.max_age.as_secs(),
        window(config, want).as_secs(),
    )
}

/// The stream against what it should be; pure.
fn compare(config: &Config, want: &Want, info: &Info, now: Wall) -> Difference {
    let mut found = Difference::default();
    kind(want, info, &mut found);
    promises(want, info, &mut found);
    limits(config, want, info, now, &mut found);
    found
}

/// What a stream is once and for all.
fn kind(want: &Want, info: &Info, found: &mut Difference) {
    let stream = want.stream;
    let text = |name: &str| info.config.get(name).and_then(Value::as_str).unwrap_or_default();
    let flag = |name: &str| info.config.get(name).and_then(Value::as_bool).unwrap_or(false);
    let has = |name: &str| info.config.get(name).is_some_and(|value| !value.is_null());
    let again = "it cannot be changed; move the stream away and let a new one be made, the journal fills it as far as it reaches";
    let checks = [
        (text("storage") != "file", "lies in memory and is gone with the server"),
        (text("retention") != "limits", "deletes what was read (retention is not limits)"),
        (flag("sealed"), "is sealed and takes nothing"),
        (has("mirror"), "is a mirror and takes nothing"),
        (has("subject_transform"), "stores events under other subjects (subject_transform)"),
    ];
    let wrong = checks.into_iter().filter(|(wrong, _)| *wrong);
    found.findings.extend(wrong.map(|(_, what)| format!("stream {stream} {what}: {again}")));
}

/// What must hold so that nothing is dropped silently.
fn promises(want: &Want, info: &Info, found: &mut Difference) {
    let stream = want.stream;
    let flag = |name: &str| info.config.get(name).and_then(Value::as_bool).unwrap_or(false);
    let number = |name: &str| info.config.get(name).and_then(Value::as_i64).unwrap_or(0);
    let mut mend = |name, value, what: &str, option: &str| {
        let told =
            format!("stream {stream} {what}: set bus.manage = true, or: nats stream edit {stream} {option}");
        found.mend.push((name, value, told));
    };
    let stored = info.config.get("subjects").and_then(Value::as_array).cloned().unwrap_or_default();
    let lacks: Vec<&String> = want
        .subjects
        .iter()
        .filter(|subject| !stored.iter().any(|known| known == subject.as_str()))
        .collect();
    if !lacks.is_empty() {
        let all: Vec<Value> = stored.iter().cloned().chain(lacks.iter().map(|new| json!(new))).collect();
        let names: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
        let what = format!(
            "does not store {}",
            lacks.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
        );
        mend("subjects", json!(all), &what, &format!("--subjects '{}'", names.join(",")));
    }
    if info.config.get("discard").and_then(Value::as_str) != Some("new") {
        mend("discard", json!("new"), "drops its oldest events when it is full", "--discard new");
    }
    if flag("no_ack") {
        mend("no_ack", json!(false), "acknowledges nothing", "--ack");
    }
    if !flag("allow_direct") {
        mend("allow_direct", json!(true), "cannot be read from its copies", "--allow-direct");
    }
    if !flag("deny_delete") {
        mend("deny_delete", json!(true), "lets single events be deleted", "--deny-delete");
    }
    for (name, what, option) in [
        ("max_msgs", "holds only so many events", "--max-msgs=-1"),
        ("max_msgs_per_subject", "holds only so many events of a subject", "--max-msgs-per-subject=-1"),
        ("max_msg_size", "refuses large events", "--max-msg-size=-1"),
    ] {
        let enough = name == "max_msg_size" && number(name) >= super::connect::EVENT_MAX as i64;
        if number(name) > 0 && !enough {
            mend(name, json!(-1), &format!("{what} ({name} is {})", number(name)), option);
        }
    }
}

/// How much and how long it holds: widened, and narrowed where nothing is deleted by it.
fn limits(config: &Config, want: &Want, info: &Info, now: Wall, found: &mut Difference) {
    let stream = want.stream;
    let number = |name: &str| info.config.get(name).and_then(Value::as_i64).unwrap_or(0);
    let setting =
        if want.setting.is_empty() { String::new() } else { format!("bus.max_age.{}", want.setting) };
    let oldest = (info.state.messages > 0).then(|| Wall::parse_rfc3339(&info.state.first_ts)).flatten();
    let aged = oldest.is_some_and(|oldest| now.since(oldest) >= want.max_age);
    let full =
        info.state.bytes.saturating_add(info.state.bytes / 10) >= config.max_bytes.max(0).unsigned_abs();
    let rows = [
        ("max_age", nanos(want.max_age), aged, setting, "ns", "--max-age"),
        ("max_bytes", limit(config.max_bytes), full, "bus.nats.max_bytes".to_owned(), "bytes", "--max-bytes"),
    ];
    for (name, wanted, would_delete, setting, unit, option) in rows {
        let is = number(name).max(0);
        // Zero is without limit.
        let (is_wide, wanted_wide) =
            (if is == 0 { i64::MAX } else { is }, if wanted <= 0 { i64::MAX } else { wanted });
        if is_wide < wanted_wide {
            let what = format!(
                "stream {stream} has {name} {is} {unit}, {setting} asks for {}: set bus.manage = true, or: nats stream \
                 edit {stream} {option}, or lower {setting}",
                wanted.max(0)
            );
            found.mend.push((name, json!(wanted), what));
        } else if is_wide > wanted_wide && config.manage && !would_delete {
            found.mend.push((
                name,
                json!(wanted),
                format!("stream {stream} does not take {name} {wanted} {unit}"),
            ));
        } else if is_wide > wanted_wide && config.manage {
            found.notes.push(format!(
                "stream {stream} keeps {name} {is} {unit} (0: no limit) though {setting} is {wanted}: to lower it would \
                 delete events at once; if that is meant: nats stream edit {stream} {option}"
            ));
        }
    }
    let replicas = number("num_replicas").max(1);
    let wanted = i64::try_from(config.replicas).unwrap_or(1);
    if replicas < wanted {
        let what = format!(
            "stream {stream} has {replicas} replicas, bus.nats.replicas asks for {wanted}: set bus.manage = true, or: \
             nats stream edit {stream} --replicas {wanted}"
        );
        found.mend.push(("num_replicas", json!(wanted), what));
    } else if replicas > wanted {
        found.notes.push(format!(
            "stream {stream} has {replicas} replicas, more than bus.nats.replicas = {wanted}: left so"
        ));
    }
    let knows = number("duplicate_window");
    let wanted = nanos(window(config, want));
    if knows < wanted {
        let what = format!(
            "stream {stream} knows message ids for {knows} ns, bus.nats.duplicate_window asks for {wanted}: set \
             bus.manage = true, or: nats stream edit {stream} --dupe-window"
        );
        found.mend.push(("duplicate_window", json!(wanted), what));
    }
}

/// A server takes no window longer than the age.
fn window(config: &Config, want: &Want) -> Duration {
    if want.max_age.is_zero() { config.duplicate_window } else { config.duplicate_window.min(want.max_age) }
}

fn limit(bytes: i64) -> i64 {
    if bytes <= 0 { -1 } else { bytes }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn read(info: Value) -> Result<Info, Failure> {
    serde_json::from_value(info)
        .map_err(|error| Failure::Unreachable(format!("the server describes a stream oddly: {error}").into()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "only a stream's age tells whether a shorter one would delete events"
)]
fn wall_now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Wall::default().plus(since)
}
