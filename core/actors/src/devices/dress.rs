//! A finished message, written as the device writes: order and names of headers, Content-Length.

use super::{Device, Length};
use signalbox_base::Transport;
use signalbox_sip::HeaderName;

/// The message in the device's form. Its headers are in one line each, as our builders write them.
pub(crate) fn dress(device: &Device, transport: Transport, message: Vec<u8>) -> Vec<u8> {
    let form = &device.form;
    if form.order.is_empty() && !form.compact && form.length == Length::Plain {
        return message;
    }
    let Some(head_len) = message.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return message };
    let (head, body) = (&message[..head_len], &message[head_len + 4..]);
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.next().unwrap_or_default();
    let mut headers: Vec<(HeaderName, &[u8], &[u8])> = lines.filter_map(header).collect();
    let last = form.order.len();
    headers.sort_by_key(|(name, ..)| form.order.iter().position(|first| first == name).unwrap_or(last));
    let mut dressed = Vec::with_capacity(message.len() + 16);
    dressed.extend_from_slice(start);
    dressed.extend_from_slice(b"\r\n");
    for (name, written, value) in headers {
        let padded;
        let value = match (name, form.length) {
            // A stream cannot do without (RFC 3261 §20.14).
            (HeaderName::ContentLength, Length::IfAny) if body.is_empty() && !transport.reliable() => {
                continue;
            }
            (HeaderName::ContentLength, Length::Padded) if !body.is_empty() => {
                padded = format!("{:>5}", body.len());
                padded.as_bytes()
            }
            _ => value,
        };
        let short = name.compact().filter(|_| form.compact);
        dressed.extend_from_slice(short.map_or(written, str::as_bytes));
        dressed.extend_from_slice(b": ");
        dressed.extend_from_slice(value);
        dressed.extend_from_slice(b"\r\n");
    }
    dressed.extend_from_slice(b"\r\n");
    dressed.extend_from_slice(body);
    dressed
}

fn header(line: &[u8]) -> Option<(HeaderName, &[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii_start());
    Some((HeaderName::from_bytes(name), name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_sip::{Limits, Message};

    const MESSAGE: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
        User-Agent: u\r\nX-Own: 1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
        Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc";

    #[test]
    fn a_dressed_message_says_the_same_in_another_form() {
        for device in Device::PHONES.iter().chain(Device::PBXS).chain(Device::TRUNKS) {
            let dressed = dress(device, Transport::Udp, MESSAGE.as_bytes().to_vec());
            let read = Message::parse(dressed.as_slice(), &Limits::DATAGRAM).unwrap();
            let plain = Message::parse(MESSAGE.as_bytes(), &Limits::DATAGRAM).unwrap();
            assert_eq!((read.body(), read.headers().len()), (plain.body(), plain.headers().len()));
            for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::ContentLength] {
                assert_eq!(read.value(name), plain.value(name), "{}: {}", device.name, name.as_str());
            }
        }
    }

    #[test]
    fn short_names_the_published_order_and_no_length_without_a_body() {
        let text = |device, message: &str| {
            String::from_utf8(dress(device, Transport::Udp, message.as_bytes().to_vec())).unwrap()
        };
        let short = text(&Device::CHAN_SIP_COMPACT, MESSAGE);
        assert!(short.contains("\r\nf: <sip:a@b>;tag=1\r\nt: <sip:a@b>\r\n"), "{short}");
        let names: Vec<_> =
            short.lines().skip(1).map_while(|line| line.split_once(": ")).map(|l| l.0).collect();
        assert_eq!(names[..3], ["v", "Max-Forwards", "f"]);
        let empty = MESSAGE
            .replace("Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc", "Content-Length: 0\r\n\r\n");
        assert!(!text(&Device::LINPHONE, &empty).contains("Content-Length"));
        assert!(text(&Device::PJSIP, MESSAGE).contains("Content-Length:     3\r\n"));
    }
}
