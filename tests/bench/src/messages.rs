//! The messages of the load generator.

use std::fmt::Write;
use std::net::SocketAddr;

/// Session description of both sides.
const SDP: &str = "v=0\r\no=- 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=rtcp:6001\r\na=sendrecv\r\na=ssrc:1199231 cname:bench\r\n";

/// A request of the caller's side.
pub(crate) struct Request<'a> {
    pub method: &'a str,
    pub uri: &'a str,
    pub from: SocketAddr,
    pub user: u64,
    pub to_user: &'a str,
    pub to_tag: Option<&'a str>,
    pub call: u64,
    pub cseq: u32,
    pub branch: u64,
    pub routes: &'a [String],
}

/// Domain of all addresses of record.
pub(crate) const DOMAIN: &str = "bench.test";

impl Request<'_> {
    /// Writes it.
    pub(crate) fn write(&self, out: &mut String) {
        let Self { method, uri, from, user, to_user, call, cseq, branch, .. } = self;
        out.clear();
        let _ = write!(
            out,
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKb{branch};rport\r\nMax-Forwards: 70\r\n"
        );
        for route in self.routes {
            let _ = write!(out, "Route: {route}\r\n");
        }
        let _ = write!(out, "From: <sip:u{user}@{DOMAIN}>;tag=f{call}\r\nTo: <sip:{to_user}@{DOMAIN}>");
        if let Some(tag) = self.to_tag {
            let _ = write!(out, ";tag={tag}");
        }
        let _ = write!(
            out,
            "\r\nCall-ID: bench-{call}@load\r\nCSeq: {cseq} {method}\r\nContact: <sip:u{user}@{from}>\r\n"
        );
        match *method {
            "REGISTER" => out.push_str("Expires: 3600\r\nUser-Agent: bench/1.0\r\nContent-Length: 0\r\n\r\n"),
            "INVITE" => {
                let _ = write!(
                    out,
                    "User-Agent: bench/1.0\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
                    SDP.len()
                );
            }
            _ => out.push_str("Content-Length: 0\r\n\r\n"),
        }
    }
}

/// An answer of the called side to a request, headers copied as RFC 3261 8.2.6 says.
pub(crate) fn answer(request: &str, status: &str, tag: &str, contact: SocketAddr, out: &mut String) {
    out.clear();
    let _ = write!(out, "SIP/2.0 {status}\r\n");
    let invite = request.starts_with("INVITE");
    let register = request.starts_with("REGISTER");
    for line in request.split("\r\n").skip(1).take_while(|l| !l.is_empty()) {
        let keep =
            ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"].iter().any(|h| line.starts_with(h));
        let contact_back = register && line.starts_with("Contact:");
        if keep || contact_back {
            let _ = write!(out, "{line}\r\n");
        } else if line.starts_with("To:") {
            let _ = if line.contains(";tag=") {
                write!(out, "{line}\r\n")
            } else {
                write!(out, "{line};tag={tag}\r\n")
            };
        }
    }
    if register {
        out.push_str("Expires: 3600\r\n");
    } else {
        let _ = write!(out, "Contact: <sip:pbx@{contact}>\r\n");
    }
    if invite && status.starts_with("200") {
        let _ = write!(out, "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len());
    } else {
        out.push_str("Content-Length: 0\r\n\r\n");
    }
}

/// An INVITE of about 700 bytes.
pub(crate) fn sample_invite() -> Vec<u8> {
    let mut out = String::new();
    let from = SocketAddr::from(([192, 0, 2, 7], 5060));
    let request = Request {
        method: "INVITE",
        uri: "sip:600@bench.test",
        from,
        user: 401,
        to_user: "600",
        to_tag: None,
        call: 4711,
        cseq: 1,
        branch: 4711,
        routes: &[],
    };
    request.write(&mut out);
    out.into_bytes()
}
