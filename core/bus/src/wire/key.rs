//! The key that orders events on every bus, and the partition it leads to.

use crate::event::Delivered;
use signalbox_base::Text;
use signalbox_schemas::envelope;
use std::hash::BuildHasher;

/// The partition key: tenant and aggregate. An address of record begins with its tenant already.
#[must_use]
pub fn partition_key(event: &Delivered) -> Text {
    let tenant = if event.tenant.is_empty() { "_" } else { &*event.tenant };
    if event.subject.strip_prefix(tenant).is_some_and(|rest| rest.starts_with('/')) {
        return event.subject.clone();
    }
    envelope::partition_key(&event.tenant, &event.subject).into()
}

/// A key's hash, by which the relay keeps one event of a key under way. Two keys of one hash only wait for each other.
#[must_use]
pub fn key_hash(key: &str) -> u64 {
    foldhash::fast::FixedState::with_seed(1).hash_one(key)
}

/// The partition that Java's default partitioner takes for `key`, of `partitions` (at least 1).
#[must_use]
pub fn partition(key: &[u8], partitions: i32) -> i32 {
    let positive = (murmur2(key) & 0x7fff_ffff).cast_signed();
    positive % partitions.max(1)
}

/// MurmurHash2, 32 bit, with the seed of Kafka's Java client.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample;

    #[test]
    fn murmur2_is_that_of_the_java_client() {
        // The vectors of org.apache.kafka.common.utils.UtilsTest.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
        assert_eq!(partition(b"abc", 6), 479_470_107 % 6);
        assert_eq!(partition(b"21", 7), (-973_932_308i32 & 0x7fff_ffff) % 7);
    }

    #[test]
    fn the_key_is_tenant_and_aggregate() {
        let event = sample();
        assert_eq!(partition_key(&event), "acme/pbx-1");
        let aor = Delivered { subject: "acme/401@acme.example".into(), ..event.clone() };
        assert_eq!(partition_key(&aor), "acme/401@acme.example");
        assert_eq!(partition_key(&Delivered { tenant: "".into(), ..event }), "_/pbx-1");
        assert_ne!(key_hash("acme/pbx-1"), key_hash("acme/pbx-2"));
    }
}
