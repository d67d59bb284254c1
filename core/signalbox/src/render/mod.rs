//! What people read: tables, times and durations for their terminal; colour only there, never as the only sign.

mod event;
mod human;
mod table;

pub use event::Line;
pub use human::{Clock, duration, since, span_ms};
pub use table::{Align, Table};

use std::io::IsTerminal;

/// Text that a peer had a hand in, safe for a terminal: control characters (and what turns the direction of text) are
/// shown as escapes instead of acting.
pub fn safe(text: &str) -> std::borrow::Cow<'_, str> {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(acts) {
        return text.into();
    }
    text.chars()
        .map(|c| if acts(c) { c.escape_default().to_string() } else { c.to_string() })
        .collect::<String>()
        .into()
}

/// Where output goes and how wide it may be.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Colour allowed.
    pub colour: bool,
    /// Columns.
    pub width: usize,
}

impl Screen {
    /// Standard output's: colour only on a terminal and without `NO_COLOR`.
    pub fn stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let width = if terminal { terminal_width() } else { usize::MAX };
        Self { colour: terminal && std::env::var_os("NO_COLOR").is_none(), width }
    }

    /// Text in a colour (an SGR number), where colour is allowed.
    pub fn paint(&self, sgr: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn terminal_width() -> usize {
    const WIDTH_DEFAULT: usize = 100;
    let from_env = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    let from_tty = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    from_env.or_else(from_tty).filter(|w| *w >= 40).unwrap_or(WIDTH_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn a_caller_cannot_draw_on_the_operators_screen() {
        assert_eq!(safe("40\u{1b}[31mRED\nFAKE\t"), "40\\u{1b}[31mRED\\nFAKE\\t");
        assert_eq!(safe("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(safe("Zoë 401 →"), "Zoë 401 →");
    }
}
