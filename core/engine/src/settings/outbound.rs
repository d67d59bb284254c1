//! Where the edge itself registers.

use signalbox_base::{Secret, Text};

/// The edge registers at a backend or trunk, which then sends it calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundSettings {
    /// `user@domain` that is registered.
    pub aor: Text,
    /// The user of the credentials.
    pub user: Text,
    /// The realm that they are for; other challenges are not answered.
    pub realm: Text,
    /// The password.
    pub secret: Secret,
    /// Seconds asked for.
    pub expires_secs: u32,
    /// The user part of Contact; without one it is a token that names the peer.
    pub contact: Option<Text>,
}

impl OutboundSettings {
    /// The domain of the AoR.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.aor.rsplit_once('@').map_or(&*self.aor, |(_, domain)| domain)
    }

    /// The user of the AoR.
    #[must_use]
    pub fn aor_user(&self) -> &str {
        self.aor.rsplit_once('@').map_or("", |(user, _)| user)
    }
}
