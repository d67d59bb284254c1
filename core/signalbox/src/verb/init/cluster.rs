//! The other edges of a first configuration: where they are, where this one takes their requests, and the key of all.

use super::{answer, optional, quoted};
use crate::args::InitArgs;
use crate::errors::{Failure, USAGE};
use crate::identity;
use std::path::{Path, PathBuf};

/// Where requests between edges come in.
const PORT: u16 = 5070;

/// What is said of other edges.
pub(super) struct Cluster {
    /// Their addresses or prefix.
    edges: String,
    /// This machine's address among them.
    own: String,
    key: PathBuf,
}

impl Cluster {
    /// Asks for it where there is a bus: without one edges cannot know of each other.
    pub(super) fn ask(args: &InitArgs, has_bus: bool) -> Result<Option<Self>, Failure> {
        if !has_bus {
            let given = args.edges.is_some() || args.edges_listen.is_some();
            let refused = || Failure::new(USAGE, "edges know of each other by the bus, and none is named");
            return if given { Err(refused().fix("add --bus nats or --bus kafka")) } else { Ok(None) };
        }
        let question = "network of the other edges (for example 10.0.9.0/24), or nothing for none";
        let Some(edges) = optional(args.edges.as_deref(), question)? else { return Ok(None) };
        let question = "address of this machine in it (for example 10.0.9.1)";
        let own = answer(args.edges_listen.as_deref(), "--edges-listen", question)?;
        let key = std::path::absolute(&args.cluster_key)?;
        Ok(Some(Self { edges, own, key }))
    }

    /// Makes the key where there is none yet. `true` when it did.
    pub(super) fn make_key(&self) -> Result<bool, Failure> {
        identity::make_key(&self.key)
    }

    pub(super) fn key(&self) -> &Path {
        &self.key
    }

    /// Line of `[edge]`.
    pub(super) fn in_edge(&self) -> String {
        let key = quoted(&self.key.display().to_string());
        format!("cluster_key_file = {key}   # the same file on every edge\n")
    }

    /// The listener for edges, and `[cluster]`.
    pub(super) fn render(&self) -> String {
        let (address, edges) = (quoted(&format!("udp:{}:{PORT}", self.own)), quoted(&self.edges));
        format!(
            r#"
[[listener]]                     # other edges hand calls over here: a trusted network, or "tls:" with [cluster] certificates
network = "edges"
address = {address}
serves  = ["edges"]

[cluster]
edges = [{edges}]                # nobody else is answered there
"#
        )
    }

    /// What is to be done on the other edges.
    pub(super) fn next_steps(&self) -> String {
        format!(
            "\nThe other edges: copy {} to each, and let them in.\n  nft add rule inet filter input ip saddr {} udp dport {PORT} accept\n",
            self.key.display(),
            self.edges
        )
    }
}
