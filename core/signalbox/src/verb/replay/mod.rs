//! `signalbox replay`: history to whoever wants it. Every event that is sent is marked with the replay's id, and on a
//! broker it goes to `signalbox.replay.<id>`, so that nobody takes it for news.
//!
//! What has arrived is kept in `data_dir/replays/<id>.json`: an interrupted replay goes on after it.

mod broker;
mod file;
mod http;
mod place;
mod webhook;

use super::{Out, load_config, now, random, runtime};
use crate::args::{Cli, ReplayArgs};
use crate::config::model;
use crate::config::model::{Bus, BusKind};
use crate::errors::{Failure, INTERNAL, INTERRUPTED, NOT_RUNNING, NOTHING_FOUND, USAGE};
use crate::history::{JOURNAL_DIR, kinds, layout, local_bus, moment};
use indicatif::{ProgressBar, ProgressStyle};
use place::Place;
use signalbox_base::{EventSeq, JournalId, Wall};
use signalbox_bus::{Bus as _, Delivered, Filter, Request, Start};
use signalbox_journal::Mark;
use signalbox_journal::storage::FileStorage;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Events between two moments at which everything sent is known to have arrived.
const BATCH: usize = 512;

/// Where a replay goes.
enum Target {
    File(file::FileTarget),
    Webhook(webhook::Webhook),
    Broker(Box<broker::BrokerTarget>),
}

impl Target {
    async fn open(place: &Place, file: &model::File) -> Result<Self, Failure> {
        let on = |kind| Bus { kind, url: place.url.clone().or(file.bus.url.clone()), ..file.bus.clone() };
        Ok(match place.to.as_str() {
            "file" => Self::File(file::FileTarget::open(place)?),
            "webhook" => Self::Webhook(webhook::Webhook::new(place)?),
            "nats" => {
                Self::Broker(Box::new(broker::BrokerTarget::nats(&on(BusKind::Nats), &place.id).await?))
            }
            _ => Self::Broker(Box::new(broker::BrokerTarget::kafka(&on(BusKind::Kafka), &place.id).await?)),
        })
    }

    async fn take(&mut self, event: &Delivered) -> Result<(), Failure> {
        match self {
            Self::File(file) => file.take(event),
            Self::Webhook(webhook) => webhook.take(event).await,
            Self::Broker(broker) => broker.take(event).await,
        }
    }

    /// Waits until everything taken has arrived.
    async fn settle(&mut self, place: &mut Place) -> Result<(), Failure> {
        match self {
            Self::File(file) => place.bytes = file.settle()?,
            Self::Webhook(webhook) => webhook.settle().await?,
            Self::Broker(broker) => broker.settle().await?,
        }
        Ok(())
    }
}

/// Replays, or goes on with a replay.
pub fn run(cli: &Cli, args: &ReplayArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let file = load_config(cli)?.file;
    let dir = file.edge.data_dir.join(JOURNAL_DIR);
    if !dir.is_dir() {
        let message = format!("there is no journal in {}", dir.display());
        return Err(Failure::new(NOT_RUNNING, message)
            .fix("name the edge's configuration with --config, or start it"));
    }
    let mut place = match &args.resume {
        Some(id) => Place::load(&file, id)?.ok_or_else(|| {
            Failure::new(NOTHING_FOUND, format!("no interrupted replay is called {id}"))
                .fix("one that has ended is forgotten; begin another with --to")
        })?,
        None => begin(&file, args)?,
    };
    place.save(&file)?;
    if place.kept() && !out.json {
        eprintln!("replay {0}; if it is interrupted: signalbox replay --resume {0}", place.id);
    }
    let done = runtime()?.block_on(async {
        tokio::select! {
            done = replay(&file, &mut place) => done,
            why = interrupted() => Err(why),
        }
    });
    if let Err(failure) = done {
        return Err(if place.kept() { resumable(failure, &place) } else { failure });
    }
    place.forget(&file);
    let told = format!("replayed {} events to {}", place.events, place.describe());
    match (out.json, place.kept()) {
        (true, true) => out.object(&place),
        (false, true) => out.line(&told),
        // The events themselves are on standard output.
        (_, false) => {
            eprintln!("{told}");
            Ok(())
        }
    }
}

