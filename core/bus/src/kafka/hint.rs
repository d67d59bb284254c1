//! Where every partition may be read on from, in 4 KiB:
//! `kafka1;<cluster>;<time>;<rest>;<topic>/<partition>:<next>[.<print>][.<age>],…;…`, numbers in base 36.
//!
//! `print` is a fingerprint of the message before `next`, the moment at which the broker took it included: what is stored
//! again after a rollback, even the same event at the same offset, has another one. `age` says how many seconds before
//! `time` that was. Where the partitions do not all fit, those that were read last go by the time `rest` alone.

use crate::hints::Hint;
use signalbox_base::Text;
use std::collections::HashMap;
use std::fmt::Write;

/// Length of a hint, at most.
const LONGEST: usize = 4_096;
const VERSION: &str = "kafka1";

/// How far a partition was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    /// The offset to go on with.
    pub(super) next: i64,
    /// Fingerprint of the message before it.
    pub(super) print: Option<u32>,
    /// By the broker's clock in milliseconds: all that is unread came at this time or later.
    pub(super) time: Option<i64>,
}

/// A hint, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The cluster's id.
    pub(super) cluster: String,
    /// Where partitions that are not named are read from; `None`: from their beginning.
    pub(super) rest: Option<i64>,
    /// By topic and partition.
    pub(super) spots: HashMap<(String, i32), Spot>,
}

/// Writes a hint of partitions, those of a topic one after the other.
pub(super) fn write(cluster: &str, spots: &[((Text, i32), Spot)]) -> Hint {
    let base = spots.iter().filter_map(|(_, spot)| spot.time).max().unwrap_or(0);
    // A partition that has nothing before its beginning begins there, named or not.
    let named = |spot: &Spot| spot.next > 0 || spot.print.is_some() || spot.time.is_some();
    let mut kept: Vec<bool> = spots.iter().map(|(_, spot)| named(spot)).collect();
    let all = text(cluster, base, None, spots, &kept);
    if all.len() <= LONGEST {
        return Hint(all.into());
    }
    // Those read last go by the time; what has none must be named, for its beginning is not that time.
    let mut order: Vec<usize> = (0..spots.len()).collect();
    order.sort_by_key(|at| spots[*at].1.time.unwrap_or(i64::MIN));
    kept.fill(true);
    let (mut fits, mut breaks) = (0, order.len());
    while fits < breaks {
        let middle = (fits + breaks).div_ceil(2);
        let written = with_first(cluster, base, spots, &order, middle);
        if written.len() <= LONGEST { fits = middle } else { breaks = middle - 1 }
    }
    Hint(with_first(cluster, base, spots, &order, fits).into())
}

/// The hint that names the first `count` of `order`.
fn with_first(
    cluster: &str,
    base: i64,
    spots: &[((Text, i32), Spot)],
    order: &[usize],
    count: usize,
) -> String {
    let mut kept = vec![false; spots.len()];
    order[..count].iter().for_each(|at| kept[*at] = true);
    let rest = order.get(count).and_then(|at| spots[*at].1.time);
    text(cluster, base, rest, spots, &kept)
}

fn text(cluster: &str, base: i64, rest: Option<i64>, spots: &[((Text, i32), Spot)], kept: &[bool]) -> String {
    let mut out = format!("{VERSION};{cluster};");
    number(&mut out, base);
    out.push(';');
    if let Some(rest) = rest {
        number(&mut out, rest);
    }
    let mut topic = "";
    for ((lane, spot), _) in spots.iter().zip(kept).filter(|(_, kept)| **kept) {
        if topic == &*lane.0 {
            out.push(',');
        } else {
            topic = &lane.0;
            let _ = write!(out, ";{topic}/");
        }
        let _ = write!(out, "{}:", lane.1);
        number(&mut out, spot.next);
        if let Some(time) = spot.time {
            out.push('.');
            if let Some(print) = spot.print {
                number(&mut out, print.into());
            }
            out.push('.');
            // Rounded up: a little earlier does no harm.
            number(&mut out, (base - time + 999) / 1_000);
        }
    }
    out
}

