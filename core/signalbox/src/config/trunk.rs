//! `[[trunk]]`: carriers, and the numbers of tenants that tell whose their calls are.

use super::check::Check;
use super::limits::PeerLimits;
use super::model::{EarlyDialogs, File, Hide, Probe, Redirects, Register, Served, Tenant};
use super::route::{Pattern, pattern};
use super::settings::{PeerParts, index, peer, probe};
use super::span::Problem;
use super::template::Templates;
use super::value::Address;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;
use signalbox_engine::settings as engine;

/// `[[trunk]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// Unique among trunks, groups and backends.
    pub name: String,
    /// Whose it is. Default: shared; then `numbers` of tenants and routes say whose a call is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The network it is on. Default: the one whose listeners serve trunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `transport:host[:port]`; the transport is udp, tcp or tls.
    pub address: Address,
    /// Over tls: the name that its certificate must be good for. Default: the host of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Further sources it may call from, addresses or prefixes. Its own address always is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    /// Which way calls may go.
    #[serde(default)]
    pub direction: Direction,
    /// Hiding of dialog identifiers towards it.
    #[serde(default)]
    pub hide: Hide,
    /// What it sees of a call of its that rings at several phones.
    #[serde(default)]
    pub early_dialogs: EarlyDialogs,
    /// What becomes of a 3xx in calls from and to it.
    #[serde(default)]
    pub redirects: Redirects,
    /// Probing, where it differs from `[probe]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// The edge registers there, as a phone would: for providers that send calls only to who has registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<Register>,
    /// How much it carries, both ways together.
    #[serde(default)]
    pub limits: PeerLimits,
    /// Templates of what comes from it, before anything is decided by its numbers, and of what goes to it.
    #[serde(default)]
    pub template: Templates,
}

/// Which way calls may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the carrier only.
    In,
    /// To the carrier only.
    Out,
    /// Both.
    #[default]
    Both,
}

/// The engine's settings of a trunk.
///
/// # Errors
/// When the password of its account cannot be read any more.
pub(super) fn settings(
    trunk: &Trunk,
    file: &File,
    networks: &[Text],
) -> Result<engine::TrunkSettings, Problem> {
    let serving =
        file.listener.iter().find(|l| l.serves.as_ref().is_none_or(|s| s.contains(&Served::Trunks)));
    let network = trunk.network.as_deref().or(serving.map(|l| l.network.as_str())).unwrap_or_default();
    let parts = PeerParts {
        name: &trunk.name,
        address: &trunk.address,
        source: &trunk.source,
        network: index(networks, network),
        hide: trunk.hide,
        early_dialogs: trunk.early_dialogs,
        redirects: trunk.redirects,
        probe: probe(trunk.probe.as_ref().unwrap_or(&file.probe)),
    };
    let register =
        trunk.register.as_ref().map(|register| super::outbound::settings(register, &trunk.address));
    Ok(engine::TrunkSettings {
        peer: engine::BackendSettings { register: register.transpose()?, ..peer(&parts) },
        tenant: trunk.tenant.as_ref().and_then(|name| name.parse().ok()),
        direction: match trunk.direction {
            Direction::In => engine::TrunkDirection::In,
            Direction::Out => engine::TrunkDirection::Out,
            Direction::Both => engine::TrunkDirection::Both,
        },
        limits: trunk.limits.settings(),
        template_in: super::template::named(file, trunk.template.inward.as_ref()),
        template_out: super::template::named(file, trunk.template.outward.as_ref()),
    })
}

/// What a tenant says of numbers.
pub(super) fn numbering(tenant: &Tenant) -> engine::Numbering {
    let default = engine::Numbering::default();
    let texts = |list: &[String]| list.iter().map(|text| Text::new(text)).collect();
    engine::Numbering {
        own: tenant.numbers.iter().filter_map(|text| engine::NumberBlock::parse(text).ok()).collect(),
        emergency: tenant.emergency_numbers.as_deref().map_or(default.emergency, texts),
        country: tenant.country.as_deref().map(|code| Text::new(code.trim_start_matches('+'))),
        blocked_callers: tenant.blocked_callers.iter().filter_map(|text| pattern(text).ok()).collect(),
    }
}