/// With how to go on behind what has arrived.
fn resumable(failure: Failure, place: &Place) -> Failure {
    let advice = match (failure.code, &*failure.fix) {
        (INTERRUPTED, _) => "go on".to_owned(),
        (_, "") => "mend that, then go on".to_owned(),
        (_, fix) => format!("{fix}; then go on"),
    };
    let fix = format!("{advice}: signalbox replay --resume {}", place.id);
    failure.fix(fix)
}

/// Until Ctrl-C or SIGTERM.
async fn interrupted() -> Failure {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return error.into(),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Failure::new(INTERRUPTED, "the replay was interrupted")
}

fn begin(file: &model::File, args: &ReplayArgs) -> Result<Place, Failure> {
    let (to, until) = destination(&args.to)?;
    let now = now();
    let ten: [u8; 10] = random()?[..10].try_into().expect("32 bytes hold 10");
    let mark = Mark::file(Arc::new(FileStorage), layout(file).watermark());
    let last = mark.durable().map_err(|error| Failure::new(INTERNAL, error.to_string()))?;
    let place = Place {
        id: JournalId::new(u64::try_from(now.0 / 1000).unwrap_or(0), ten).to_string(),
        to,
        url: args.url.clone(),
        token_file: args.token_file.clone(),
        out: args.out.clone(),
        from: moment(args.from.as_deref(), "--from")?,
        until,
        kinds: wanted(&args.domain, &args.kind)?,
        tenants: args.tenant.clone(),
        last,
        journal: None,
        through: EventSeq(0),
        events: 0,
        bytes: 0,
    };
    place.check()?;
    Ok(place)
}

/// `--to` says where to and, as a moment, until when; both may be given.
fn destination(to: &[String]) -> Result<(String, Option<Wall>), Failure> {
    let (mut target, mut until) = (None, None);
    for text in to {
        let target_named = matches!(text.as_str(), "nats" | "kafka" | "webhook" | "file");
        let twice = if target_named { target.replace(text.clone()).is_some() } else { until.is_some() };
        if twice {
            return Err(Failure::new(USAGE, format!("--to {text} is one too many"))
                .fix("give --to once as a target and once as a moment"));
        }
        if !target_named {
            let not = || {
                let message = format!("--to {text} is neither a target nor a time");
                Failure::new(USAGE, message)
                    .fix("write nats, kafka, webhook or file, or a time such as 2026-11-21T14:03:00Z")
            };
            until = Some(moment(Some(text), "--to").ok().flatten().ok_or_else(not)?);
        }
    }
    let missing =
        || Failure::new(USAGE, "it is not said where to").fix("add --to nats, kafka, webhook or file");
    Ok((target.ok_or_else(missing)?, until))
}

/// Domains and types as a filter of the bus: types, or all of the domains; with both, the types that are in the domains.
fn wanted(domains: &[String], types: &[String]) -> Result<Vec<String>, Failure> {
    let read = |names: &[String]| -> Result<Vec<String>, Failure> {
        Ok(names.iter().map(|name| kinds(Some(name))).collect::<Result<Vec<_>, _>>()?.concat())
    };
    let (domains, types) = (read(domains)?, read(types)?);
    if domains.is_empty() || types.is_empty() {
        return Ok(if types.is_empty() { domains } else { types });
    }
    let inside = |name: &String| domains.iter().any(|domain| name.split('.').next() == Some(domain));
    let both: Vec<String> = types.into_iter().filter(inside).collect();
    if both.is_empty() {
        return Err(
            Failure::new(USAGE, "none of these types is in these domains").fix("leave one of them out")
        );
    }
    Ok(both)
}

