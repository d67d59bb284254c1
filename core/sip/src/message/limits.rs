//! Every limit of a message, by name.

/// What a message may measure. Passing one is a [`Malformed`](super::Malformed) with its own reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whole message in bytes, body included. Never above [`Limits::MESSAGE_BYTES_CEILING`], whatever is set here.
    pub message_bytes_max: usize,
    /// Header fields (a folded one counts once).
    pub headers_max: usize,
    /// One header field with its folds, name included, in bytes.
    pub header_bytes_max: usize,
    /// Via values, comma-separated ones counted (commas in quoted parameters count too).
    pub vias_max: usize,
    /// Request-URI in bytes.
    pub uri_bytes_max: usize,
}

impl Limits {
    /// Offsets are 16 bits wide: nothing larger can be indexed. It is also the largest UDP datagram.
    pub const MESSAGE_BYTES_CEILING: usize = u16::MAX as usize;

    /// The default: what fits a datagram, with room for the longest legal messages of RFC 4475.
    pub const DATAGRAM: Self = Self {
        message_bytes_max: Self::MESSAGE_BYTES_CEILING,
        headers_max: 200,
        header_bytes_max: 8 * 1024,
        vias_max: 70,
        uri_bytes_max: 2048,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DATAGRAM
    }
}
