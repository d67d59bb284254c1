//! The catalogue: every event type of this release, with its version, aggregate and severity.

use crate::event::{EventData, ReadError, read_version};
use crate::{admin, backend, call, config, edge, journal, projection, registration, security, subscription};

/// What an event is about: its `subject`, and the key that orders events on every bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// An address of record; subject `<tenant>/<user>@<domain>`.
    Aor,
    /// A call; subject is its uid.
    Call,
    /// A backend; subject is its name.
    Backend,
    /// A tenant; subject is its name.
    Tenant,
    /// An edge; subject is its name.
    Edge,
    /// The configuration; subject `config`.
    Config,
    /// Operators' commands; subject `admin`.
    Admin,
    /// A source of traffic; subject is its address or prefix.
    Source,
    /// A projection; subject is its name.
    Projection,
    /// A subscription; subject is its id.
    Subscription,
}

impl Aggregate {
    /// Its lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aor => "aor",
            Self::Call => "call",
            Self::Backend => "backend",
            Self::Tenant => "tenant",
            Self::Edge => "edge",
            Self::Config => "config",
            Self::Admin => "admin",
            Self::Source => "source",
            Self::Projection => "projection",
            Self::Subscription => "subscription",
        }
    }
}

// OpenTelemetry severity numbers (logs data model).
const NONE: Option<u8> = None;
const INFO: Option<u8> = Some(9);
const WARN: Option<u8> = Some(13);
const ERROR: Option<u8> = Some(17);

macro_rules! catalogue {
    ($($(#[doc = $about:literal])+ $variant:ident($data:ty) = $domain:literal . $name:literal, $version:literal . $minor:literal, $aggregate:ident, $severity:ident;)+) => {
        /// The kind of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[doc = $about])+ $variant,)+
        }

        /// An event of any kind: its `data`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event {
            $($(#[doc = $about])+ $variant(Box<$data>),)+
        }

        impl Kind {
            /// Every kind, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// `call.ended`: what people see and type.
            #[must_use]
            pub const fn short(self) -> &'static str {
                match self { $(Self::$variant => concat!($domain, ".", $name),)+ }
            }

            /// `call.ended.v1`: what the journal stores.
            #[must_use]
            pub const fn versioned(self) -> &'static str {
                match self { $(Self::$variant => concat!($domain, ".", $name, ".v", $version),)+ }
            }

            /// `io.signalbox.call.ended.v1`: the CloudEvents `type`.
            #[must_use]
            pub const fn type_name(self) -> &'static str {
                match self { $(Self::$variant => concat!("io.signalbox.", $domain, ".", $name, ".v", $version),)+ }
            }

            /// `call`: the stream it belongs to.
            #[must_use]
            pub const fn domain(self) -> &'static str {
                match self { $(Self::$variant => $domain,)+ }
            }

            /// The version that this release writes; readers get older ones upcast to it.
            #[must_use]
            pub const fn version(self) -> u16 {
                match self { $(Self::$variant => $version,)+ }
            }

            /// The minor number of its schema: how often optional fields or words were added to the version.
            #[must_use]
            pub const fn minor(self) -> u16 {
                match self { $(Self::$variant => $minor,)+ }
            }

            /// What it is about.
            #[must_use]
            pub const fn aggregate(self) -> Aggregate {
                match self { $(Self::$variant => Aggregate::$aggregate,)+ }
            }

            /// The OpenTelemetry severity number, for the domains that have one: security, backend, edge.
            #[must_use]
            pub const fn severity(self) -> Option<u8> {
                match self { $(Self::$variant => $severity,)+ }
            }

            /// One sentence for lists.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($about),+).trim_ascii(),)+ }
            }

            /// A real event of the kind, as subscribers get it: structured CloudEvents JSON.
            #[must_use]
            pub const fn example(self) -> &'static str {
                match self {
                    $(Self::$variant => include_str!(concat!(
                        "../golden/io.signalbox.", $domain, ".", $name, ".v", $version, "/full.json"
                    )),)+
                }
            }

            pub(crate) fn data_schema(self, generator: schemars::SchemaGenerator) -> schemars::Schema {
                match self { $(Self::$variant => generator.into_root_schema_for::<$data>(),)+ }
            }
        }

        impl Event {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)+ }
            }

            /// Appends the `data` as JSON.
            pub fn write_data(&self, out: &mut Vec<u8>) {
                match self { $(Self::$variant(data) => data.write(out),)+ }
            }

            pub(crate) fn read_kind(kind: Kind, version: u16, data: &[u8]) -> Result<Self, ReadError> {
                match kind { $(Kind::$variant => read_version(kind, version, data).map(Self::$variant),)+ }
            }
        }

        $(
            impl EventData for $data {
                const KIND: Kind = Kind::$variant;
            }

            impl From<$data> for Event {
                fn from(data: $data) -> Self {
                    Self::$variant(Box::new(data))
                }
            }
        )+
    };
}

