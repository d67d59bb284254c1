//! Signs of life: what an edge says once a second on the bus, past journals and streams.
//!
//! A heartbeat is a CloudEvent too (`edge.heartbeat`, structured), so that anybody's client reads it. It may be lost, and
//! an old one is worth nothing.

use crate::event::Source;
#[cfg(feature = "kafka")]
use crate::kafka;
use crate::nats;
use crate::publisher::Failure;
use serde::{Deserialize, Serialize};
use signalbox_base::{JournalId, Text, Wall};
use std::net::SocketAddr;

/// The CloudEvents type.
const TYPE: &str = "io.signalbox.edge.heartbeat.v1";

/// What an edge says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Name of the edge; of an observer that is none, a name that nobody else has.
    pub edge: Text,
    /// Whether it is an edge. Observers speak too: to know that they would hear others.
    #[serde(default)]
    pub observer: bool,
    /// It stops: not hearing it from now on is no loss.
    #[serde(default)]
    pub stopping: bool,
    /// Where it takes requests from other edges, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_at: Option<SocketAddr>,
    /// Calls in progress.
    #[serde(default)]
    pub calls: u64,
    /// Bindings.
    #[serde(default)]
    pub registrations: u64,
    /// Calls attempted in the last second.
    #[serde(default)]
    pub cps: u64,
    /// Counts its heartbeats since its process began.
    #[serde(default)]
    pub number: u64,
    /// Its process, by a name that no other has.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub process: Text,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    specversion: Text,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: Text,
    subject: Text,
    time: Text,
    datacontenttype: Text,
    data: Beat,
}

impl Beat {
    /// The structured CloudEvent. `journal` is the edge's, for `source` and `id`.
    #[must_use]
    pub fn encode(&self, cluster: &str, journal: JournalId, now: Wall) -> Vec<u8> {
        let source = Source { cluster: cluster.into(), edge: self.edge.clone(), journal };
        let envelope = Envelope {
            specversion: "1.0".into(),
            id: format!("{journal}.heartbeat.{}", self.number),
            source: source.to_string(),
            kind: TYPE.into(),
            subject: self.edge.clone(),
            time: now.to_string().into(),
            datacontenttype: "application/json".into(),
            data: self.clone(),
        };
        serde_json::to_vec(&envelope).expect("text and numbers always have a JSON form")
    }

    /// Reads one; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let envelope: Envelope = serde_json::from_slice(bytes).ok()?;
        (*envelope.kind == *TYPE).then_some(envelope.data)
    }
}

/// How heartbeats go.
#[derive(Clone, Debug)]
pub enum Pulse {
    /// Over core NATS: no stream stores them.
    Nats(nats::Config),
    /// Over a small topic that forgets soon.
    #[cfg(feature = "kafka")]
    Kafka(kafka::Config),
}

/// An open line. When it breaks it is dropped and another is opened.
pub struct Line(Inner);

enum Inner {
    Nats(nats::Heartbeats, Box<nats::Heard>),
    #[cfg(feature = "kafka")]
    Kafka {
        cluster: Text,
        sender: kafka::Heartbeats,
        heard: tokio::sync::mpsc::Receiver<kafka::Heartbeat>,
    },
}

impl Pulse {
    /// Connects, to speak and to hear everybody of the cluster.
    ///
    /// # Errors
    /// The bus is not reached, or refuses us.
    pub async fn open(&self, cluster: &str) -> Result<Line, Failure> {
        Ok(Line(match self {
            Self::Nats(config) => {
                let line = nats::Heartbeats::connect(config, cluster).await?;
                let heard = line.listen().await?;
                Inner::Nats(line, Box::new(heard))
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(config) => {
                let heard = kafka::heartbeats(config).await?;
                Inner::Kafka { cluster: cluster.into(), sender: kafka::Heartbeats::new(config)?, heard }
            }
        }))
    }
}

impl Line {
    /// Says that we live.
    ///
    /// # Errors
    /// The line is broken.
    pub async fn beat(&self, edge: &str, body: &[u8]) -> Result<(), Failure> {
        match &self.0 {
            Inner::Nats(line, _) => line.beat(edge, body).await,
            #[cfg(feature = "kafka")]
            Inner::Kafka { cluster, sender, .. } => sender.send(&format!("{cluster}/{edge}"), body),
        }
    }

    /// The next heartbeat of anybody in the cluster, ours among them. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The line is broken.
    pub async fn next(&mut self) -> Result<Beat, Failure> {
        loop {
            let body = match &mut self.0 {
                Inner::Nats(_, heard) => heard.next().await?.1,
                #[cfg(feature = "kafka")]
                Inner::Kafka { cluster, heard, .. } => {
                    let ended = || Failure::Unreachable("heartbeats are not heard any more".into());
                    let beat = heard.recv().await.ok_or_else(ended)?;
                    if beat.key.split_once('/').is_none_or(|(of, _)| *of != **cluster) {
                        continue;
                    }
                    beat.body.into()
                }
            };
            if let Some(beat) = Beat::decode(&body) {
                return Ok(beat);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_heartbeat_when_written_then_it_is_a_cloudevent_and_reads_back() {
        let beat = Beat {
            edge: "edge-1".into(),
            takes_at: Some("10.0.9.1:5070".parse().unwrap()),
            calls: 3,
            number: 7,
            ..Beat::default()
        };
        let bytes = beat.encode("prod", JournalId(9), Wall::from_secs(0));
        let event: cloudevents::Event = serde_json::from_slice(&bytes).unwrap();
        use cloudevents::AttributesReader;
        assert_eq!((event.ty(), event.subject()), (TYPE, Some("edge-1")));
        assert_eq!(Beat::decode(&bytes), Some(beat));
        assert_eq!(Beat::decode(b"{}"), None);
        let other = String::from_utf8(bytes).unwrap().replace("heartbeat.v1", "started.v1");
        assert_eq!(Beat::decode(other.as_bytes()), None);
    }
}
