//! Topics: which there must be and what they must be like; made and mended, or only checked.

use super::Config;
use super::connect::{MESSAGE_MAX, REQUEST, failed, not_made};
use crate::nats::MaxAge;
use crate::publisher::{Failure, Inspection};
use crate::wire::{BACKEND_STATE_TOPIC, GROUPS, HEARTBEAT_TOPIC, LOCATION_TOPIC, group_of, topic};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long heartbeats are kept: nobody asks for old ones.
const HEARTBEATS_KEPT: Duration = Duration::from_secs(3_600);

/// What to do where the settings of topics may not be read.
const DESCRIBE: &str = "allow the user DescribeConfigs on topics whose names begin with signalbox.";

/// A topic that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct There {
    /// Its partitions.
    pub(super) partitions: i32,
    /// Copies of the partition that has the fewest.
    pub(super) replicas: i32,
    /// Every partition can be written.
    pub(super) led: bool,
}

/// Topics by name.
pub(super) type Topics = BTreeMap<String, There>;

/// What the metadata says.
pub(super) fn there(metadata: &Metadata) -> Topics {
    let alive = metadata.topics().iter().filter(|topic| topic.error().is_none());
    let read = |topic: &rdkafka::metadata::MetadataTopic| {
        let partitions = topic.partitions();
        There {
            partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            replicas: partitions
                .iter()
                .map(|p| i32::try_from(p.replicas().len()).unwrap_or(0))
                .min()
                .unwrap_or(0),
            led: partitions.iter().all(|partition| partition.leader() >= 0),
        }
    };
    alive.map(|topic| (topic.name().to_owned(), read(topic))).collect()
}

/// Whose events a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carries<'a> {
    /// One tenant's; `None`: shared.
    pub(super) tenant: Option<&'a str>,
    /// The domain.
    pub(super) domain: &'a str,
}

/// What a topic carries, if it is one of events.
pub(super) fn carries(name: &str) -> Option<Carries<'_>> {
    if [LOCATION_TOPIC, BACKEND_STATE_TOPIC, HEARTBEAT_TOPIC].contains(&name) {
        return None;
    }
    let rest = name.strip_prefix("signalbox.")?.strip_suffix(".v1")?;
    let (tenant, domain) = match rest.strip_prefix("tenant.") {
        Some(rest) => rest.split_once('.').map(|(tenant, domain)| (Some(tenant), domain))?,
        None => (None, rest),
    };
    (!domain.is_empty() && !domain.contains('.')).then_some(Carries { tenant, domain })
}

/// A topic that there must be.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    name: String,
    partitions: i32,
    /// Its settings, and how another value is judged.
    settings: Vec<(&'static str, String, Judge)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judge {
    /// Only this value will do.
    Equal,
    /// A larger one will do; -1 is the largest.
    AtLeast,
}

impl Judge {
    fn content(self, wanted: &str, found: &str) -> bool {
        let number = |text: &str| text.parse::<i64>().ok().map(|n| if n < 0 { i64::MAX } else { n });
        match self {
            Self::Equal => wanted == found,
            Self::AtLeast => number(found).zip(number(wanted)).is_some_and(|(found, wanted)| found >= wanted),
        }
    }
}

/// Topics that there must be: those of all known domains, of latest state, of heartbeats, and `more` of events.
fn wishes(config: &Config, there: &Topics, more: &[String]) -> Vec<Wish> {
    let known = GROUPS.iter().flat_map(|group| group.domains).map(|domain| topic(domain, None));
    let tenants = there.keys().filter(|name| config.per_tenant && is_tenants(name)).cloned();
    let mut events: Vec<String> = known.chain(more.iter().cloned()).chain(tenants).collect();
    events.sort();
    events.dedup();
    let of_events = |name: String| {
        let kept = max_age(&config.max_age, carries(&name).map_or("", |of| of.domain));
        wish(config, name, config.partitions, kept)
    };
    let compacted = |name: &str| {
        let mut wish = wish(config, name.to_owned(), config.partitions, Duration::ZERO);
        wish.settings.retain(|(name, ..)| !matches!(*name, "retention.ms" | "cleanup.policy"));
        wish.settings.push(("cleanup.policy", "compact".to_owned(), Judge::Equal));
        wish
    };
    let mut wishes: Vec<Wish> = events.into_iter().map(of_events).collect();
    wishes.extend([compacted(LOCATION_TOPIC), compacted(BACKEND_STATE_TOPIC)]);
    wishes.push(wish(config, HEARTBEAT_TOPIC.to_owned(), 1, HEARTBEATS_KEPT));
    wishes
}