catalogue! {
    /// A binding was stored.
    RegistrationAdded(registration::RegistrationAdded) = "registration"."added", 1 . 0, Aor, NONE;
    /// A binding was extended.
    RegistrationRefreshed(registration::RegistrationRefreshed) = "registration"."refreshed", 1 . 0, Aor, NONE;
    /// A binding was removed before its time was up.
    RegistrationRemoved(registration::RegistrationRemoved) = "registration"."removed", 1 . 0, Aor, NONE;
    /// A binding's time was up.
    RegistrationExpired(registration::RegistrationExpired) = "registration"."expired", 1 . 0, Aor, NONE;
    /// A REGISTER was refused.
    RegistrationRejected(registration::RegistrationRejected) = "registration"."rejected", 1 . 0, Aor, NONE;
    /// A registration of the edge's own changed its state.
    RegistrationOutboundChanged(registration::RegistrationOutboundChanged) = "registration"."outbound_changed", 1 . 0, Aor, NONE;
    /// A subscription was granted.
    SubscriptionStarted(subscription::SubscriptionStarted) = "subscription"."started", 1 . 0, Subscription, NONE;
    /// A subscription was extended.
    SubscriptionRefreshed(subscription::SubscriptionRefreshed) = "subscription"."refreshed", 1 . 0, Subscription, NONE;
    /// A subscription ended.
    SubscriptionEnded(subscription::SubscriptionEnded) = "subscription"."ended", 1 . 0, Subscription, NONE;
    /// A SUBSCRIBE was refused.
    SubscriptionRejected(subscription::SubscriptionRejected) = "subscription"."rejected", 1 . 0, Subscription, NONE;
    /// Somebody tried to call.
    CallAttempted(call::CallAttempted) = "call"."attempted", 1 . 0, Call, NONE;
    /// A target was chosen for a call.
    CallRouted(call::CallRouted) = "call"."routed", 1 . 1, Call, NONE;
    /// The called side is ringing or sends early media.
    CallProgressed(call::CallProgressed) = "call"."progressed", 1 . 0, Call, NONE;
    /// A call was answered.
    CallAnswered(call::CallAnswered) = "call"."answered", 1 . 1, Call, NONE;
    /// A call in progress was changed: hold, resume, codec, target.
    CallModified(call::CallModified) = "call"."modified", 1 . 1, Call, NONE;
    /// One end of a call asks to change it.
    CallReinvited(call::CallReinvited) = "call"."reinvited", 1 . 0, Call, NONE;
    /// An answer that nobody wanted was undone.
    CallDismissed(call::CallDismissed) = "call"."dismissed", 1 . 0, Call, NONE;
    /// A call was transferred, or somebody tried to.
    CallTransferred(call::CallTransferred) = "call"."transferred", 1 . 0, Call, NONE;
    /// A long call goes on: for interim billing.
    CallCheckpointed(call::CallCheckpointed) = "call"."checkpointed", 1 . 0, Call, NONE;
    /// A call came back under control after a restart or takeover.
    CallRecovered(call::CallRecovered) = "call"."recovered", 1 . 0, Call, NONE;
    /// An answered call ended: the call record.
    CallEnded(call::Cdr) = "call"."ended", 1 . 0, Call, NONE;
    /// A call was not answered: the call record, and how far it had come.
    CallFailed(call::CallFailed) = "call"."failed", 1 . 0, Call, NONE;
    /// A backend changed its state.
    BackendStateChanged(backend::BackendStateChanged) = "backend"."state_changed", 1 . 0, Backend, WARN;
    /// A tenant has fewer healthy backends than it should.
    BackendPoolDegraded(backend::BackendPoolDegraded) = "backend"."pool_degraded", 1 . 0, Tenant, ERROR;
    /// An edge began to serve.
    EdgeStarted(edge::EdgeStarted) = "edge"."started", 1 . 0, Edge, INFO;
    /// An edge lets its calls end and takes no new ones.
    EdgeDraining(edge::EdgeDraining) = "edge"."draining", 1 . 0, Edge, INFO;
    /// An edge stopped in order.
    EdgeStopped(edge::EdgeStopped) = "edge"."stopped", 1 . 0, Edge, INFO;
    /// An edge was not heard for too long.
    EdgeLost(edge::EdgeLost) = "edge"."lost", 1 . 0, Edge, ERROR;
    /// A lost edge was heard again.
    EdgeReturned(edge::EdgeReturned) = "edge"."returned", 1 . 0, Edge, INFO;
    /// The wall clock of an edge was moved.
    EdgeClockStepped(edge::EdgeClockStepped) = "edge"."clock_stepped", 1 . 0, Edge, WARN;
    /// An edge's load passed into another level.
    EdgeOverloaded(edge::EdgeOverloaded) = "edge"."overloaded", 1 . 0, Edge, WARN;
    /// A certificate ends soon.
    EdgeCertificateExpiring(edge::EdgeCertificateExpiring) = "edge"."certificate_expiring", 1 . 0, Edge, WARN;
    /// A journal segment was closed for ever.
    JournalSealed(journal::JournalSealed) = "journal"."sealed", 1 . 0, Edge, NONE;
    /// The journal was full and a slow sink lost events.
    JournalOverrun(journal::JournalOverrun) = "journal"."overrun", 1 . 0, Edge, NONE;
    /// A configuration came into force.
    ConfigApplied(config::ConfigApplied) = "config"."applied", 1 . 1, Config, NONE;
    /// A configuration was refused.
    ConfigRejected(config::ConfigRejected) = "config"."rejected", 1 . 1, Config, NONE;
    /// Somebody gave a command that changes something.
    AdminActed(admin::AdminActed) = "admin"."acted", 1 . 0, Admin, NONE;
    /// A source gave wrong credentials.
    SecurityAuthFailed(security::SecurityAuthFailed) = "security"."auth_failed", 1 . 0, Source, WARN;
    /// Requests of a source were refused by a rule.
    SecurityRequestRejected(security::SecurityRequestRejected) = "security"."request_rejected", 1 . 0, Source, WARN;
    /// TLS with a source failed before anything was said.
    SecurityTlsFailed(security::SecurityTlsFailed) = "security"."tls_failed", 1 . 0, Source, WARN;
    /// A projection's tables were made anew and took the place of the old ones.
    ProjectionRebuilt(projection::ProjectionRebuilt) = "projection"."rebuilt", 1 . 0, Projection, NONE;
    /// An event cannot be applied to the tables; its aggregate waits for an operator.
    ProjectionParked(projection::ProjectionParked) = "projection"."parked", 1 . 0, Projection, NONE;
    /// A parked aggregate goes on.
    ProjectionResumed(projection::ProjectionResumed) = "projection"."resumed", 1 . 0, Projection, NONE;
}
