//! Known scanners, by what they call themselves. They get silence: an answer is what they look for.

/// Names that scanners and auto-diallers carry in User-Agent or From, lower case.
const NAMES: [&[u8]; 13] = [
    b"friendly-scanner",
    b"friendly-request",
    b"sipvicious",
    b"sipcli",
    b"sip-scan",
    b"sipscan",
    b"sundayddr",
    b"vaxsipuseragent",
    b"vaxasip",
    b"pplsip",
    b"sivus",
    b"iwar",
    b"smap ",
];

/// Length looked at; names of scanners come early.
const LOOK_BYTES_MAX: usize = 256;

/// Whether a header's value names a scanner.
#[must_use]
pub fn is_scanner(value: &[u8]) -> bool {
    let value = &value[..value.len().min(LOOK_BYTES_MAX)];
    // One pass over the value: every request is looked at, and few bytes begin a name.
    (0..value.len())
        .any(|at| FIRST[usize::from(value[at])] && NAMES.iter().any(|name| starts(&value[at..], name)))
}

/// Bytes that begin a name, in either case.
const FIRST: [bool; 256] = {
    let mut first = [false; 256];
    let mut at = 0;
    while at < NAMES.len() {
        first[NAMES[at][0] as usize] = true;
        first[NAMES[at][0].to_ascii_uppercase() as usize] = true;
        at += 1;
    }
    first
};

/// The same for bytes that are no message: any line that starts like User-Agent or From.
#[must_use]
pub fn is_scanner_raw(bytes: &[u8]) -> bool {
    bytes
        .split(|b| *b == b'\n')
        .take(64)
        .filter(|line| starts(line, b"user-agent") || starts(line, b"from"))
        .any(is_scanner)
}

fn starts(line: &[u8], name: &[u8]) -> bool {
    line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanners_are_known_whatever_the_case_and_phones_are_not() {
        assert!(is_scanner(b"Friendly-Scanner"));
        assert!(is_scanner(b"\"sipvicious\" <sip:100@1.1.1.1>"));
        for phone in
            ["Yealink SIP-T46S 66.85.0.5", "Asterisk PBX 16.28.0", "Linphone/5.1", "baresip v1.0.0", "Zoiper"]
        {
            assert!(!is_scanner(phone.as_bytes()), "{phone}");
        }
        assert!(is_scanner_raw(b"OPTIONS sip:x\r\nuser-agent: sundayddr\r\n\r\n"));
        assert!(!is_scanner_raw(b"OPTIONS sip:sipvicious@x SIP/2.0\r\n\r\n"));
    }
}
