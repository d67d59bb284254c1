//! Known header names and their compact forms, found without allocation.

use std::fmt;

macro_rules! header_names {
    ($($variant:ident $name:literal $compact:literal;)*) => {
        /// A header name this crate knows, or [`HeaderName::Other`] for any other token.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum HeaderName {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// A name this crate does not know; its bytes are in the message.
            Other,
        }

        const NAMES: &[(HeaderName, &str, &str)] = &[$((HeaderName::$variant, $name, $compact),)*];
    };
}

// IANA's "SIP Parameters, Header Fields" as far as a border element meets them; the second column is the compact form.
header_names! {
    Accept "Accept" "";
    AcceptContact "Accept-Contact" "a";
    AcceptEncoding "Accept-Encoding" "";
    AcceptLanguage "Accept-Language" "";
    AlertInfo "Alert-Info" "";
    Allow "Allow" "";
    AllowEvents "Allow-Events" "u";
    AnswerMode "Answer-Mode" "";
    AuthenticationInfo "Authentication-Info" "";
    Authorization "Authorization" "";
    CallId "Call-ID" "i";
    CallInfo "Call-Info" "";
    Contact "Contact" "m";
    ContentDisposition "Content-Disposition" "";
    ContentEncoding "Content-Encoding" "e";
    ContentLanguage "Content-Language" "";
    ContentLength "Content-Length" "l";
    ContentType "Content-Type" "c";
    CSeq "CSeq" "";
    Date "Date" "";
    Diversion "Diversion" "";
    ErrorInfo "Error-Info" "";
    Event "Event" "o";
    Expires "Expires" "";
    FeatureCaps "Feature-Caps" "";
    FlowTimer "Flow-Timer" "";
    From "From" "f";
    Geolocation "Geolocation" "";
    GeolocationRouting "Geolocation-Routing" "";
    HistoryInfo "History-Info" "";
    Identity "Identity" "y";
    InReplyTo "In-Reply-To" "";
    InfoPackage "Info-Package" "";
    Join "Join" "";
    MaxBreadth "Max-Breadth" "";
    MaxForwards "Max-Forwards" "";
    MimeVersion "MIME-Version" "";
    MinExpires "Min-Expires" "";
    MinSe "Min-SE" "";
    Organization "Organization" "";
    PAccessNetworkInfo "P-Access-Network-Info" "";
    PAssertedIdentity "P-Asserted-Identity" "";
    PAssociatedUri "P-Associated-URI" "";
    PCalledPartyId "P-Called-Party-ID" "";
    PChargingVector "P-Charging-Vector" "";
    PEarlyMedia "P-Early-Media" "";
    PPreferredIdentity "P-Preferred-Identity" "";
    Path "Path" "";
    Priority "Priority" "";
    Privacy "Privacy" "";
    ProxyAuthenticate "Proxy-Authenticate" "";
    ProxyAuthorization "Proxy-Authorization" "";
    ProxyRequire "Proxy-Require" "";
    RAck "RAck" "";
    Reason "Reason" "";
    RecordRoute "Record-Route" "";
    RecvInfo "Recv-Info" "";
    ReferSub "Refer-Sub" "";
    ReferTo "Refer-To" "r";
    ReferredBy "Referred-By" "b";
    RejectContact "Reject-Contact" "j";
    RemotePartyId "Remote-Party-ID" "";
    Replaces "Replaces" "";
    ReplyTo "Reply-To" "";
    RequestDisposition "Request-Disposition" "d";
    Require "Require" "";
    ResourcePriority "Resource-Priority" "";
    RetryAfter "Retry-After" "";
    Route "Route" "";
    RSeq "RSeq" "";
    SecurityClient "Security-Client" "";
    SecurityServer "Security-Server" "";
    SecurityVerify "Security-Verify" "";
    Server "Server" "";
    ServiceRoute "Service-Route" "";
    SessionExpires "Session-Expires" "x";
    SessionId "Session-ID" "";
    SipETag "SIP-ETag" "";
    SipIfMatch "SIP-If-Match" "";
    Subject "Subject" "s";
    SubscriptionState "Subscription-State" "";
    Supported "Supported" "k";
    TargetDialog "Target-Dialog" "";
    Timestamp "Timestamp" "";
    To "To" "t";
    Unsupported "Unsupported" "";
    UserAgent "User-Agent" "";
    UserToUser "User-to-User" "";
    Via "Via" "v";
    Warning "Warning" "";
    WwwAuthenticate "WWW-Authenticate" "";
}

const SLOTS: usize = 512;
const EMPTY: u8 = u8::MAX;