/// Reads a hint; `None` for one of another bus, or damaged.
pub(super) fn read(hint: &Hint) -> Option<Places> {
    let mut parts = hint.0.split(';');
    if parts.next()? != VERSION {
        return None;
    }
    let cluster = parts.next()?.to_owned();
    let base = read_number(parts.next()?)?;
    let rest = match parts.next()? {
        "" => None,
        rest => Some(read_number(rest)?),
    };
    let mut places = Places { cluster, rest, spots: HashMap::new() };
    for topic in parts {
        let (topic, spots) = topic.split_once('/')?;
        for spot in spots.split(',') {
            let (partition, spot) = spot.split_once(':')?;
            let mut fields = spot.split('.');
            let next = read_number(fields.next()?)?;
            let print = fields.next().filter(|print| !print.is_empty());
            let print = print.map(|print| u32::from_str_radix(print, 36)).transpose().ok()?;
            let age = fields.next().map(read_number);
            let time = match age {
                None => None,
                Some(age) => Some(base.checked_sub(age?.checked_mul(1_000)?)?),
            };
            places.spots.insert((topic.to_owned(), partition.parse().ok()?), Spot { next, print, time });
        }
    }
    Some(places)
}

fn number(out: &mut String, number: i64) {
    let mut left = number.max(0).unsigned_abs();
    let at = out.len();
    loop {
        let digit = u32::try_from(left % 36).expect("below 36");
        out.insert(at, char::from_digit(digit, 36).expect("below 36"));
        left /= 36;
        if left == 0 {
            return;
        }
    }
}

fn read_number(digits: &str) -> Option<i64> {
    i64::from_str_radix(digits, 36).ok().filter(|number| *number >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_763_719_200_123;

    fn lane(topic: &str, partition: i32) -> (Text, i32) {
        (topic.into(), partition)
    }

    #[test]
    fn every_partition_of_every_domain_fits_and_reads_back() {
        let mut spots = Vec::new();
        for topic in crate::wire::GROUPS.iter().flat_map(|group| group.domains) {
            for partition in 0..6 {
                let n = i64::from(partition);
                let spot =
                    Spot { next: 9_000_000_000 + n, print: Some(u32::MAX), time: Some(NOW - 86_400_000 * n) };
                spots.push((lane(&format!("signalbox.{topic}.v1"), partition), spot));
            }
        }
        let hint = write("abcdefghijklmnopqrstuA", &spots);
        assert!(hint.0.len() <= LONGEST, "{}", hint.0.len());
        let places = read(&hint).unwrap();
        assert_eq!((places.spots.len(), places.rest), (spots.len(), None));
    }

    #[test]
    fn what_does_not_fit_goes_by_time_and_what_has_none_is_named() {
        let spots: Vec<_> = (0..1_000)
            .map(|n| {
                let time = (n >= 50).then_some(NOW + n * 1_000);
                let print = time.map(|_| 1_000_000 + u32::try_from(n).unwrap());
                (lane(&format!("signalbox.tenant.t{n}.call.v1"), 0), Spot { next: n, print, time })
            })
            .collect();
        let hint = write("c", &spots);
        assert!(hint.0.len() <= LONGEST);
        let places = read(&hint).unwrap();
        for ((lane, spot), n) in spots.iter().zip(0..) {
            match places.spots.get(&(lane.0.as_str().to_owned(), lane.1)) {
                Some(read) => assert_eq!((read.next, read.print), (spot.next, spot.print)),
                None => assert!(n >= 50 && places.rest.unwrap() <= spot.time.unwrap()),
            }
        }
        assert!(places.spots.len() > 60);
    }

    #[test]
    fn hints_of_others_are_told() {
        for other in
            ["", "nats1;a@b:1:c:d", "kafka1", "kafka1;c;1;;topic", "kafka1;c;1;;t/0:!", "kafka1;c;-1;"]
        {
            assert_eq!(read(&Hint(other.into())), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_hint_reads_back(lanes in proptest::collection::btree_map((0..3usize, 0..5i32), (0..i64::MAX, any::<Option<u32>>(), 0..NOW), 0..10)) {
            let spots: Vec<_> = lanes.iter().map(|((topic, partition), (next, print, time))| {
                let time = print.map(|_| *time);
                (lane(&format!("t{topic}"), *partition), Spot { next: *next, print: *print, time })
            }).collect();
            let places = read(&write("c", &spots)).unwrap();
            for ((lane, spot), read) in spots.iter().filter_map(|(lane, spot)| Some(((lane, spot), places.spots.get(&(lane.0.as_str().to_owned(), lane.1))?))) {
                prop_assert_eq!((read.next, read.print), (spot.next, spot.print), "{:?}", lane);
                let early = spot.time.zip(read.time).map(|(time, read)| time - read);
                prop_assert!(early.is_none_or(|early| (0..1_000).contains(&early)));
            }
            prop_assert_eq!(places.spots.len(), spots.iter().filter(|(_, spot)| spot.next > 0 || spot.time.is_some()).count());
        }
    }
}
