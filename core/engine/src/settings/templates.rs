//! Templates: how numbers are written for whoever gets a call.

use super::routes::Numbering;
use crate::routing::e164_of;
use signalbox_base::Text;

/// One `[[template]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The number that is called: in the Request-URI, and in To where that names the same.
    pub called: Rewrite,
    /// Who calls: in From and P-Asserted-Identity.
    pub caller: Rewrite,
}

/// How a number is written anew: first stripped, then brought into a form, then prefixed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Taken off, where the number begins with it; else the number stays as it is.
    pub strip: Text,
    /// The form of what is left, where it has an E.164 form.
    pub form: Form,
    /// Put before it.
    pub prefix: Text,
}

/// Forms of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    #[default]
    Same,
    /// `+442079460000`
    E164,
    /// `442079460000`
    Digits,
    /// `02079460000` where it is of the tenant's country, else `00` and the digits.
    National,
}

impl Rewrite {
    /// The number anew. `numbering` is the tenant's.
    #[must_use]
    pub fn apply(&self, number: &str, numbering: Option<&Numbering>) -> Text {
        let e164;
        let bare = match number.strip_prefix(&*self.strip) {
            Some(bare) => bare,
            // Routes match a number by its E.164 form too, however it was dialled.
            None if self.strip.starts_with('+') => {
                e164 = e164_of(number, numbering).unwrap_or_default();
                let Some(bare) = e164.strip_prefix(&*self.strip) else { return Text::new(number) };
                bare
            }
            None => return Text::new(number),
        };
        let formed = self.formed(bare, numbering);
        Text::from(format!("{}{}", self.prefix, formed.as_deref().unwrap_or(bare)))
    }

    fn formed(&self, number: &str, numbering: Option<&Numbering>) -> Option<Text> {
        if self.form == Form::Same {
            return None;
        }
        let e164 = e164_of(number, numbering)?;
        let digits = e164.strip_prefix('+')?;
        let country = numbering.and_then(|numbering| numbering.country.as_deref());
        Some(match self.form {
            Form::Same | Form::E164 => e164,
            Form::Digits => Text::new(digits),
            Form::National => match country.and_then(|country| digits.strip_prefix(country)) {
                Some(own) => Text::from(format!("0{own}")),
                None => Text::from(format!("00{digits}")),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_template_when_a_number_is_written_then_it_is_stripped_formed_and_prefixed() {
        let british = Numbering { country: Some(Text::new("44")), ..Numbering::default() };
        let write = |strip: &str, form, prefix: &str, number: &str| {
            let rewrite = Rewrite { strip: Text::new(strip), form, prefix: Text::new(prefix) };
            rewrite.apply(number, Some(&british)).to_string()
        };
        assert_eq!(write("9", Form::Same, "+", "9493012345678"), "+493012345678");
        assert_eq!(write("9", Form::Same, "+", "401"), "401", "another number");
        assert_eq!(write("9", Form::E164, "", "902079460000"), "+442079460000");
        assert_eq!(write("", Form::National, "", "+442079460000"), "02079460000");
        assert_eq!(write("", Form::National, "", "+493012345678"), "00493012345678");
        assert_eq!(write("", Form::Digits, "#1", "00493012345678"), "#1493012345678");
        assert_eq!(write("", Form::E164, "", "401"), "401", "an extension has no such form");
        assert_eq!(write("+4420794600", Form::Same, "4", "+442079460001"), "401");
    }
}