/// What cannot work about trunks and numbers.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    for (i, trunk) in file.trunk.iter().enumerate() {
        one(check, file, &format!("trunk[{i}]"), i, trunk);
        if ["backends", "trunks", "endpoints"].contains(&&*trunk.name) {
            let message = format!("\"{}\" means all of these in routes", trunk.name);
            check.wrong(&format!("trunk[{i}].name"), message, "give it a name of its own");
        }
    }
    numbers(check, file);
    for (i, tenant) in file.tenant.iter().enumerate() {
        let path = format!("tenant[{i}]");
        for (j, caller) in tenant.blocked_callers.iter().enumerate() {
            if let Err(why) = pattern(caller) {
                check.wrong(&format!("{path}.blocked_callers[{j}]"), why, Pattern::FIX);
            }
        }
        if let Some(code) = &tenant.country {
            let digits = code.trim_start_matches('+');
            if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                let message = format!("\"{code}\" is no country code");
                check.wrong(&format!("{path}.country"), message, "write for example \"44\"");
            }
        }
    }
}

fn one(check: &mut Check<'_>, file: &File, path: &str, place: usize, trunk: &Trunk) {
    check.name(&format!("{path}.name"), &trunk.name);
    let of_backend = file.tenant.iter().find(|t| t.backends.iter().any(|b| b.name == trunk.name));
    if file.trunk[..place].iter().any(|other| other.name == trunk.name) {
        let message = format!("there are two trunks \"{}\"", trunk.name);
        check.wrong(&format!("{path}.name"), message, "give each its own name");
    } else if let Some(tenant) = of_backend {
        let message = format!("a backend of tenant {} has the same name", tenant.name);
        check.wrong(
            &format!("{path}.name"),
            message,
            "give each its own name: routes and events say it alone",
        );
    }
    if let Some(name) = trunk.tenant.as_ref().filter(|name| !file.tenant.iter().any(|t| t.name == **name)) {
        check.unknown_tenant(&format!("{path}.tenant"), name, file);
    }
    check.peer_sources(path, &trunk.source);
    let same = |address: &Address| {
        let of = |a: &Address| (a.transport, a.host.clone(), a.port());
        of(address) == of(&trunk.address)
    };
    let backends = file.tenant.iter().flat_map(|tenant| &tenant.backends).map(|b| (&b.name, &b.address));
    let trunks = file.trunk[..place].iter().map(|other| (&other.name, &other.address));
    if let Some((other, _)) = backends.chain(trunks).find(|(_, address)| same(address)) {
        let message = format!("{other} has the same address and port: their calls could not be told apart");
        check.wrong(&format!("{path}.address"), message, "give each peer its own address or port");
    }
    let both = file.trunk[..place].iter().find_map(|other| {
        let shared = trunk.source.iter().position(|source| other.source.contains(source))?;
        (other.network == trunk.network).then_some((other, shared))
    });
    if let Some((other, shared)) = both {
        let message = format!("{} has the same source: their calls could not be told apart", other.name);
        check.wrong(&format!("{path}.source[{shared}]"), message, "name each source at one trunk");
    }
    check.peer_place(path, file, Served::Trunks, trunk.network.as_ref(), &trunk.address);
    if let Some(probe) = &trunk.probe {
        check.probe(&format!("{path}.probe"), probe);
    }
    trunk.limits.check(check, &format!("{path}.limits"));
}

/// A number is of one tenant; of blocks in one another the longest has it, which is worth a word.
fn numbers(check: &mut Check<'_>, file: &File) {
    let mut seen: Vec<(&str, &str, engine::NumberBlock)> = Vec::new();
    for (i, tenant) in file.tenant.iter().enumerate() {
        for (j, text) in tenant.numbers.iter().enumerate() {
            let path = format!("tenant[{i}].numbers[{j}]");
            let block = match engine::NumberBlock::parse(text) {
                Ok(block) => block,
                Err(why) => {
                    let fix =
                        "write \"+442079460000\", or \"+442079460000/4\" where the last four digits are free";
                    check.wrong(&path, format!("\"{text}\" {why}"), fix);
                    continue;
                }
            };
            let other = seen.iter().find(|(owner, _, other)| *owner != tenant.name && other.overlaps(&block));
            match other {
                Some((owner, _, other)) if *other == block => check.wrong(
                    &path,
                    format!("\"{text}\" is tenant {owner}'s too"),
                    "a number belongs to exactly one tenant",
                ),
                Some((owner, theirs, _)) => check.warn(
                    &path,
                    format!(
                        "\"{text}\" overlaps \"{theirs}\" of tenant {owner}: the longer prefix has a call"
                    ),
                    "nothing, where that is meant",
                ),
                None => {}
            }
            seen.push((&tenant.name, text, block));
        }
    }
}
