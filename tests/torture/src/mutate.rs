//! Seeded changes to bytes that know a little of SIP: what libFuzzer finds by coverage, a short run must find by aim.

use signalbox_actors::Random;

/// What parsers split at, what numbers overflow, and what headers mean something.
const SPICE: [&[u8]; 36] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\t",
    b" ",
    b"<",
    b">",
    b"\"",
    b"\\",
    b";",
    b",",
    b"=",
    b":",
    b"@",
    b"?",
    b"%00",
    b"%",
    b"[::1]",
    b"]",
    b"*",
    b"\xff",
    b"\xc3\x28",
    b"4294967296",
    b"18446744073709551616",
    b"-1",
    b"sip:",
    b"z9hG4bK",
    b";tag=",
    b";lr",
    b"\r\n ",
    b"\r\n\r\n",
    b"\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKx",
    b"\r\nContact: *",
    b"\r\nContent-Length: 1",
    b"\r\nRequire: x",
];

/// Changes at a time, at most.
const CHANGES_MAX: u64 = 3;
/// Bytes that one change copies or cuts, at most.
const PIECE_MAX: u64 = 60;

/// The bytes with one to [`CHANGES_MAX`] changes; pieces may come from `other`.
#[must_use]
pub fn mutate(bytes: &[u8], other: &[u8], dice: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(CHANGES_MAX) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        let end = (at + 1 + dice.below(PIECE_MAX) as usize).min(bytes.len());
        match dice.below(20) {
            0..=7 => insert(&mut bytes, at, dice.pick::<&[u8]>(&SPICE)),
            8 | 9 => {
                let spice = *dice.pick(&SPICE);
                bytes.splice(at.min(end)..end.min(at + spice.len()).max(at.min(end)), spice.iter().copied());
            }
            10 | 11 if at < end => bytes[at] = dice.bits() as u8,
            12 | 13 if at < end => drop(bytes.drain(at..end)),
            14 | 15 if at < end => {
                let piece = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() as u64) as usize;
                insert(&mut bytes, to, &piece);
            }
            16 | 17 => line(&mut bytes, dice),
            18 => {
                let from = dice.below(other.len() as u64 + 1) as usize;
                let piece =
                    other[from..].iter().take(dice.below(PIECE_MAX) as usize).copied().collect::<Vec<_>>();
                insert(&mut bytes, at, &piece);
            }
            _ => bytes.truncate(at.max(8)),
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// A line doubled, dropped or moved.
fn line(bytes: &mut Vec<u8>, dice: &mut Random) {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let (from, to) = (dice.below(lines.len() as u64) as usize, dice.below(lines.len() as u64) as usize);
    match dice.below(3) {
        0 => drop(lines.remove(from)),
        1 => lines.insert(to, lines[from].clone()),
        _ => lines.swap(from, to),
    }
    *bytes = lines.concat();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_dice_change_the_same_bytes_and_all_kinds_of_change_come() {
        let (bytes, other) = (b"OPTIONS sip:a SIP/2.0\r\nTo: b\r\n\r\n", b"v=0\r\ns=-\r\n");
        let all: Vec<_> = (0..300).map(|seed| mutate(bytes, other, &mut Random::new(seed))).collect();
        assert_eq!(all[7], mutate(bytes, other, &mut Random::new(7)));
        assert!(all.iter().filter(|changed| changed.as_slice() != bytes).count() > 290);
        let lines = |bytes: &[u8]| bytes.iter().filter(|b| **b == b'\n').count();
        assert!(all.iter().any(|b| lines(b) < 3) && all.iter().any(|b| lines(b) > 3));
        assert!(all.iter().any(|b| b.len() < 12) && all.iter().any(|b| b.len() > 60));
        assert!(mutate(b"", b"", &mut Random::new(1)).len() < 200);
    }
}