fn is_tenants(name: &str) -> bool {
    carries(name).is_some_and(|of| of.tenant.is_some())
}

fn wish(config: &Config, name: String, partitions: i32, kept: Duration) -> Wish {
    let kept = if kept.is_zero() { "-1".to_owned() } else { kept.as_millis().to_string() };
    let settings = vec![
        ("cleanup.policy", "delete".to_owned(), Judge::Equal),
        ("retention.ms", kept, Judge::AtLeast),
        // By the broker's clock: an edge's that is ahead would be refused, and retention would run by it.
        ("message.timestamp.type", "LogAppendTime".to_owned(), Judge::Equal),
        ("max.message.bytes", MESSAGE_MAX.to_owned(), Judge::AtLeast),
        ("min.insync.replicas", config.min_insync.to_string(), Judge::AtLeast),
    ];
    Wish { name, partitions, settings }
}

/// How long events of a domain are kept; zero: for ever.
pub(super) fn max_age(max_age: &MaxAge, domain: &str) -> Duration {
    match group_of(domain).name {
        "call" => max_age.call,
        "registration" => max_age.registration,
        "security" => max_age.security,
        _ => max_age.operations,
    }
}

/// Makes what is missing and mends what differs, or only checks. True when topics were made.
///
/// # Errors
/// [`Failure::Misfit`] with a line for everything that is wrong and stays so.
pub(super) async fn settle(
    config: &Config,
    settings: &ClientConfig,
    there: &Topics,
    more: &[String],
) -> Result<bool, Failure> {
    if !config.manage {
        let wrong = inspect(config, settings, there, more).await?.wrong;
        return if wrong.is_empty() { Ok(false) } else { Err(Failure::Misfit(wrong)) };
    }
    let wishes = wishes(config, there, more);
    let wrong = shapes(config, &wishes, there);
    if !wrong.is_empty() {
        return Err(Failure::Misfit(wrong));
    }
    let (admin, present, missing) = split(settings, &wishes, there)?;
    for (name, code) in create(&admin, config, &missing, &options()).await? {
        match code {
            // Another edge was faster.
            RDKafkaErrorCode::TopicAlreadyExists => {}
            RDKafkaErrorCode::InvalidReplicationFactor => {
                return Err(Failure::Misfit(vec![too_few_brokers(config, &name)]));
            }
            code => return Err(failed(&format!("topic {name} is not made"), &KafkaError::AdminOp(code))),
        }
    }
    for (wish, resource) in present.iter().zip(described(&admin, &present).await?) {
        if differences(wish, &resource).next().is_some() {
            alter(&admin, wish, &resource).await?;
        }
    }
    Ok(!missing.is_empty())
}

/// What [`settle`] would do and say, changing nothing.
pub(super) async fn inspect(
    config: &Config,
    settings: &ClientConfig,
    there: &Topics,
    more: &[String],
) -> Result<Inspection, Failure> {
    let wishes = wishes(config, there, more);
    let mut found = Inspection { wrong: shapes(config, &wishes, there), ..Inspection::default() };
    let (admin, present, missing) = split(settings, &wishes, there)?;
    if config.manage {
        let refused = create(&admin, config, &missing, &options().validate_only(true)).await?;
        found.wrong.extend(refused.iter().map(|(name, code)| not_made_told(config, name, *code)));
        let names = missing.iter().filter(|wish| !refused.iter().any(|(name, _)| *name == wish.name));
        let names: Vec<&str> = names.map(|wish| &*wish.name).collect();
        if !names.is_empty() {
            found.notes.push(format!("there are no topics {} yet; the relay makes them", names.join(", ")));
        }
    } else {
        found.wrong.extend(missing.iter().map(|wish| absent(config, wish)));
    }
    let resources = match described(&admin, &present).await {
        Err(Failure::Denied(why)) => {
            found.wrong.push(why.to_string());
            return Ok(found);
        }
        other => other?,
    };
    for (wish, resource) in present.iter().zip(resources) {
        for (name, wanted, is) in differences(wish, &resource) {
            let topic = &wish.name;
            if config.manage {
                found.notes.push(format!("topic {topic}: {name} is {is}, the relay sets it to {wanted}"));
            } else {
                found.wrong.push(format!(
                    "topic {topic}: {name} is {is}, it must be {wanted}; set it, or set manage = true"
                ));
            }
        }
    }
    Ok(found)
}

