//! How people and programs look at a running edge, and change it.
//!
//! - HTTP on `[admin] listen`: read-only, see [`http`](self#http).
//! - `data_dir/admin.sock`: everything, for whoever may open it (mode 0600); see [`protocol`].
//!
//! # HTTP
//!
//! `/health` is 200 while the edge works and 503 when it has failed; `/ready` is 503 while it starts, catches up or drains;
//! `/metrics` speaks the OpenMetrics text format; `/schemas/…` serves the published event schemas and `/catalogue` a page
//! about them; `/events` streams events, to this machine or to whoever has the token. All but the first two answer only to
//! who asks by an address, by `localhost` or by a name of this machine: 421 otherwise.

mod client;
mod events;
mod hosts;
mod http;
mod patient;
pub mod protocol;
mod socket;
mod standalone;

pub use client::{AskError, ask};
pub use standalone::HealthServer;

use crate::config::EdgeConfig;
use crate::error::StartError;
use crate::handle::EdgeHandle;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use tokio::runtime::Handle;

/// Name of the admin socket in the data directory.
pub const SOCKET: &str = "admin.sock";

/// Bound, not yet served.
pub(crate) struct Listeners {
    http: Option<(TcpListener, SocketAddr)>,
    events_token_file: Option<PathBuf>,
    hosts: Vec<String>,
    socket: UnixListener,
    path: PathBuf,
}

impl Listeners {
    /// Opens both, so that what is in the way is known at the start.
    pub(crate) fn bind(config: &EdgeConfig) -> Result<Self, StartError> {
        let open_http = |address: SocketAddr| {
            let open = || -> std::io::Result<(TcpListener, SocketAddr)> {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let bound = listener.local_addr()?;
                Ok((listener, bound))
            };
            open().map_err(|cause| StartError::AdminListen { address, cause })
        };
        let http = config.admin_listen.map(open_http).transpose()?;
        let path = config.data_dir.join(SOCKET);
        let socket =
            socket::bind(&path).map_err(|cause| StartError::AdminSocket { path: path.clone(), cause })?;
        let (events_token_file, hosts) = (config.events_token_file.clone(), config.admin_hosts.clone());
        Ok(Self { http, events_token_file, hosts, socket, path })
    }

    pub(crate) fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|(_, address)| *address)
    }

    /// Serves until the edge has ended.
    pub(crate) fn serve(self, edge: &EdgeHandle, runtime: &Handle) {
        if let Some((listener, address)) = self.http {
            let guard =
                http::Guard { token_file: self.events_token_file, loopback: address.ip().is_loopback() };
            let hosts = hosts::Hosts::new(&self.hosts);
            runtime.spawn(http::serve(listener, edge.clone(), guard, hosts));
        }
        runtime.spawn(socket::serve(self.socket, self.path, edge.clone()));
    }
}
