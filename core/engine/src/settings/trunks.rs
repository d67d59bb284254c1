//! Trunks: carriers, known by their address as a PBX is.

use super::peers::BackendSettings;
use super::routes::PeerLimits;
use super::templates::Template;
use signalbox_base::TenantId;
use std::sync::Arc;

/// A carrier-side peer. It never registers, and nobody registers with it.
#[derive(Clone, Debug)]
pub struct TrunkSettings {
    /// Its name (unique among trunks and backends), address, sources, hiding and probing. What only a registrar has a use
    /// for (`contact`, `trusts_edge`) is not looked at, and neither are `priority` and `weight`: groups say these.
    pub peer: BackendSettings,
    /// Whose it is; none where several tenants share it, and numbers and routes say whose a call is.
    pub tenant: Option<TenantId>,
    /// Which way calls may go.
    pub direction: TrunkDirection,
    /// How much it carries, both ways together.
    pub limits: PeerLimits,
    /// How numbers that it brings are written, before anything is decided by them.
    pub template_in: Option<Arc<Template>>,
    /// How numbers are written for it.
    pub template_out: Option<Arc<Template>>,
}

/// Which way calls may go on a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrunkDirection {
    /// From the carrier only.
    In,
    /// To the carrier only.
    Out,
    /// Both.
    #[default]
    Both,
}

impl TrunkDirection {
    /// Whether the carrier may call.
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }

    /// Whether the carrier may be called.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }
}
