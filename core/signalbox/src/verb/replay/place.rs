//! What a replay is and how far it has come, kept beside the journal until it has ended.

use crate::config::model::File;
use crate::errors::{FILE_EXISTS, Failure, INTERNAL, USAGE};
use serde::{Deserialize, Serialize};
use signalbox_base::{EventSeq, Wall};
use signalbox_bus::Delivered;
use std::path::{Path, PathBuf};

/// Below the data directory.
const DIR: &str = "replays";

/// A replay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Its id: marks every event, and names the topic or the subject.
    pub(super) id: String,
    /// `nats`, `kafka`, `webhook` or `file`.
    pub(super) to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) out: Option<PathBuf>,
    #[serde(with = "moment", default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Wall>,
    #[serde(with = "moment", default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<Wall>,
    pub(super) kinds: Vec<String>,
    pub(super) tenants: Vec<String>,
    /// Where the journal ended when the replay began.
    pub(super) last: EventSeq,
    /// The source of the last event that arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) journal: Option<String>,
    /// The last event that arrived.
    pub(super) through: EventSeq,
    /// How many have arrived.
    pub(super) events: u64,
    /// Bytes of the file that hold them.
    pub(super) bytes: u64,
}

impl Place {
    /// An interrupted replay.
    pub(super) fn load(file: &File, id: &str) -> Result<Option<Self>, Failure> {
        let name_like = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let text = match std::fs::read_to_string(path(file, id)) {
            Ok(text) if name_like => text,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::of(path(file, id).display())(error)),
        };
        let read = serde_json::from_str(&text);
        read.map(Some)
            .map_err(|error| Failure::new(INTERNAL, format!("{}: {error}", path(file, id).display())))
    }

    /// Whether the words of the command fit together.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let usage = |message: &str, fix: &str| Err(Failure::new(USAGE, message).fix(fix));
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from > until
        {
            return usage(&format!("--from {from} is later than --to {until}"), "exchange them");
        }
        match (self.to.as_str(), &self.url, &self.out) {
            ("file", None, Some(out)) if out != Path::new("-") && out.exists() => {
                let message = format!("{} exists; a replay is never written over", out.display());
                Err(Failure::new(FILE_EXISTS, message).fix("choose another name, or go on with --resume"))
            }
            ("file", None, Some(_)) => Ok(()),
            ("file", ..) => usage("--to file needs the file's name", "add --out FILE; - is standard output"),
            (_, _, Some(_)) => usage("--out is for --to file", "leave it out"),
            ("webhook", None, _) => usage("--to webhook needs an address", "add --url https://…"),
            _ => Ok(()),
        }
    }

    /// Whether an interrupted one can go on: standard output is gone with the process.
    pub(super) fn kept(&self) -> bool {
        self.out.as_deref() != Some(Path::new("-"))
    }

    /// Writes it durably enough: an old one that is found again only sends some events twice.
    pub(super) fn save(&self, file: &File) -> Result<(), Failure> {
        if !self.kept() {
            return Ok(());
        }
        let path = path(file, &self.id);
        self.write(&path).map_err(Failure::of(path.display()))
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(self).expect("it has text keys only"))?;
        std::fs::rename(new, path)
    }

    /// It has ended.
    pub(super) fn forget(&self, file: &File) {
        // What stays does no harm: going on with it finds nothing to do.
        let _ = std::fs::remove_file(path(file, &self.id));
    }

    /// Whether an event belongs to it and has not arrived yet.
    pub(super) fn wants(&self, event: &Delivered) -> bool {
        let (at, seq) = (event.time, event.seq);
        let inside = self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at <= until);
        inside && seq > self.through && seq <= self.last
    }

    /// An event is on its way.
    pub(super) fn taken(&mut self, event: &Delivered) {
        self.through = event.seq;
        self.journal = Some(event.source.to_string());
        self.events += 1;
    }

    /// Where to, for people.
    pub(super) fn describe(&self) -> String {
        let at = self.url.as_deref().map(|url| format!(" at {url}")).unwrap_or_default();
        match (self.to.as_str(), &self.out) {
            ("file", Some(out)) if self.kept() => out.display().to_string(),
            ("file", _) => "standard output".to_owned(),
            ("webhook", _) => self.url.clone().unwrap_or_default(),
            (broker, _) => format!("signalbox.replay.{} on {broker}{at}", self.id),
        }
    }
}

fn path(file: &File, id: &str) -> PathBuf {
    file.edge.data_dir.join(DIR).join(format!("{id}.json"))
}

/// RFC 3339, as people give it.
mod moment {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use signalbox_base::Wall;

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(at: &Option<Wall>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => serializer.collect_str(at),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Wall>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        Wall::parse_rfc3339(&text).map(Some).ok_or_else(|| de::Error::custom("no moment"))
    }
}