async fn replay(file: &model::File, place: &mut Place) -> Result<(), Failure> {
    if place.last.0 == 0 {
        return Ok(());
    }
    let mut target = Target::open(place, file).await?;
    let start = match (&place.journal, place.from) {
        (Some(source), _) => {
            let source =
                source.parse().map_err(|_| Failure::new(INTERNAL, "the replay's file is damaged"))?;
            Start::After(vec![(source, place.through)])
        }
        (None, Some(from)) => Start::Time(from),
        (None, None) => Start::Beginning,
    };
    let filter = Filter { kinds: place.kinds.clone(), tenants: place.tenants.clone() };
    let request = Request { name: None, filter, start, linger: Duration::ZERO };
    let failed = |error: signalbox_bus::Error| Failure::new(INTERNAL, error.to_string());
    let mut subscription = local_bus(file).subscribe(request).await.map_err(failed)?;
    let bar = bar(place.last.0);
    loop {
        let batch = match subscription.next_batch(BATCH).await {
            Ok(batch) => batch,
            Err(signalbox_bus::Error::Ended) => break,
            Err(error) => return Err(failed(error)),
        };
        for gap in &batch.gaps {
            bar.suspend(|| eprintln!("events {} to {} are no longer in the journal", gap.from, gap.to));
        }
        for event in &batch.events {
            if place.wants(event) {
                target.take(event).await?;
                place.taken(event);
            }
        }
        target.settle(place).await?;
        place.save(file)?;
        let read = batch.progress.iter().map(|progress| progress.through).max().unwrap_or_default();
        bar.set_position(read.0.min(place.last.0));
        if read >= place.last {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// On standard error, and only where that is a terminal.
fn bar(events: u64) -> ProgressBar {
    let bar = ProgressBar::new(events);
    let style =
        ProgressStyle::with_template("{wide_bar} {percent} %  {pos} of {len} read  {per_sec}  {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn to_is_a_target_and_a_moment_in_any_order() {
        let at = Wall::parse_rfc3339("2026-11-21T14:00:00Z");
        assert_eq!(destination(&words(&["nats"])).unwrap(), ("nats".to_owned(), None));
        for both in [["file", "2026-11-21T14:00:00Z"], ["2026-11-21T14:00:00Z", "file"]] {
            assert_eq!(destination(&words(&both)).unwrap(), ("file".to_owned(), at));
        }
        for wrong in [&["2026-11-21T14:00:00Z"][..], &["nats", "kafka"], &["nats", "noon"], &[]] {
            assert!(destination(&words(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn whatever_stopped_a_replay_its_end_says_how_to_go_on() {
        let place = Place { id: "01JD8".to_owned(), ..Place::default() };
        let end = |failure| resumable(failure, &place).fix;
        let go_on = "go on: signalbox replay --resume 01JD8";
        assert_eq!(end(Failure::new(INTERRUPTED, "")), go_on);
        assert_eq!(end(Failure::new(INTERNAL, "no route")), format!("mend that, then {go_on}"));
        assert_eq!(
            end(Failure::new(INTERNAL, "x").fix("free the disk")),
            format!("free the disk; then {go_on}")
        );
    }

    #[test]
    fn a_time_that_ends_before_it_begins_is_refused() {
        let at = |text| Wall::parse_rfc3339(text);
        let place = |from, until| Place {
            to: "nats".to_owned(),
            from: at(from),
            until: at(until),
            ..Place::default()
        };
        let (early, late) = ("2026-11-21T14:00:00Z", "2026-11-21T15:00:00Z");
        place(early, late).check().unwrap();
        place(early, early).check().unwrap();
        let refused = place(late, early).check().unwrap_err();
        assert_eq!(refused.exit, 2);
        assert!(refused.message.contains("--from 2026-11-21T15:00:00"), "{}", refused.message);
    }

    #[test]
    fn domains_and_types_narrow_each_other() {
        assert_eq!(wanted(&words(&["call", "edge"]), &[]).unwrap(), ["call", "edge"]);
        assert_eq!(wanted(&[], &words(&["call.ended"])).unwrap(), ["call.ended"]);
        let both = wanted(&words(&["call"]), &words(&["call.ended", "edge.started"])).unwrap();
        assert_eq!(both, ["call.ended"]);
        assert!(wanted(&words(&["call"]), &words(&["edge.started"])).is_err());
        assert!(wanted(&words(&["fax"]), &[]).is_err());
    }
}
