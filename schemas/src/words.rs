//! The enumerations of events: lower-case words, each list with `unknown`.
//!
//! Within a version new words may be added, so a reader takes a word that it does not know as `unknown`
//! and goes on.

/// An enumeration with one lower-case word per variant, and `unknown` for every other word.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[doc = $about:literal])+ $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[doc = $about])+ $variant,)+
            /// Not known: not told, or a word of a later release.
            #[default]
            Unknown,
        }

        impl $name {
            /// Every value, in the order of the documentation; `Unknown` is the last.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+ Self::Unknown];

            /// The word in JSON, SQL and on the screen.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Unknown => "unknown",
                }
            }

            /// The value of a word; a word that this release does not know is `Unknown`.
            #[must_use]
            pub fn read(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => Self::Unknown,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Word;
                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a lower-case word")
                    }
                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        Ok($name::read(word))
                    }
                }
                d.deserialize_str(Word)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words: &[(&str, &str)] = &[
                    $(($word, concat!($($about),+)),)+
                    ("unknown", " Not known: not told, or a word of a later release."),
                ];
                crate::words::schema_of(words)
            }
        }
    )+};
}

/// One schema for every list of words: the words, and what each means as the description.
fn schema_of(words: &[(&str, &str)]) -> schemars::Schema {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let lines: Vec<String> =
        words.iter().map(|(word, about)| format!("`{word}`: {}", about.trim())).collect();
    schemars::json_schema!({ "type": "string", "enum": names, "description": lines.join("\n") })
}

