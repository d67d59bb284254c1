//! From `[bus]` to what publishes, what reads, and what is asked before the first record of a run.

use super::Journal;
use crate::config::model::{BusKind, File};
use signalbox_base::{EdgeIdentity, EventSeq};
use signalbox_bus::heartbeat::Pulse;
use signalbox_bus::publisher::Broker;
use signalbox_bus::relay::reconcile::{self, Own, questions, verdict};
use signalbox_bus::relay::{JournalOrigin, Link, Origin, Saved, Verdict};
use signalbox_bus::{Bus, FileHints, Local, Source};
use signalbox_edge::{BeforeFirst, Fork, Opened};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a start waits for the bus before it goes on under a new id.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// How this process reaches the bus.
#[derive(Clone)]
pub(super) struct Wiring {
    bus: crate::config::model::Bus,
    identity: EdgeIdentity,
    hints: PathBuf,
}

impl Wiring {
    pub(super) fn new(file: &File, identity: &EdgeIdentity) -> Self {
        let hints = file.edge.data_dir.join("hints");
        Self { bus: file.bus.clone(), identity: identity.clone(), hints }
    }

    fn client(&self, role: &str) -> String {
        format!("signalbox {} {role}", self.identity)
    }

    /// To publish to, as `edge` or `store`; none with the journal alone.
    pub(super) fn broker(&self, edge: &str) -> Option<Arc<dyn Broker>> {
        let client = self.client(if edge == "store" { "outbox" } else { "relay" });
        self.bus.broker(client, edge)
    }

    /// How signs of life go; none with the journal alone, where there are no other edges.
    pub(super) fn pulse(&self) -> Option<Pulse> {
        let client = self.client("presence");
        match self.bus.kind {
            BusKind::Journal => None,
            BusKind::Nats => Some(Pulse::Nats(self.bus.nats(client))),
            #[cfg(feature = "kafka")]
            BusKind::Kafka => Some(Pulse::Kafka(self.bus.kafka(client))),
            #[cfg(not(feature = "kafka"))]
            BusKind::Kafka => None,
        }
    }

    /// To read from.
    pub(super) fn bus(&self, journal: &Journal) -> Arc<dyn Bus> {
        let client = self.client("projections");
        let hints = Arc::new(FileHints::new(&self.hints));
        match self.bus.kind {
            BusKind::Nats => Arc::new(signalbox_bus::nats::NatsBus::new(self.bus.nats(client), hints)),
            #[cfg(feature = "kafka")]
            BusKind::Kafka => Arc::new(signalbox_bus::kafka::KafkaBus::new(self.bus.kafka(client), hints)),
            _ => {
                let Journal { storage, layout, mark } = journal.clone();
                Arc::new(Local::new(self.identity.clone(), storage, layout, mark))
            }
        }
    }

    /// Compares the bus's last own event with the journal before the first record of a run: a journal that was copied back
    /// or cloned must not use numbers again that others have seen. Not reached: a new id is harmless, a number used twice
    /// is not.
    pub(super) fn before_first(&self, identity: &EdgeIdentity) -> Option<BeforeFirst> {
        let broker = self.broker(&identity.edge)?;
        let identity = identity.clone();
        Some(Arc::new(move |opened: &Opened| {
            let (broker, identity, opened) = (Arc::clone(&broker), identity.clone(), opened.clone());
            // A thread of its own: whoever starts an edge may be on a runtime already.
            let asked = std::thread::spawn(move || ask(&*broker, &identity, &opened)).join();
            asked.unwrap_or_else(|_| Fork::New("the comparison with the bus panicked".to_owned()))
        }))
    }
}

fn ask(broker: &dyn Broker, identity: &EdgeIdentity, opened: &Opened) -> Fork {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Fork::New(format!("the bus was not asked: {error}")),
    };
    let answer =
        runtime.block_on(async { tokio::time::timeout(ASK_WITHIN, compare(broker, identity, opened)).await });
    runtime.shutdown_background();
    match answer {
        Ok(Ok(None)) => Fork::Keep,
        Ok(Ok(Some(parted))) => Fork::New(parted),
        Ok(Err(why)) => Fork::New(format!("the bus could not be asked what it has: {why}")),
        Err(_) => Fork::New(format!("the bus did not answer within {} s", ASK_WITHIN.as_secs())),
    }
}

/// How the bus and the journal have parted; `None` when they have not.
async fn compare(
    broker: &dyn Broker,
    identity: &EdgeIdentity,
    opened: &Opened,
) -> Result<Option<String>, String> {
    let text = |error: signalbox_bus::Error| error.to_string();
    let Opened { storage, layout, mark, journal } = opened.clone();
    let saved = saved(&layout.dir, broker.name());
    let mut origin = JournalOrigin::new(identity.clone(), storage, layout, mark, broker.name());
    let end = origin.end().map_err(text)?;
    let mut chain = origin.chain().await.map_err(text)?;
    let source = Source { cluster: identity.cluster.clone(), edge: identity.edge.clone(), journal };
    if chain.last().is_none_or(|link| link.source.journal != journal) {
        chain.push(Link { source: source.clone(), first: end.next() });
    }
    let mut connection = broker.connect().await.map_err(|failure| failure.to_string())?;
    let found = connection.own.ends(&source, &saved.known()).await.map_err(|failure| failure.to_string())?;
    let (own, lanes) = (Own { chain, end }, &connection.lanes);
    let mut digests: BTreeMap<EventSeq, u64> = BTreeMap::new();
    for seq in questions(&saved, lanes, &found, &own) {
        if let Some(look) = origin.look(seq).await.map_err(text)? {
            digests.insert(seq, look.digest);
        }
    }
    Ok(match verdict(&saved, lanes, &found, &own, &digests) {
        Verdict::Ahead(parted) | Verdict::Differs(parted) => Some(told(&parted)),
        Verdict::Equal(_) | Verdict::Behind(..) => None,
    })
}

fn told(parted: &reconcile::Divergence) -> String {
    let reconcile::Divergence { lane, bus, end, .. } = parted;
    format!(
        "{lane} on the bus holds event {bus} of this journal, which ends at {end} or says otherwise there"
    )
}

/// What the relay had saved, read beside it: taking its cursor would stop one that runs in another process.
fn saved(dir: &std::path::Path, broker: &str) -> Saved {
    let path = dir.join("cursors").join(format!("relay-{broker}.lanes"));
    let read = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    read.unwrap_or_default()
}
