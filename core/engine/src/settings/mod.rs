//! What the engine is told about the world: valid by construction of the configuration loader (or of a test).

mod headers;
mod limits;
mod outbound;
mod peers;
mod registrar;
mod routes;
mod templates;
mod trunks;

pub(crate) use headers::Part;
pub use headers::{
    Border, BorderOf, Borders, FieldName, FieldValue, HeaderAction, HeaderRule, NamePattern, is_owned,
};
pub use limits::{NoiseBudget, ProbeSettings, TimerSettings};
pub use outbound::OutboundSettings;
pub use peers::{
    BackendSettings, CallsFrom, ContactMode, DomainSettings, EarlyDialogs, Hide, ListenerSettings,
    PeerAddress, Redirects, Serves, TenantLimits, TenantSettings,
};
pub use registrar::{Asking, BadUserLine, Challenged, DomainPolicy, RegistrarSettings, Users};
pub use routes::{
    Affinity, DIGITS_MAX, Group, HeaderMatch, Match, Member, MemberName, NumberBlock, Numbering, Pattern,
    PeerLimits, Rejection, Ring, Rule, Rules, To, When, Who, Zone,
};
pub use templates::{Form, Rewrite, Template};
pub use trunks::{TrunkDirection, TrunkSettings};

use crate::contract::Question;
use signalbox_base::{Cidr, EdgeIdentity, JournalId, ListenerId, Secret, TenantId, Text, Transport};

/// Everything the engine needs to know; replaced as a whole by a reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this edge is.
    pub identity: EdgeIdentity,
    /// The journal that records get their ids from.
    pub journal: JournalId,
    /// Version of the program, for `edge.started` and User-Agent of our own requests.
    pub version: Text,
    /// Names of the networks, in order; listeners and peers name them by index.
    pub networks: Vec<Text>,
    /// Listeners; `ListenerId(i)` is the i-th.
    pub listeners: Vec<ListenerSettings>,
    /// Tenants.
    pub tenants: Vec<TenantSettings>,
    /// Carriers.
    pub trunks: Vec<TrunkSettings>,
    /// Where calls go, as far as it is not said by who calls whom.
    pub rules: Rules,
    /// Probing of backends that do not say otherwise.
    pub probe: ProbeSettings,
    /// Protocol timers and intervals.
    pub timers: TimerSettings,
    /// Budget for events about unauthenticated noise.
    pub noise: NoiseBudget,
    /// Key of contact tokens and of stateless dialog tokens: the same on all edges of a cluster.
    pub cluster_key: Secret,
    /// Where the listeners of the cluster's other edges are: nobody else is answered as one. Empty where there are none.
    pub edges: Vec<Cidr>,
}

impl Settings {
    /// The listener's settings; `None` for a listener of an older configuration.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<&ListenerSettings> {
        self.listeners.get(usize::from(id.0))
    }

    /// The tenant's settings.
    #[must_use]
    pub fn tenant(&self, name: &TenantId) -> Option<&TenantSettings> {
        self.tenants.iter().find(|t| &t.name == name)
    }

    /// What is to be asked of DNS about a peer on a network; `None` where its address is known.
    #[must_use]
    pub fn question(&self, network: u16, address: &PeerAddress) -> Option<Question> {
        let usable = [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter().filter(|transport| {
            let carries = |l: &ListenerSettings| l.network == network && l.transport == *transport;
            address.may_use(*transport) && self.listeners.iter().any(carries)
        });
        let PeerAddress { ref host, port, literal, any_transport, .. } = *address;
        let question =
            || Question { host: host.clone(), port, transports: usable.collect(), by_naptr: any_transport };
        literal.is_none().then(question)
    }
}
