//! What people read: tables, times and durations for their terminal; colour only there, never as the only sign.

mod event;
mod human;
mod table;

pub use event::Line;
pub use human::{Clock, duration, since, span_ms};
pub use table::{Align, Table};

use std::io::IsTerminal;

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