words! {
    /// SIP transports (RFC 3261 §18, RFC 7118).
    Transport {
        /// Datagrams.
        Udp = "udp",
        /// A stream without TLS.
        Tcp = "tcp",
        /// TLS over TCP.
        Tls = "tls",
        /// WebSocket.
        Ws = "ws",
        /// WebSocket over TLS.
        Wss = "wss",
    }

    /// Which traversal of the edge a call is. A call phone → PBX → phone is two calls with different sides.
    Side {
        /// From an endpoint to a backend.
        AccessIn = "access_in",
        /// From a backend to an endpoint.
        AccessOut = "access_out",
        /// From a trunk to a backend or endpoint.
        TrunkIn = "trunk_in",
        /// From a backend or endpoint to a trunk.
        TrunkOut = "trunk_out",
    }

    /// The direction of a call as the tenant's users see it.
    Direction {
        /// Towards one of the tenant's users: trunk → backend, backend → endpoint.
        Inbound = "inbound",
        /// Placed by one of the tenant's users: endpoint → backend, backend → trunk.
        Outbound = "outbound",
        /// Between two of the tenant's users without a backend between.
        Internal = "internal",
    }

    /// What kind of peer is on one side of a call.
    PeerKind {
        /// A phone or softphone.
        Endpoint = "endpoint",
        /// A PBX node of the tenant.
        Backend = "backend",
        /// A carrier.
        Trunk = "trunk",
        /// Another edge of the cluster.
        Edge = "edge",
    }

    /// Why a binding was removed.
    RemovalReason {
        /// The phone asked for it (expires 0).
        Client = "client",
        /// A newer registration of the same device took its place.
        Replaced = "replaced",
        /// An operator removed it.
        Admin = "admin",
        /// Its flow was lost and cannot come back.
        FlowFailed = "flow_failed",
    }

    /// The state of a registration that the edge itself has elsewhere.
    OutboundState {
        /// It was granted.
        Registered = "registered",
        /// It was refused, and is tried again.
        Refused = "refused",
        /// Nobody answered, and it is tried again.
        Unreachable = "unreachable",
        /// The edge has withdrawn it.
        Ended = "ended",
    }

    /// Why a subscription ended; all but the first and the last are words of the notifier (RFC 6665 §4.1.3).
    SubscriptionEnd {
        /// The subscriber asked for it (expires 0).
        Client = "client",
        /// Its time was up.
        Timeout = "timeout",
        /// The subscriber may subscribe again at once.
        Deactivated = "deactivated",
        /// The subscriber may subscribe again later.
        Probation = "probation",
        /// Its authorization was withdrawn.
        Rejected = "rejected",
        /// Nobody decided about it in time.
        Giveup = "giveup",
        /// What was watched is not there any more.
        Noresource = "noresource",
        /// What was watched does not change any more.
        Invariant = "invariant",
        /// One side answered that it knows nothing of it, or is gone.
        Gone = "gone",
    }

    /// Who refused a registration.
    RejectedBy {
        /// The backend answered with a final failure.
        Backend = "backend",
        /// The edge refused it: limit, policy, no backend.
        Edge = "edge",
    }

    /// Who acted in a call.
    Party {
        /// The calling side.
        Caller = "caller",
        /// The called side.
        Callee = "callee",
        /// The edge itself.
        Edge = "edge",
    }

    /// What ended a call.
    ReleasedBy {
        /// The calling side hung up.
        Caller = "caller",
        /// The called side hung up.
        Callee = "callee",
        /// The edge ended it: a limit, an operator, a failed recovery.
        Edge = "edge",
        /// Nothing was heard in time: a session timer, or a ringing call nobody answered.
        Timeout = "timeout",
        /// The backend was lost.
        BackendFailure = "backend_failure",
    }

    /// How a call came out.
    Category {
        /// It was answered.
        Answered = "answered",
        /// The called side was busy (486, 600).
        Busy = "busy",
        /// Nobody answered (408 or 480 after ringing, timeout).
        NoAnswer = "no_answer",
        /// The caller gave up (487).
        Cancelled = "cancelled",
        /// The called side or its backend refused it.
        Rejected = "rejected",
        /// The number or address does not exist or is not reachable (404, 410, 484, 604).
        NotFound = "not_found",
        /// The network failed: no route, no answer from a peer, 5xx.
        Network = "network",
        /// A rule of the security plane refused it.
        Blocked = "blocked",
        /// A limit of the tenant, trunk or edge refused it.
        Limit = "limit",
    }

    /// How complete a call record is.
    Completeness {
        /// Seen from the first to the last message.
        Normal = "normal",
        /// The edge restarted during the call and saw its end.
        Recovered = "recovered",
        /// The end was not seen; times are the best that is known.
        Estimated = "estimated",
        /// Taken over from another system.
        Imported = "imported",
    }

    /// How far a failed call had come.
    FailureStage {
        /// Refused before a target was looked for: limit, block, policy.
        Admission = "admission",
        /// No target was found.
        Routing = "routing",
        /// Sent, and no answer above 100 came from the target.
        Connecting = "connecting",
        /// The target was ringing or sent early media.
        Ringing = "ringing",
    }

    /// What a call was sent to.
    TargetKind {
        /// The contact of a registered phone.
        Contact = "contact",
        /// A backend.
        Backend = "backend",
        /// A trunk.
        Trunk = "trunk",
    }

    /// Why a target was chosen.
    RouteBasis {
        /// A contact token named the binding.
        Token = "token",
        /// A binding of the address of record.
        Binding = "binding",
        /// The address of record's own backend.
        Sticky = "sticky",
        /// The tenant's backends by priority and weight.
        Backends = "backends",
        /// The tenant owns the number.
        Number = "number",
        /// A rule of the configuration.
        Rule = "rule",
        /// The target before it failed.
        Failover = "failover",
    }

    /// The kind of a media stream (RFC 8866 §5.14).
    MediaKind {
        /// Sound.
        Audio = "audio",
        /// Pictures.
        Video = "video",
        /// Real-time text.
        Text = "text",
        /// Fax (T.38).
        Image = "image",
        /// Anything else that is named: application, message.
        Application = "application",
    }

    /// The direction of media as the sender of the description sees it (RFC 8866 §6.7).
    MediaDirection {
        /// Both ways.
        Sendrecv = "sendrecv",
        /// It only sends: often hold.
        Sendonly = "sendonly",
        /// It only receives.
        Recvonly = "recvonly",
        /// Neither.
        Inactive = "inactive",
    }

    /// What is known of the Identity header of a call (RFC 8224).
    IdentityVerdict {
        /// There is none.
        Absent = "absent",
        /// There is one; it was not checked.
        Unchecked = "unchecked",
        /// It was checked and holds.
        Passed = "passed",
        /// It was checked and does not hold.
        Failed = "failed",
    }

    /// How a call in progress was changed.
    ModificationKind {
        /// Put on hold.
        Hold = "hold",
        /// Taken back from hold.
        Resume = "resume",
        /// Other codecs, or media added or taken away.
        Codec = "codec",
        /// A new remote target or media address.
        Target = "target",
        /// Something else.
        Other = "other",
    }

    /// How a call was transferred (RFC 5589).
    TransferKind {
        /// Without talking to the target first.
        Blind = "blind",
        /// After a consultation call (Replaces, RFC 3891).
        Attended = "attended",
    }

    /// What became of a transfer.
    TransferOutcome {
        /// The peer took the request; its end was not seen.
        Accepted = "accepted",
        /// The transfer target answered.
        Completed = "completed",
        /// The transfer target did not answer.
        Failed = "failed",
        /// The peer refused the request.
        Rejected = "rejected",
    }

    /// How a call came back under control.
    RecoveryCause {
        /// The edge restarted from its own journal.
        Restart = "restart",
        /// Another edge took the call over.
        Takeover = "takeover",
    }

    /// The state of a backend as an edge sees it.
    BackendState {
        /// It answers; calls go to it.
        Up = "up",
        /// It answers late or not always; calls go to it when nothing better is there.
        Degraded = "degraded",
        /// It does not answer; no call goes to it.
        Down = "down",
        /// An operator lets its calls end; no new call goes to it.
        Draining = "draining",
        /// An operator took it out.
        Disabled = "disabled",
    }

    /// What made a backend change its state.
    BackendCause {
        /// The answers to probes, or their absence.
        Probe = "probe",
        /// The answers to real traffic, or their absence.
        Traffic = "traffic",
        /// A command.
        Operator = "operator",
        /// A new configuration.
        Config = "config",
    }

    /// How loaded an edge is.
    OverloadLevel {
        /// Everything is taken.
        Normal = "normal",
        /// New calls and registrations get 503 now and then; what exists goes on.
        Reserve = "reserve",
        /// No new call or registration is taken.
        Full = "full",
    }

    /// What an edge ran short of.
    OverloadResource {
        /// Processing time.
        Cpu = "cpu",
        /// Space for the journal.
        Disk = "disk",
        /// Commits to the journal are late.
        Commit = "commit",
        /// Calls or registrations the edge may hold.
        Capacity = "capacity",
    }

    /// What became of a command.
    Outcome {
        /// It was done.
        Done = "done",
        /// It was refused: no right, or nothing to do it to.
        Refused = "refused",
        /// It was tried and failed.
        Failed = "failed",
    }

    /// The rule that a refused request broke.
    RequestRule {
        /// It is not SIP.
        Malformed = "malformed",
        /// It names a domain of no tenant.
        UnknownDomain = "unknown_domain",
        /// Its source is no peer that may send this.
        UnknownPeer = "unknown_peer",
        /// An access list refuses the source.
        Acl = "acl",
        /// The method is not allowed here.
        Method = "method",
        /// It is longer than a limit.
        Oversize = "oversize",
        /// It is one more than a limit allows.
        Limit = "limit",
    }
}

impl From<signalbox_base::Transport> for Transport {
    fn from(transport: signalbox_base::Transport) -> Self {
        use signalbox_base::Transport as Base;
        match transport {
            Base::Udp => Self::Udp,
            Base::Tcp => Self::Tcp,
            Base::Tls => Self::Tls,
            Base::Ws => Self::Ws,
            Base::Wss => Self::Wss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_as_it_is_written() {
        for state in BackendState::ALL {
            let json = serde_json::to_string(state).unwrap();
            assert_eq!(json, format!("\"{state}\""));
            assert_eq!(serde_json::from_str::<BackendState>(&json).unwrap(), *state);
        }
    }

    #[test]
    fn a_word_of_a_later_release_is_unknown() {
        assert_eq!(serde_json::from_str::<Category>("\"teleported\"").unwrap(), Category::Unknown);
        assert!(serde_json::from_str::<Category>("7").is_err());
    }

    #[test]
    fn the_transports_of_the_base_crate_keep_their_names() {
        use signalbox_base::Transport as Base;
        for base in [Base::Udp, Base::Tcp, Base::Tls, Base::Ws, Base::Wss] {
            assert_eq!(Transport::from(base).as_str(), base.as_str());
        }
    }
}
