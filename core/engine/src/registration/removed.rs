//! What was removed a moment ago, so that an older REGISTER whose answer comes late does not bring it back.

use super::register::Pending;
use crate::state::BindingKey;
use crate::turn::Turn;
use foldhash::HashMap;
use signalbox_base::Mono;
use signalbox_sip::Message;
use signalbox_sip::transaction::{RequestFields, ServerKey};
use std::collections::VecDeque;
use std::time::Duration;

/// 64·T1: how long a REGISTER of the same phone can still be under way (RFC 3261 §17.1.2.2).
const REMEMBERED_FOR: Duration = Duration::from_secs(32);
/// Removals remembered at most; the oldest goes first.
const REMOVALS_MAX: usize = 65_536;

/// The highest CSeq that removed a binding, per Call-ID, AoR and binding. A binding that is there says it itself
/// (RFC 3261 §10.3 step 7); one that is gone cannot.
#[derive(Debug, Default)]
pub(super) struct Removals {
    cseqs: HashMap<ServerKey, (u32, Mono)>,
    order: VecDeque<(ServerKey, Mono)>,
}

impl Removals {
    /// A REGISTER removed a binding, or with `None` all of its AoR.
    pub(super) fn remember(&mut self, turn: &Turn<'_>, pending: &Pending, key: Option<BindingKey>) {
        let now = turn.now.mono;
        while let Some((oldest, until)) = self.order.front().copied() {
            if now < until && self.order.len() < REMOVALS_MAX {
                break;
            }
            self.order.pop_front();
            if self.cseqs.get(&oldest).is_some_and(|(_, latest)| *latest <= until) {
                self.cseqs.remove(&oldest);
            }
        }
        let (at, until) = (name(turn, &pending.request, &pending.name, key), now.plus(REMEMBERED_FOR));
        let entry = self.cseqs.entry(at).or_insert((0, until));
        *entry = (entry.0.max(pending.request.cseq().number), until);
        self.order.push_back((at, until));
    }

    /// Whether a later REGISTER of the same Call-ID removed the binding already.
    pub(super) fn is_behind<B: AsRef<[u8]>>(
        &self,
        turn: &Turn<'_>,
        request: &Message<B>,
        aor: &str,
        key: BindingKey,
    ) -> bool {
        !self.cseqs.is_empty()
            && [Some(key), None].into_iter().any(|key| {
                let removal = self.cseqs.get(&name(turn, request, aor, key));
                removal.is_some_and(|(cseq, until)| turn.now.mono < *until && request.cseq().number < *cseq)
            })
    }
}

fn name<B: AsRef<[u8]>>(
    turn: &Turn<'_>,
    request: &Message<B>,
    aor: &str,
    key: Option<BindingKey>,
) -> ServerKey {
    let key = key.map_or_else(Vec::new, |key| key.0.to_be_bytes().to_vec());
    turn.net.hasher.key(&RequestFields {
        method: b"removed",
        call_id: request.call_id(),
        via: aor.as_bytes(),
        uri: &key,
        ..RequestFields::default()
    })
}
