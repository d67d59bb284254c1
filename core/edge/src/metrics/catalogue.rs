//! Every metric with its type, labels and help: the one list that scraping, the manual and the tests read.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// A value of the moment.
    Gauge,
    /// Durations in seconds, in buckets.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Full name as scraped (histograms add `_bucket`, `_sum` and `_count`).
    pub name: &'static str,
    /// Type.
    pub kind: MetricKind,
    /// Labels, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) const $id: Metric =
            Metric { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help };)*
        /// Every metric, in the order in which they are scraped.
        pub const METRICS: &[Metric] = &[$($id),*];
    };
}

catalogue! {
    SIP_REQUESTS = Counter "signalbox_sip_requests_total" ["method", "network"] "SIP requests received";
    SIP_RESPONSES = Counter "signalbox_sip_responses_total" ["class"] "SIP responses sent";
    SIP_RESPONSES_RECEIVED = Counter "signalbox_sip_responses_received_total" ["class"] "SIP responses received";
    SIP_RETRANSMISSIONS = Counter "signalbox_sip_retransmissions_total" [] "SIP requests sent again for want of an answer";
    SIP_TRANSACTIONS = Gauge "signalbox_sip_transactions" [] "SIP transactions in progress";
    REGISTRATIONS = Gauge "signalbox_registrations" ["tenant"] "Bindings in force";
    REGISTRATION_SECONDS = Histogram "signalbox_registration_seconds" [] "Time from a REGISTER to its final answer";
    CALLS_ACTIVE = Gauge "signalbox_calls_active" ["tenant"] "Calls in progress";
    CALLS_ATTEMPTED = Counter "signalbox_calls_attempted_total" [] "Calls attempted";
    CALLS_ANSWERED = Counter "signalbox_calls_answered_total" [] "Calls answered";
    CALLS_FAILED = Counter "signalbox_calls_failed_total" [] "Calls that ended without an answer";
    CALL_SETUP_SECONDS = Histogram "signalbox_call_setup_seconds" [] "Time from an INVITE to its answer";
    BACKEND_UP = Gauge "signalbox_backend_up" ["tenant", "backend"] "1 while the backend takes new traffic";
    BACKEND_REGISTERED = Gauge "signalbox_backend_registered" ["tenant", "backend"] "1 while the edge's own registration at the trunk or backend is in force";
    SECURITY_EVENTS = Counter "signalbox_security_events_total" ["rule"] "Requests rejected before they were served";
    UDP_RECEIVED = Counter "signalbox_udp_received_total" [] "Datagrams received";
    UDP_SENT = Counter "signalbox_udp_sent_total" [] "Datagrams handed to the network";
    UDP_FAILED = Counter "signalbox_udp_send_failures_total" [] "Datagrams that could not be sent";
    SIP_CONNECTIONS = Gauge "signalbox_sip_connections" ["transport"] "Open connections";
    SIP_CONNECTIONS_ACCEPTED = Counter "signalbox_sip_connections_accepted_total" [] "Connections accepted";
    SIP_CONNECTIONS_REFUSED = Counter "signalbox_sip_connections_refused_total" [] "Connections not accepted because of a limit";
    SIP_CONNECTIONS_CLOSED = Counter "signalbox_sip_connections_closed_total" ["reason"] "Connections ended";
    DNS_LOOKUPS = Counter "signalbox_dns_lookups_total" ["outcome"] "Lookups of peers' names: found, empty or failed";
    DNS_UNKNOWN = Gauge "signalbox_dns_unknown_names" [] "Names of peers whose last lookup found nothing";
    JOURNAL_SEQUENCE = Gauge "signalbox_journal_sequence" [] "Sequence of the last durable event";
    JOURNAL_RECORDS = Counter "signalbox_journal_records_total" [] "Events written since start";
    JOURNAL_COMMIT_SECONDS = Histogram "signalbox_journal_commit_seconds" [] "Time of a commit, from its write to the end of its fsync";
    JOURNAL_STALLED = Gauge "signalbox_journal_stalled" [] "1 while commits take longer than 200 ms";
    LAG_SECONDS = Gauge "signalbox_lag_seconds" ["sink"] "Age of the oldest event that a reader of the journal or the bus has not taken";
    LAG_EVENTS = Gauge "signalbox_lag_events" ["sink"] "Events that a reader of the journal or the bus has not taken";
    STANDBY = Gauge "signalbox_standby" ["component"] "1 while another process does what this one would, and it waits to take over";
    REBUILDING = Gauge "signalbox_projection_rebuilding" ["component"] "1 while the projection's tables are made anew";
    RELAY_STATE = Gauge "signalbox_relay_state" ["sink", "state"] "1 for the state that the relay is in";
    RELAY_PUBLISHED = Counter "signalbox_relay_published_total" ["sink"] "Events sent to the bus, again ones included";
    RELAY_ACKED = Counter "signalbox_relay_acked_total" ["sink"] "Events that the bus has acknowledged";
    RELAY_REWINDS = Counter "signalbox_relay_rewinds_total" ["sink"] "Times the relay went back to its cursor";
    PEER_UP = Gauge "signalbox_peer_edge_up" ["edge"] "1 while another edge is heard";
    PEER_SILENT = Gauge "signalbox_peer_edge_lag_seconds" ["edge"] "Time since another edge was heard";
    PEER_BINDINGS = Gauge "signalbox_peer_edge_bindings" ["edge"] "Bindings of another edge that are known here";
    EDGE_DRAINING = Gauge "signalbox_edge_draining" [] "1 while new calls and registrations are refused before a stop";
    CONFIG_REVISION = Gauge "signalbox_config_revision" [] "Revision of the configuration in force";
    BUILD_INFO = Gauge "signalbox_build_info" ["version"] "1, with the version of the program";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "CPU time of the process, user and system";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [] "Memory of the process that is in RAM";
    PROCESS_FDS = Gauge "process_open_fds" [] "Open file descriptors";
    PROCESS_START = Gauge "process_start_time_seconds" [] "Start of the edge, seconds since 1970";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_field() {
        for (i, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[..i].iter().all(|other| other.name != metric.name), "{} twice", metric.name);
            assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == MetricKind::Counter,
                "{}",
                metric.name
            );
            assert_eq!(
                metric.name.ends_with("_seconds"),
                metric.kind == MetricKind::Histogram
                    || metric.name.ends_with("lag_seconds")
                    || metric.name.contains("start_time"),
                "{}",
                metric.name
            );
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