type Split<'a> = (AdminClient<DefaultClientContext>, Vec<&'a Wish>, Vec<&'a Wish>);

/// Wishes whose topics there are, and those whose there are not.
fn split<'a>(settings: &ClientConfig, wishes: &'a [Wish], there: &Topics) -> Result<Split<'a>, Failure> {
    let admin = settings.create().map_err(|error| not_made(&error))?;
    let (present, missing) = wishes.iter().partition(|wish| there.contains_key(&wish.name));
    Ok((admin, present, missing))
}

/// Why a topic would not be made, and what to do.
fn not_made_told(config: &Config, name: &str, code: RDKafkaErrorCode) -> String {
    use RDKafkaErrorCode as Code;
    match code {
        Code::TopicAlreadyExists => format!("no right to see topic {name}: allow the user Describe on it"),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => format!(
            "no right to make topic {name}: allow the user Create on topics signalbox., or make them and set manage = false"
        ),
        Code::InvalidReplicationFactor => too_few_brokers(config, name),
        code => format!("topic {name} is not made: {code}"),
    }
}

fn too_few_brokers(config: &Config, name: &str) -> String {
    format!("topic {name} cannot be made with replicas = {}: there are fewer brokers", config.replicas)
}

/// What nobody can mend while the topics exist, or ever.
fn shapes(config: &Config, wishes: &[Wish], there: &Topics) -> Vec<String> {
    let mut wrong: Vec<String> =
        wishes.iter().filter_map(|wish| misshapen(config, wish, there.get(&wish.name)?)).collect();
    if config.min_insync > config.replicas {
        let (min, replicas) = (config.min_insync, config.replicas);
        wrong.push(format!("min_insync = {min} can never be met with replicas = {replicas}"));
    }
    wrong
}

/// What nobody can mend while the topic exists.
fn misshapen(config: &Config, wish: &Wish, there: &There) -> Option<String> {
    let (name, wanted, found) = (&wish.name, wish.partitions, there.partitions);
    if name != HEARTBEAT_TOPIC && wanted != found {
        return Some(format!(
            "topic {name} has {found} partitions, the configuration says {wanted}: with another count keys move to \
             other partitions and lose their order; set partitions = {found} if it was made so, else make the topic anew"
        ));
    }
    (there.replicas < config.replicas).then(|| {
        let (found, wanted) = (there.replicas, config.replicas);
        format!("topic {name} has {found} replicas, the configuration says {wanted}: reassign its partitions")
    })
}

fn absent(config: &Config, wish: &Wish) -> String {
    let settings: Vec<String> =
        wish.settings.iter().map(|(name, value, _)| format!("{name}={value}")).collect();
    let (name, partitions, replicas, settings) =
        (&wish.name, wish.partitions, config.replicas, settings.join(","));
    format!(
        "topic {name} is missing, or this user may not see it: make it with {partitions} partitions, {replicas} replicas and {settings}, or set \
         manage = true"
    )
}

/// Asks for topics; those that are not made, and why.
async fn create(
    admin: &AdminClient<DefaultClientContext>,
    config: &Config,
    missing: &[&Wish],
    options: &AdminOptions,
) -> Result<Vec<(String, RDKafkaErrorCode)>, Failure> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let new = missing.iter().map(|wish| {
        let topic = NewTopic::new(&wish.name, wish.partitions, TopicReplication::Fixed(config.replicas));
        wish.settings.iter().fold(topic, |topic, (name, value, _)| topic.set(name, value))
    });
    let new: Vec<NewTopic<'_>> = new.collect();
    let made =
        admin.create_topics(&new, options).await.map_err(|error| failed("topics are not made", &error))?;
    Ok(made.into_iter().filter_map(Result::err).collect())
}

