//! Where each value was written, and problems that point there.

use crate::errors::Code;
use signalbox_base::Text;
use signalbox_schemas::config::ConfigError;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, by index into [`Sources::files`], and the byte range of the value in it.
    File(usize, Range<usize>),
    /// An environment variable.
    Env(String),
}

/// The files as read, and the origin of every value by its path (`tenant[0].backends[1].address`).
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name and text of each file, in the order they were merged.
    pub files: Vec<(String, String)>,
    /// Path to origin.
    pub origins: BTreeMap<String, Origin>,
}

impl Sources {
    /// Origin of a path, or of its nearest ancestor that was written down.
    pub fn nearest(&self, path: &str) -> Option<&Origin> {
        let mut path = path;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return Some(origin);
            }
            let cut = path.rfind(['.', '['])?;
            path = &path[..cut];
        }
    }

    /// `file:line:column` of an origin.
    pub fn place(&self, origin: &Origin) -> String {
        match origin {
            Origin::Env(name) => format!("${name}"),
            Origin::File(file, range) => {
                let (name, text) = &self.files[*file];
                let (line, column, _) = line_of(text, range.start);
                format!("{name}:{line}:{column}")
            }
        }
    }

    /// A problem at a path.
    pub fn problem(&self, path: &str, message: impl Into<String>, fix: impl Into<String>) -> Problem {
        self.problem_at(self.nearest(path).cloned(), path, message, fix)
    }

    /// A problem at a known place.
    pub fn problem_at(
        &self,
        origin: Option<Origin>,
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        let place = match &origin {
            Some(origin) => self.place(origin),
            None => self.files.first().map(|(name, _)| name.clone()).unwrap_or_default(),
        };
        let excerpt = match &origin {
            Some(Origin::File(file, range)) => {
                let text = &self.files[*file].1;
                (!may_show_a_secret(line_of(text, range.start).2)).then(|| excerpt(text, range))
            }
            _ => None,
        };
        Problem { place, path: path.to_owned(), message: message.into(), excerpt, fix: fix.into() }
    }
}

/// Line and column, both from 1, and the line's text.
fn line_of(text: &str, at: usize) -> (usize, usize, &str) {
    let at = at.min(text.len());
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    (text[..start].matches('\n').count() + 1, text[start..at].chars().count() + 1, &text[start..end])
}

/// Whether a line has the look of one with a secret in it, whatever the key means: it is not put on screens and into logs.
fn may_show_a_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let follows = |word: &str| {
        line.match_indices(word)
            .any(|(at, _)| line[at + word.len()..].trim_start_matches('"').trim_start().starts_with('='))
    };
    let login = |part: &str| part.split('@').next().is_some_and(|before| before.matches(':').count() > 1);
    ["password", "passwd", "secret", "token"].iter().any(|word| follows(word))
        || line.split(['"', '\'']).filter(|part| part.contains('@')).any(login)
}

/// The line with carets under the range; a range over several lines is cut at the end of its first.
fn excerpt(text: &str, range: &Range<usize>) -> String {
    const WIDTH_MAX: usize = 100;
    let (_, column, line) = line_of(text, range.start);
    let line: String = line.replace('\t', " ").chars().take(WIDTH_MAX.max(column + 20)).collect();
    let wanted = text.get(range.clone()).map_or(1, |t| t.lines().next().unwrap_or("").chars().count()).max(1);
    let carets = wanted.min((line.chars().count() + 1).saturating_sub(column)).max(1);
    format!("    {line}\n    {}{}", " ".repeat(column - 1), "^".repeat(carets))
}

/// One thing that is wrong: where, what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `file:line:column`, a variable's name, or a file.
    pub place: String,
    /// The key's path, empty for the file itself.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// The line with carets, if it stands in a file.
    pub excerpt: Option<String>,
    /// What to write instead.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        if self.fix.is_empty() { Ok(()) } else { write!(f, "\n  {}", self.fix) }
    }
}

impl Problem {
    /// Of a file that a key names: what is wrong with it, and what to do.
    pub(super) fn of_file(file: &Path, key: &str, (message, fix): (String, String)) -> Self {
        Self { place: file.display().to_string(), path: key.to_owned(), message, excerpt: None, fix }
    }

    /// As `config.rejected` has it.
    #[must_use]
    pub fn event(&self, code: Code) -> ConfigError {
        let mut place = self.place.rsplitn(3, ':');
        let (column, line) = (place.next(), place.next());
        let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
        let (file, line, column) = match (place.next(), number(line), number(column)) {
            (Some(file), Some(line), Some(column)) => (file, Some(line), Some(column)),
            _ => (self.place.as_str(), None, None),
        };
        let fix = if self.fix.is_empty() { String::new() } else { format!("; {}", self.fix) };
        ConfigError {
            code: Text::from(code.to_string()),
            file: Text::new(file),
            line,
            column,
            key: Text::new(&self.path),
            message: Text::from(format!("{}{fix}", self.message)),
        }
    }
}

/// All problems of a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let s = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} error{s}. Nothing was changed.", self.0.len())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

#[cfg(test)]
mod tests {
    use super::may_show_a_secret;

    #[test]
    fn given_a_line_that_may_have_a_secret_then_it_is_not_shown() {
        for line in [
            "register = { user = \"a\", password = \"hunter2\" }",
            "\"Password\"=\"hunter2\"",
            "address = \"udp:u:hunter2@host\"",
            "api_token = 'x'",
        ] {
            assert!(may_show_a_secret(line), "{line}");
        }
        for line in [
            "password_file = \"/etc/signalbox/pw\"",
            "url = \"postgres://signalbox@db/signalbox\"",
            "to = \"sip:600@elsewhere.example\"",
        ] {
            assert!(!may_show_a_secret(line), "{line}");
        }
    }
}
