//! `signalbox route`: what would happen to a call, and which rule says so. The running edge decides by the same function.

use super::{Out, load_config, now, open_store, runtime};
use crate::args::{Cli, RouteArgs};
use crate::config::{Effective, Keys};
use crate::errors::{Failure, USAGE};
use crate::history::moment;
use serde_json::json;
use signalbox_base::{JournalId, Secret, Text};
use signalbox_engine::routing::{Answer, Chosen, Question, Source, explain};
use signalbox_engine::settings::{MemberName, Settings, To};
use signalbox_engine::tenancy::Directory;
use signalbox_projections::queries;

/// Prints it.
pub fn run(cli: &Cli, args: &RouteArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let at = moment(args.at.as_deref(), "--at")?.unwrap_or_else(now);
    let loaded = load_config(cli)?;
    let keys = Keys { edge_name: "edge".into(), journal: JournalId(0), cluster_key: Secret::default() };
    let settings = Effective::new(&loaded.file).settings(&keys)?;
    let directory = Directory::new(&settings);
    let headers: Vec<(Text, Text)> =
        args.header.iter().map(|header| parted(header)).collect::<Result<_, _>>()?;
    let (from, to) = (bare(&args.from), bare(&args.to));
    let caller = args.caller.as_deref().unwrap_or_default();
    let question = Question { from, to, caller, headers: &headers, wall: at };
    let user = to.split_once('@').map_or(to, |(user, _)| user);
    let known = registered(&loaded, user);
    let is_registered =
        |tenant: &str, aor: &str| known.iter().any(|(of, known)| of == tenant && known == aor);
    let answer = explain(&settings, &directory, &question, is_registered)
        .map_err(|why| Failure::new(USAGE, why).fix("name a phone as user@domain, a backend or a trunk"))?;
    if out.json {
        return out.object(&object(&settings, &answer, &question));
    }
    let time = out.clock.time(at, now());
    out.line(&format!(
        "{} calls {}@{} of {} at {time}",
        args.from, answer.number, answer.domain, answer.tenant.name
    ))?;
    out.line(&format!("  {}", answer.describe()))?;
    for (name, detail) in members(&settings, &answer) {
        out.line(&format!("    {name}  {detail}"))?;
    }
    if caller.is_empty() && !from.contains('@') {
        out.line("  who calls is not said, and no rule about callers was asked: say it with --caller")?;
    }
    let tags: Vec<&str> =
        answer.choice.iter().flat_map(|choice| &choice.tags).map(|tag| tag.as_str()).collect();
    if tags.is_empty() { Ok(()) } else { out.line(&format!("  tags: {}", tags.join(", "))) }
}

fn bare(uri: &str) -> &str {
    uri.trim_start_matches("sip:").trim_start_matches("tel:")
}

fn parted(header: &str) -> Result<(Text, Text), Failure> {
    let (name, value) = header.split_once(':').ok_or_else(|| {
        Failure::new(USAGE, format!("\"{header}\" is no header field")).fix("write for example 'X-Way: b'")
    })?;
    Ok((Text::new(name.trim()), Text::new(value.trim())))
}

/// Who is registered under this name, by tenant. Nobody, where there are no tables yet.
fn registered(loaded: &crate::config::Loaded, user: &str) -> Vec<(String, String)> {
    let embedded = loaded.file.store.url.strip_prefix("sqlite:");
    if embedded.is_some_and(|name| !loaded.file.edge.data_dir.join(name).is_file()) {
        return Vec::new();
    }
    let Ok(runtime) = runtime() else { return Vec::new() };
    let rows = runtime.block_on(async {
        let store = open_store(loaded).await.ok()?;
        queries::locations(&store, None, Some(user)).await.ok()
    });
    rows.into_iter().flatten().map(|row| (row.tenant, row.aor)).collect()
}

/// Who would be tried, in the order of the configuration, and what each would see dialled.
fn members(settings: &Settings, answer: &Answer<'_>) -> Vec<(String, String)> {
    let Some(Chosen::Rule(To::Group(group))) = answer.choice.as_ref().map(|choice| choice.to) else {
        return Vec::new();
    };
    let mut members: Vec<_> =
        group.members.iter().filter(|member| takes_calls_of(settings, answer, &member.peer)).collect();
    members.sort_by_key(|member| member.priority);
    let line = |member: &&signalbox_engine::settings::Member| {
        let (MemberName::Backend(_, name) | MemberName::Trunk(name)) = &member.peer;
        let number = answer.dialled(settings, &member.peer);
        (name.to_string(), format!("{number}  priority {}, weight {}", member.priority, member.weight))
    };
    members.iter().map(line).collect()
}

/// Whether a member takes calls of this tenant at all.
fn takes_calls_of(settings: &Settings, answer: &Answer<'_>, member: &MemberName) -> bool {
    match member {
        MemberName::Backend(tenant, _) => *tenant == answer.tenant.name,
        MemberName::Trunk(name) => settings.trunks.iter().any(|trunk| {
            let own = trunk.tenant.as_ref().is_none_or(|tenant| *tenant == answer.tenant.name);
            trunk.peer.name == *name && own && trunk.direction.is_out()
        }),
    }
}

fn object(settings: &Settings, answer: &Answer<'_>, question: &Question<'_>) -> serde_json::Value {
    let source = match answer.source {
        Source::Endpoint | Source::Neighbour => "endpoint",
        Source::Backend => "backend",
        Source::Trunk => "trunk",
    };
    let choice = answer.choice.as_ref();
    json!({
        "tenant": answer.tenant.name.as_str(),
        "source": source,
        "from": question.from,
        "to": answer.number,
        "domain": answer.domain,
        "at": question.wall.to_string(),
        "kind": answer.kind(),
        "targets": members(settings, answer).into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "rule": choice.and_then(|choice| choice.rule).map(|rule| &rule.name),
        "number": choice.and_then(|choice| choice.number),
        "tags": choice.map(|choice| choice.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>()),
        "why": answer.describe(),
    })
}
