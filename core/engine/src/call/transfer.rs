//! Transfers: a REFER inside a call, and what its NOTIFYs say of it (RFC 3515, RFC 5589).

use super::leg::End;
use crate::facts::call as facts;
use signalbox_base::{CallUid, Text};
use signalbox_schemas::words::{TransferKind, TransferOutcome};
use signalbox_sip::header::NameAddr;
use signalbox_sip::uri::{Uri, without_headers};
use signalbox_sip::{HeaderName, Message, Method};

/// One that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Who asked.
    pub(crate) by: End,
    pub(crate) kind: TransferKind,
    /// Whom to.
    pub(crate) target: Text,
    /// The call that takes this one's place, where it is one of ours.
    pub(crate) replaces: Option<CallUid>,
}

impl Transfer {
    /// What a REFER asks for.
    pub(crate) fn asked<B: AsRef<[u8]>>(by: End, request: &Message<B>) -> Option<Box<Self>> {
        if request.method() != Method::Refer {
            return None;
        }
        let uri = NameAddr::parse(request.value(HeaderName::ReferTo)?).ok()?.uri;
        let headers = match Uri::parse(uri) {
            Ok(Uri::Sip(sip)) => sip.headers,
            _ => b"",
        };
        let replaces = |header: &[u8]| header.to_ascii_lowercase().starts_with(b"replaces=");
        let attended = headers.split(|byte| *byte == b'&').any(replaces);
        Some(Box::new(Self {
            by,
            kind: if attended { TransferKind::Attended } else { TransferKind::Blind },
            target: facts::user_or_whole(without_headers(uri)),
            replaces: None,
        }))
    }
}

/// What a final answer to the REFER makes of it; a challenge makes nothing of it.
pub(crate) fn answered(status: u16) -> Option<TransferOutcome> {
    match status {
        ..=299 => Some(TransferOutcome::Accepted),
        401 | 407 => None,
        _ => Some(TransferOutcome::Rejected),
    }
}

/// The end of it, when a NOTIFY tells that: by the status line in its body (RFC 3515 §2.4.5).
pub(crate) fn ended<B: AsRef<[u8]>>(notify: &Message<B>) -> Option<(TransferOutcome, u16)> {
    let status = notify.body().strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    let status: u16 = std::str::from_utf8(status).ok()?.parse().ok()?;
    match status {
        200..=299 => Some((TransferOutcome::Completed, status)),
        300..=699 => Some((TransferOutcome::Failed, status)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_sip::Limits;

    fn message(method: &str, rest: &str) -> Message<Vec<u8>> {
        let text = format!(
            "{method} sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
             Call-ID: x\r\nCSeq: 1 {method}\r\n{rest}"
        );
        Message::parse(text.into_bytes(), &Limits::DATAGRAM).unwrap()
    }

    #[test]
    fn given_a_refer_then_it_is_attended_when_it_names_a_dialog() {
        for (to, kind, target) in [
            ("<sip:403@b>", TransferKind::Blind, "403"),
            ("sip:%34@b", TransferKind::Blind, "4"),
            (
                "<sip:403@b?Require=replaces&Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>",
                TransferKind::Attended,
                "403",
            ),
        ] {
            let transfer =
                Transfer::asked(End::Caller, &message("REFER", &format!("Refer-To: {to}\r\n\r\n"))).unwrap();
            assert_eq!((transfer.kind, &*transfer.target), (kind, target), "{to}");
        }
        assert_eq!(Transfer::asked(End::Caller, &message("INFO", "\r\n")), None);
    }

    #[test]
    fn given_a_notify_then_its_status_line_tells_the_end() {
        for (body, end) in [
            ("SIP/2.0 100 Trying\r\n", None),
            ("SIP/2.0 200 OK", Some((TransferOutcome::Completed, 200))),
            ("SIP/2.0 486 Busy\r\n", Some((TransferOutcome::Failed, 486))),
            ("SIP/2.0 20", None),
            ("nonsense", None),
        ] {
            let notify = message("NOTIFY", &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
            assert_eq!(ended(&notify), end, "{body}");
        }
    }
}