/// Open-addressed table from a name's hash to its place in `NAMES`; at most a fifth full, so probes are short.
static TABLE: [u8; SLOTS] = {
    let mut table = [EMPTY; SLOTS];
    let mut i = 0;
    while i < NAMES.len() {
        let (_, name, compact) = NAMES[i];
        insert(&mut table, name.as_bytes(), i as u8);
        if !compact.is_empty() {
            insert(&mut table, compact.as_bytes(), i as u8);
        }
        i += 1;
    }
    table
};

const fn insert(table: &mut [u8; SLOTS], name: &[u8], place: u8) {
    let mut slot = hash(name);
    while table[slot] != EMPTY {
        slot = (slot + 1) % SLOTS;
    }
    table[slot] = place;
}

/// Length, first, middle and last byte tell the names apart.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let len = name.len();
    let first = (name[0] | 0x20) as usize;
    let middle = (name[len / 2] | 0x20) as usize;
    let last = (name[len - 1] | 0x20) as usize;
    // Found by trial: with these factors all but one of the names are at their first slot.
    (len * 435 + first * 340 + middle * 434 + last * 404) % SLOTS
}

impl HeaderName {
    /// Looks a name up, long or compact, in any case. Empty and unknown names are [`HeaderName::Other`].
    #[must_use]
    pub fn from_bytes(name: &[u8]) -> Self {
        if name.is_empty() {
            return Self::Other;
        }
        let mut slot = hash(name);
        loop {
            let Some(&(id, long, compact)) = NAMES.get(usize::from(TABLE[slot])) else {
                return Self::Other;
            };
            let candidate = if name.len() == 1 { compact } else { long };
            // Nearly all peers write names as the RFC does, and comparing that is cheaper.
            if candidate.as_bytes() == name || candidate.as_bytes().eq_ignore_ascii_case(name) {
                return id;
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// The name as the RFC writes it; empty for [`HeaderName::Other`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |&(_, name, _)| name)
    }

    /// The compact form, if it has one (RFC 3261 §7.3.3).
    #[must_use]
    pub fn compact(self) -> Option<&'static str> {
        NAMES.get(self as usize).map(|&(_, _, compact)| compact).filter(|c| !c.is_empty())
    }

    /// Whether its value is a comma-separated list, so that a comma outside quotes and brackets splits it.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Accept
                | Self::AcceptContact
                | Self::AcceptEncoding
                | Self::AcceptLanguage
                | Self::AlertInfo
                | Self::Allow
                | Self::AllowEvents
                | Self::CallInfo
                | Self::Contact
                | Self::ContentEncoding
                | Self::ContentLanguage
                | Self::Diversion
                | Self::ErrorInfo
                | Self::FeatureCaps
                | Self::Geolocation
                | Self::HistoryInfo
                | Self::InReplyTo
                | Self::PAssertedIdentity
                | Self::PAssociatedUri
                | Self::PPreferredIdentity
                | Self::Path
                | Self::ProxyRequire
                | Self::Reason
                | Self::RecordRoute
                | Self::RecvInfo
                | Self::RejectContact
                | Self::RequestDisposition
                | Self::Require
                | Self::ResourcePriority
                | Self::Route
                | Self::SecurityClient
                | Self::SecurityServer
                | Self::SecurityVerify
                | Self::ServiceRoute
                | Self::Supported
                | Self::Unsupported
                | Self::Via
                | Self::Warning
        )
    }

    /// Whether a second field of this name makes the message malformed: two readers could pick different ones.
    #[must_use]
    pub const fn is_single(self) -> bool {
        matches!(self, Self::From | Self::To | Self::CallId | Self::CSeq | Self::MaxForwards)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Other { "Other" } else { self.as_str() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_in_its_compact_form() {
        for &(id, name, compact) in NAMES {
            assert_eq!(HeaderName::from_bytes(name.as_bytes()), id, "{name}");
            assert_eq!(HeaderName::from_bytes(name.to_ascii_uppercase().as_bytes()), id, "{name}");
            assert_eq!(HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()), id, "{name}");
            assert_eq!(id.as_str(), name);
            if !compact.is_empty() {
                assert_eq!(HeaderName::from_bytes(compact.as_bytes()), id, "{compact}");
                assert_eq!(HeaderName::from_bytes(compact.to_ascii_uppercase().as_bytes()), id, "{compact}");
                assert_eq!(id.compact(), Some(compact));
            }
        }
    }

    #[test]
    fn unknown_names_are_other() {
        for name in ["", "q", "X-Custom", "Vi", "Viaa", "Call_ID", "\u{e9}"] {
            assert_eq!(HeaderName::from_bytes(name.as_bytes()), HeaderName::Other, "{name}");
        }
        assert_eq!(HeaderName::Other.as_str(), "");
        assert_eq!(HeaderName::Other.compact(), None);
    }

    #[test]
    fn probing_stays_short() {
        let longest = TABLE.split(|&slot| slot == EMPTY).map(<[u8]>::len).max().expect("a table");
        assert!(longest <= 12, "longest run of taken slots is {longest}");
    }
}
