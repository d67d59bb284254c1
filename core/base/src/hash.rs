//! A hash that is the same on every machine and in every run, for what is not hostile.

/// FNV-1a, 64 bits. `seed` tells hashes of one kind from another; 0 is the hash as published.
#[must_use]
pub fn fnv1a(seed: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    bytes.into_iter().fold(0xCBF2_9CE4_8422_2325 ^ seed, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_published_values() {
        assert_eq!(fnv1a(0, []), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a(0, *b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(fnv1a(0, *b"foobar"), 0x8594_4171_F739_67E8);
    }
}