/// The settings that the topics have, in their order.
async fn described(
    admin: &AdminClient<DefaultClientContext>,
    present: &[&Wish],
) -> Result<Vec<ConfigResource>, Failure> {
    if present.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<ResourceSpecifier<'_>> =
        present.iter().map(|wish| ResourceSpecifier::Topic(&wish.name)).collect();
    let what = "the settings of topics are not told";
    let told = admin.describe_configs(&asked, &options()).await.map_err(|error| failed(what, &error))?;
    let mut by_name: BTreeMap<String, ConfigResource> = BTreeMap::new();
    for resource in told {
        let resource = resource.map_err(|code| failed(what, &KafkaError::AdminOp(code)))?;
        if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
            by_name.insert(name.clone(), resource);
        }
    }
    // What we may not read comes without a single setting, not as an error.
    if by_name.values().any(|resource| resource.entries.is_empty()) {
        return Err(Failure::Denied(format!("{what}: {DESCRIBE}").into()));
    }
    let take = |wish: &&Wish| {
        let missing =
            || Failure::Unreachable(format!("the settings of topic {} are not told", wish.name).into());
        by_name.remove(&wish.name).ok_or_else(missing)
    };
    present.iter().map(take).collect()
}

/// Settings that will not do: name, wanted, found.
fn differences<'a>(
    wish: &'a Wish,
    resource: &'a ConfigResource,
) -> impl Iterator<Item = (&'static str, &'a str, &'a str)> {
    wish.settings.iter().filter_map(|(name, wanted, judge)| {
        let found = resource.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or("unknown");
        (!judge.content(wanted, found)).then_some((*name, wanted.as_str(), found))
    })
}

/// The request replaces all settings of the topic, so what an operator has set beside ours goes along.
async fn alter(
    admin: &AdminClient<DefaultClientContext>,
    wish: &Wish,
    resource: &ConfigResource,
) -> Result<(), Failure> {
    let mut altered = AlterConfig::new(ResourceSpecifier::Topic(&wish.name));
    for entry in resource.entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic) {
        if let Some(value) = &entry.value {
            altered = altered.set(&entry.name, value);
        }
    }
    for (name, wanted, found) in differences(wish, resource) {
        tracing::info!(topic = %wish.name, setting = name, found, wanted, "a topic's setting is changed");
        altered = altered.set(name, wanted);
    }
    let what = format!("the settings of topic {} are not changed", wish.name);
    let done = admin.alter_configs(&[altered], &options()).await.map_err(|error| failed(&what, &error))?;
    match done.into_iter().find_map(Result::err) {
        Some((_, code)) => Err(failed(&what, &KafkaError::AdminOp(code))),
        None => Ok(()),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_s_name_says_whose_events_it_carries() {
        let of = |tenant, domain| Some(Carries { tenant, domain });
        assert_eq!(carries("signalbox.call.v1"), of(None, "call"));
        assert_eq!(carries("signalbox.tenant.acme.call.v1"), of(Some("acme"), "call"));
        for other in [
            "signalbox.location.v1",
            "signalbox.heartbeat.v1",
            "signalbox.replay.r-1",
            "orders",
            "signalbox.a.b.v1",
        ] {
            assert_eq!(carries(other), None, "{other}");
        }
    }

    #[test]
    fn longer_retention_will_do_and_shorter_will_not() {
        assert!(Judge::AtLeast.content("1000", "-1") && Judge::AtLeast.content("1000", "1000"));
        assert!(!Judge::AtLeast.content("-1", "1000") && !Judge::AtLeast.content("1000", "999"));
        assert!(!Judge::AtLeast.content("1000", "unknown"));
        assert!(!Judge::Equal.content("delete", "compact,delete"));
    }
}
