//! What was refused, counted.

use super::Fact;
use crate::gate::noise::{Counted, Source, What};
use crate::turn::Turn;
use signalbox_base::Text;
use signalbox_schemas::security::{SecurityAuthFailed, SecurityRequestRejected, SecurityTlsFailed};
use std::time::Duration;

/// All that one source did wrong in one window, in one way.
#[must_use]
pub fn counted(turn: &Turn<'_>, counted: &Counted, window: Duration) -> Fact {
    let source = match counted.source {
        Source::Address(ip) => Some(ip.into()),
        Source::Prefix(_) | Source::Any => None,
    };
    let subject = Text::from(counted.source.to_string());
    match counted.what {
        What::Rejected(rule) => {
            let event = SecurityRequestRejected {
                edge: turn.edge(),
                source,
                rule,
                offset: counted.last.offset,
                method: counted.last.method.clone(),
                domain: counted.last.domain.clone(),
                user_agent: counted.last.user_agent.clone(),
                reason: counted.last.failure.clone(),
                count: counted.count,
                window_ms: millis(window),
                ..SecurityRequestRejected::default()
            };
            Fact::new(event, subject, turn.now.wall)
        }
        What::AuthFailed => {
            let event = SecurityAuthFailed {
                edge: turn.edge(),
                source,
                aor: counted.last.aor.clone(),
                user_agent: counted.last.user_agent.clone(),
                method: counted.last.method.clone().unwrap_or_default(),
                count: counted.count,
                window_ms: millis(window),
                ..SecurityAuthFailed::default()
            };
            Fact::new(event, subject, turn.now.wall)
        }
        What::TlsFailed => {
            let event = SecurityTlsFailed {
                edge: turn.edge(),
                source,
                reason: counted.last.failure.clone().unwrap_or_default(),
                outbound: counted.last.outbound,
                count: counted.count,
                window_ms: millis(window),
            };
            Fact::new(event, subject, turn.now.wall)
        }
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
