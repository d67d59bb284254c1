//! Text on the stack: addresses and moments are written by the hundred thousand, and `fmt` costs more than the digits.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// At most `N` bytes of text (`N` up to 255); what does not fit is left out.
#[derive(Clone, Copy, Debug)]
pub struct SmallText<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Default for SmallText<N> {
    fn default() -> Self {
        const { assert!(N <= 255) };
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> SmallText<N> {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Appends text, or nothing of it when it does not fit.
    pub fn push(&mut self, text: &str) {
        let (start, end) = (usize::from(self.len), usize::from(self.len) + text.len());
        if let Some(room) = self.bytes.get_mut(start..end) {
            room.copy_from_slice(text.as_bytes());
            self.len = end as u8;
        }
    }

    /// Appends one byte of ASCII.
    pub(crate) fn byte(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(usize::from(self.len)) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// Appends a number of at least `width` digits (at most 10), zeros before it.
    pub fn number(&mut self, value: u32, width: usize) {
        if value < 10 && width <= 1 {
            return self.byte(b'0' + value as u8);
        }
        let mut digits = [b'0'; 10];
        let (mut at, mut rest) = (digits.len(), value);
        while rest > 0 || at == digits.len() {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let at = at.min(digits.len() - width.min(digits.len()));
        let digits = &digits[at..];
        let (start, room) = (usize::from(self.len), N - usize::from(self.len));
        let kept = digits.len().min(room);
        self.bytes[start..start + kept].copy_from_slice(&digits[..kept]);
        self.len += kept as u8;
    }

    /// Appends an IPv4 address.
    pub fn ipv4(&mut self, ip: Ipv4Addr) {
        for (at, octet) in ip.octets().into_iter().enumerate() {
            if at > 0 {
                self.byte(b'.');
            }
            self.number(u32::from(octet), 1);
        }
    }

    /// Appends an address and port as [`SocketAddr`] is displayed.
    pub fn socket(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                self.ipv4(*v4.ip());
                self.byte(b':');
                self.number(u32::from(v4.port()), 1);
            }
            // 58 bytes at most, with a scope.
            SocketAddr::V6(v6) => {
                let _ = fmt::Write::write_fmt(self, format_args!("{v6}"));
            }
        }
    }
}

impl<const N: usize> fmt::Write for SmallText<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut text = SmallText::<4>::default();
        text.push("abcde");
        text.push("ab");
        text.number(1234, 1);
        assert_eq!(text.as_str(), "ab12");
    }

    proptest! {
        #[test]
        fn addresses_and_numbers_are_written_as_they_are_displayed(ip: IpAddr, port: u16, value: u32, width in 0_usize..10) {
            let address = SocketAddr::new(ip, port);
            let mut text = SmallText::<64>::default();
            text.socket(address);
            prop_assert_eq!(text.as_str(), address.to_string());
            let mut text = SmallText::<16>::default();
            text.number(value, width);
            prop_assert_eq!(text.as_str(), format!("{value:0width$}"));
        }
    }
}
