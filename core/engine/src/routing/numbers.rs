//! Numbers: their E.164 form, and whose they are.

use crate::settings::{DIGITS_MAX, NumberBlock, Numbering};
use foldhash::HashMap;
use signalbox_base::Text;

/// Shortest number that has an E.164 form.
const DIGITS_MIN: usize = 7;

/// `+` and 7 to 15 digits, visual separators taken out (E.164 §6.1, RFC 3966 §5.1.1).
pub(crate) fn e164(number: &str) -> Option<Text> {
    international(number.strip_prefix('+')?)
}

/// The same of what was dialled: `00` stands for `+`, and with a country a leading 0 for that one's code.
pub(crate) fn e164_of(number: &str, numbering: Option<&Numbering>) -> Option<Text> {
    if let Some(found) = e164(number) {
        return Some(found);
    }
    if let Some(rest) = number.strip_prefix("00") {
        return international(rest);
    }
    let country = numbering?.country.as_ref()?;
    international(&format!("{country}{}", number.strip_prefix('0')?))
}

fn international(rest: &str) -> Option<Text> {
    let digits: String = rest.chars().filter(|c| !is_separator(*c)).collect();
    let fits =
        (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| Text::from(format!("+{digits}")))
}

const fn is_separator(c: char) -> bool {
    matches!(c, '-' | '.' | '(' | ')' | ' ')
}

/// Whose a number is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    /// Tenants by the given digits and how many follow.
    blocks: HashMap<NumberBlock, u16>,
}

impl Owners {
    pub(crate) fn add(&mut self, block: &NumberBlock, tenant: u16) {
        self.blocks.insert(block.clone(), tenant);
    }

    /// The tenant (its place in the settings) that a number is of: the block with the most given digits has it. Carriers
    /// write a number with `+`, with `00`, or as bare digits.
    pub(crate) fn of(&self, number: &str) -> Option<u16> {
        if self.blocks.is_empty() {
            return None;
        }
        let bare = number.strip_prefix('+').or_else(|| number.strip_prefix("00")).unwrap_or(number);
        let digits: String = bare.chars().filter(|c| !is_separator(*c)).collect();
        if digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        (1..=digits.len()).rev().find_map(|given| {
            let free = u8::try_from(digits.len() - given).ok()?;
            self.blocks.get(&NumberBlock { prefix: Text::new(&digits[..given]), free }).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_number_when_it_is_e164_then_it_is_written_so() {
        assert_eq!(e164("+49 (30) 123-456"), Some(Text::new("+4930123456")));
        for other in ["401", "+401", "+49abc", "0049301234", ""] {
            assert_eq!(e164(other), None, "{other}");
        }
    }

    #[test]
    fn given_a_country_when_a_national_number_is_dialled_then_it_has_its_e164_form() {
        let british = Numbering { country: Some(Text::new("44")), ..Numbering::default() };
        let of = |number| e164_of(number, Some(&british)).map(|found| found.to_string());
        assert_eq!(of("02079460000").as_deref(), Some("+442079460000"));
        assert_eq!(of("00493012345678").as_deref(), Some("+493012345678"));
        assert_eq!(of("401"), None, "an extension");
        assert_eq!(e164_of("02079460000", None), None);
    }

    #[test]
    fn given_nested_blocks_when_a_number_comes_in_any_form_then_the_longest_has_it() {
        let mut owners = Owners::default();
        for (block, tenant) in [("+442079460000/4", 0), ("+442079460100/2", 1), ("+442079460142", 2)] {
            owners.add(&NumberBlock::parse(block).expect("a block"), tenant);
        }
        assert_eq!(owners.of("+442079460001"), Some(0));
        assert_eq!(owners.of("00442079460101"), Some(1));
        assert_eq!(owners.of("442079460142"), Some(2));
        assert_eq!(owners.of("+4420794601"), None, "too short");
        assert_eq!(owners.of("+442079470001"), None);
        assert_eq!(owners.of("alice"), None);
    }
}
