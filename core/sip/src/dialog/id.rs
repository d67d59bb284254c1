//! What names a dialog (RFC 3261 §12).

use serde::{Deserialize, Serialize};
use signalbox_base::Text;

/// Call-ID, our tag and the peer's, compared byte for byte (RFC 3261 §19.3, §8.1.1.4). The tag of an RFC 2543 peer that
/// gave none is empty (§12.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: Text,
    /// The tag we gave: in From of what we send, in To of what we receive.
    pub local_tag: Text,
    /// The peer's.
    pub remote_tag: Text,
}

impl DialogId {
    /// As read from a request that we received, or a response that we send (RFC 3261 §12.2.2).
    #[must_use]
    pub fn of_received_request(call_id: &str, from_tag: &str, to_tag: &str) -> Self {
        Self { call_id: call_id.into(), local_tag: to_tag.into(), remote_tag: from_tag.into() }
    }

    /// As read from a response that we received, or a request that we send.
    #[must_use]
    pub fn of_received_response(call_id: &str, from_tag: &str, to_tag: &str) -> Self {
        Self { call_id: call_id.into(), local_tag: from_tag.into(), remote_tag: to_tag.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_response_name_the_same_dialog_from_both_ends_rfc3261_12() {
        let callee = DialogId::of_received_request("id", "alice", "bob");
        let caller = DialogId::of_received_response("id", "alice", "bob");
        assert_eq!((&caller.local_tag, &caller.remote_tag), (&callee.remote_tag, &callee.local_tag));
        assert_eq!(caller.local_tag, "alice");
    }

    #[test]
    fn tags_have_case_rfc3261_19_3() {
        assert_ne!(
            DialogId::of_received_request("id", "a", "b"),
            DialogId::of_received_request("id", "A", "b")
        );
    }
}
