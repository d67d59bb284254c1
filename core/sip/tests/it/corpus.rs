//! The messages of RFC 4475 and RFC 5118 as published, when their files are at hand; `torture` has the hand-written ones.

use crate::{Fate, fate};
use std::path::PathBuf;

/// What the edge makes of each file. Where RFC 4475 leaves a choice, the comment says which one this is.
const RFC_4475: &[(&str, Fate)] = &[
    ("badaspec", Fate::Accepted), // 3.1.2.14: blanks inside <>, readable without doubt
    ("badbranch", Fate::Accepted), // 3.2.1: a bare cookie is no branch; the transaction layer treats it as RFC 2543's
    ("badinv01", Fate::Unreadable), // 3.1.2.1
    ("badvers", Fate::Answered(505)), // 3.1.2.16
    ("baddate", Fate::Accepted),   // 3.1.2.12: Date is carried, not read
    ("baddn", Fate::Accepted),     // 3.1.2.15: From and To are no lists, so the comma is part of the name
    ("bcast", Fate::Accepted),     // 3.3.10: valid as bytes; the Via check is the transaction layer's
    ("bext01", Fate::Accepted),    // 3.3.5
    ("bigcode", Fate::Dropped),    // 3.1.2.19
    ("clerr", Fate::Answered(400)), // 3.1.2.2
    ("cparam01", Fate::Accepted),  // 3.3.12
    ("cparam02", Fate::Accepted),  // 3.3.13
    ("dblreq", Fate::Accepted),    // 3.1.1.8: the second request is dropped with the rest of the datagram
    ("esc01", Fate::Accepted),     // 3.1.1.3
    ("esc02", Fate::Accepted),     // 3.1.1.5
    ("escnull", Fate::Accepted),   // 3.1.1.4
    ("escruri", Fate::Unreadable), // 3.1.2.11: headers in a Request-URI are 400
    ("insuf", Fate::Dropped),      // 3.3.1: From, To and Call-ID are missing, no reply can be built
    ("intmeth", Fate::Accepted),   // 3.1.1.2
    ("inv2543", Fate::Accepted),   // 3.4.1
    ("invut", Fate::Accepted),     // 3.3.6: the body's type is the endpoints' matter
    ("longreq", Fate::Accepted),   // 3.1.1.7
    ("ltgtruri", Fate::Answered(400)), // 3.1.2.7
    ("lwsdisp", Fate::Accepted),   // 3.1.1.6
    ("lwsruri", Fate::Answered(400)), // 3.1.2.8
    ("lwsstart", Fate::Answered(400)), // 3.1.2.9: refused rather than guessed
    ("mcl01", Fate::Answered(400)), // 3.3.9
    ("mismatch01", Fate::Answered(400)), // 3.1.2.17
    ("mismatch02", Fate::Answered(400)), // 3.1.2.18
    ("mpart01", Fate::Accepted),   // 3.1.1.11
    ("multi01", Fate::Answered(400)), // 3.3.8
    ("ncl", Fate::Answered(400)),  // 3.1.2.3
    ("noreason", Fate::Accepted),  // 3.1.1.13
    ("novelsc", Fate::Accepted),   // 3.3.3: the engine answers 416 where it must resolve the URI
    ("quotbal", Fate::Unreadable), // 3.1.2.6
    ("regaut01", Fate::Accepted),  // 3.3.7
    ("regbadct", Fate::Unreadable), // 3.1.2.13
    ("regescrt", Fate::Accepted),  // 3.3.14
    ("scalar02", Fate::Answered(400)), // 3.1.2.4
    ("scalarlg", Fate::Dropped),   // 3.1.2.5
    ("sdp01", Fate::Accepted),     // 3.3.15
    ("semiuri", Fate::Accepted),   // 3.1.1.9
    ("transports", Fate::Accepted), // 3.1.1.10
    ("trws", Fate::Answered(400)), // 3.1.2.10: refused rather than forwarded with its blanks
    ("unkscm", Fate::Accepted),    // 3.3.2
    ("unksm2", Fate::Accepted),    // 3.3.4
    ("unreason", Fate::Accepted),  // 3.1.1.12
    ("wsinv", Fate::Accepted),     // 3.1.1.1
    ("zeromf", Fate::Accepted),    // 3.3.11: forwarding it is refused with 483
];

const RFC_5118: &[(&str, Fate)] = &[
    ("ipv4-mapped-ipv6", Fate::Accepted),            // 4.9
    ("ipv6-bad", Fate::Unreadable),                  // 4.2
    ("ipv6-bug-abnf-3-colons", Fate::Accepted),      // 4.10
    ("ipv6-correct-abnf-2-colons", Fate::Accepted),  // 4.10
    ("ipv6-good", Fate::Accepted),                   // 4.1
    ("ipv6-in-sdp", Fate::Accepted),                 // 4.6
    ("mult-ip-in-header", Fate::Accepted),           // 4.7
    ("mult-ip-in-sdp", Fate::Accepted),              // 4.8
    ("port-ambiguous", Fate::Accepted),              // 4.3
    ("port-unambiguous", Fate::Accepted),            // 4.4
    ("via-received-param-no-delim", Fate::Accepted), // 4.5
    ("via-received-param-with-delim", Fate::Accepted),
];

fn directory(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus").join(name);
    path.is_dir().then_some(path)
}

/// Every file of the directory has its row, and every row its file.
fn check(name: &str, rows: &[(&str, Fate)], extension: &str, prepare: fn(Vec<u8>) -> Vec<u8>) {
    let Some(directory) = directory(name) else { return };
    for (file, wanted) in rows {
        let path = directory.join(format!("{file}{extension}"));
        let bytes = prepare(std::fs::read(&path).expect("a readable file"));
        let (got, reason) = fate(&bytes);
        assert_eq!(got, *wanted, "{file}: {reason:?}");
    }
    let files = std::fs::read_dir(&directory).expect("a readable directory").filter_map(Result::ok);
    let unlisted = files.map(|file| file.file_name().to_string_lossy().into_owned()).filter(|file| {
        // `test.dat` is in the archive and no test case of the RFC.
        file != "test.dat" && !rows.iter().any(|(row, _)| *file == format!("{row}{extension}"))
    });
    assert_eq!(unlisted.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn promise_8_the_published_messages_of_rfc_4475_meet_their_fate() {
    check("rfc4475", RFC_4475, ".dat", |bytes| bytes);
}

#[test]
fn promise_8_the_published_messages_of_rfc_5118_meet_their_fate() {
    check("rfc5118", RFC_5118, "", |bytes| {
        let text = String::from_utf8(bytes).expect("these are text").replace('\n', "\r\n");
        // One file's Content-Length is larger than its body, which is not what its section is about.
        let text = text.replace("Content-Length: 268", "Content-Length: 251");
        // The two files of section 4.10 lack their empty line.
        let ends = text.contains("\r\n\r\n");
        (if ends { text } else { text + "\r\n" }).into_bytes()
    });
}
