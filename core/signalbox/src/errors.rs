//! Every error a person can meet: a stable code, what it means, what to do. `signalbox explain` prints this table, and
//! the manual's page is generated from it.

use std::fmt;

/// A stable number, printed `SB0101`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SB{:04}", self.0)
    }
}

/// What is known about a code.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// One line.
    pub title: &'static str,
    /// What happened, and what Signalbox did about it.
    pub meaning: &'static str,
    /// What to do.
    pub action: &'static str,
}

macro_rules! catalogue {
    ($($name:ident = $code:literal, $title:literal, $meaning:literal, $action:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code($code);)*
        /// Every code, in order.
        pub const CATALOGUE: &[Entry] = &[$(Entry { code: Code($code), title: $title, meaning: $meaning, action: $action }),*];
    };
}

catalogue! {
    CONFIG = 101, "The configuration has errors",
        "Each error names its file, line and key. The program did not start, or went on with the configuration it had.",
        "Mend each line as its last line says, then run `signalbox check`.";
    CONFIG_MISSING = 102, "There is no configuration file",
        "None was named, and none of the usual places has one.",
        "Write one with `signalbox init`, name one with --config, or look around with `signalbox demo`.";
    FILE_EXISTS = 103, "The file exists already",
        "Nothing was written over it.",
        "Choose another name, or repeat with --force.";
    USAGE = 110, "The command's words do not fit together",
        "Nothing was done.",
        "See the command's --help for an example.";
    PORT_BUSY = 201, "An address is in use",
        "Another program listens on the address and port that a listener or the admin port names. Nothing was started.",
        "Find it with `ss -lunp` or `ss -ltnp`, stop it, or give the listener another port.";
    NO_RIGHT = 202, "A right is missing",
        "The system refused to open a port, a file or a directory. Nothing was started.",
        "Run as the user that owns data_dir; for ports below 1024 grant CAP_NET_BIND_SERVICE (the unit printed by `signalbox init` does).";
    NO_ADDRESS = 203, "An address does not belong to this machine",
        "A listener names an address that no interface has. Nothing was started.",
        "See `ip address` for what there is, or listen on 0.0.0.0 with advertise.";
    DATA_DIR = 204, "The data directory cannot be used",
        "It could not be made, read or written.",
        "Make it, give it to the user that runs signalbox, or set edge.data_dir.";
    DISK_FULL = 205, "The disk is full",
        "The journal could not be made or extended. What was recorded is safe.",
        "Free space on the file system of data_dir, or lower journal.max_size.";
    ALREADY_RUNNING = 206, "Another edge uses this data directory",
        "The journal is locked by a running process: two writers would spoil it. Nothing was started.",
        "Stop the other one (`signalbox stop`), or set another edge.data_dir.";
    TLS_FILES = 207, "A certificate or key cannot be used",
        "A file of [tls] or of a listener is missing, holds something else, or key and certificate are not a pair. Nothing was started; a reload changes nothing then.",
        "Mend the file that is named; `signalbox check` reads them all.";
    JOURNAL_FOREIGN = 301, "The journal belongs to another edge",
        "Its segments name another cluster or edge than the configuration. Nothing was read or written.",
        "Set edge.cluster and edge.name back, or set another edge.data_dir; `signalbox doctor` shows whose it is.";
    JOURNAL_FUTURE = 302, "The journal was written by a later version",
        "This version cannot read its format. Nothing was changed.",
        "Run the later version, or restore a backup made by this one.";
    JOURNAL_DAMAGED = 303, "The journal is damaged",
        "Bytes in the middle do not match their checksums: this is not a torn tail after a crash, so nothing was cut.",
        "`signalbox doctor` shows where. Restore a backup, or move the data directory aside and keep it for analysis.";
    JOURNAL_FAILED = 304, "The journal could not be written",
        "A write or fsync failed. The process stopped at once and released nothing that was not on disk.",
        "Check the disk (`dmesg`), then start again: recovery tells what is there.";
    STORE_FAILED = 401, "The store cannot be used",
        "The database refused the connection, the schema or a statement. Calls are not affected; tables catch up later.",
        "Check store.url, its password file and the database's log; `signalbox check --live` tries it.";
    STORE_NEWER = 402, "The database was migrated by a later version",
        "Its tables are not those that this version writes, and it may not know what they hold. Nothing was read or written; calls are not affected.",
        "Run the later version, which the message names. To go back to this one, restore a backup of the database made by it, or give it a database of its own: it makes the tables anew from the journal.";
    STORE_FOREIGN = 403, "The database belongs to another edge",
        "Its tables are folded from the journal of another edge. Without a broker an edge reads only its own journal, so it could not go on with the other's rows. Nothing was written; calls are not affected.",
        "Give each edge a database of its own (`store.url`), or let all of them publish to one broker (`[bus]`): then one process folds for all and the others stand by.";
    NO_PROJECTION = 404, "There is no projection of that name",
        "Nothing was done.",
        "`signalbox projections` lists them.";
    NOT_RUNNING = 501, "No edge is running here",
        "The admin socket in data_dir does not answer.",
        "Start it with `signalbox run`, or name its configuration with --config.";
    REFUSED = 502, "The running edge refused",
        "The edge answered the command with the reason shown. Nothing was changed.",
        "Do what the reason says.";
    NOTHING_FOUND = 503, "Nothing of that name is known",
        "Neither the running edge nor the store or journal knows it.",
        "Check the spelling; `signalbox locations`, `calls`, `cdr` and `backends` list what there is.";
    INTERRUPTED = 504, "A command was interrupted",
        "What it had done so far stays done.",
        "Give the command again, or go on as the message says.";
    BACKUP_BAD = 601, "The backup does not verify",
        "A file in the archive is missing or differs from its checksum. Nothing was restored.",
        "Use another backup.";
    TARGET_NOT_EMPTY = 602, "The target is not empty",
        "Restoring over existing state would mix two histories. Nothing was written.",
        "Restore into an empty or missing directory.";
    INTERNAL = 900, "Something unexpected happened",
        "The message says what.",
        "If it happens again, report it with the message and `signalbox --version`.";
}

/// Looks a code up: `SB0201`, `sb201`, `201`.
#[must_use]
pub fn find(text: &str) -> Option<&'static Entry> {
    let digits = text.trim().trim_start_matches(['s', 'S']).trim_start_matches(['b', 'B']);
    let number: u16 = digits.parse().ok()?;
    CATALOGUE.iter().find(|e| e.code.0 == number)
}

/// An error on its way to the person: its code, one line about this case, and the exit status.
#[derive(Debug)]
pub struct Failure {
    /// Which kind.
    pub code: Code,
    /// What happened, to what, in this case.
    pub message: String,
    /// What to do in this case; the catalogue's action when empty.
    pub fix: String,
    /// 1 refused or found wrong, 2 usage.
    pub exit: u8,
}

impl Failure {
    /// With the catalogue's advice.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fix: String::new(), exit: if code == USAGE { 2 } else { 1 } }
    }

    /// What the system said, of which file or address.
    pub fn of(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| {
            let failure = Self::from(error);
            Self { message: format!("{what}: {}", failure.message), ..failure }
        }
    }

    /// For programs: code, message and advice as one JSON object.
    #[must_use]
    pub fn object(&self) -> serde_json::Value {
        serde_json::json!({ "error": { "code": self.code.to_string(), "message": self.message, "fix": self.advice() } })
    }

    fn advice(&self) -> &str {
        let known = CATALOGUE.iter().find(|e| e.code == self.code);
        if self.fix.is_empty() { known.map_or("", |e| e.action) } else { &self.fix }
    }

    /// With advice of its own.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fix = self.advice();
        write!(f, "{} {}", self.code, self.message)?;
        if fix.is_empty() { Ok(()) } else { write!(f, "\n  {fix}") }
    }
}

impl std::error::Error for Failure {}

impl From<crate::config::Problems> for Failure {
    fn from(problems: crate::config::Problems) -> Self {
        let missing =
            problems.0.len() == 1 && problems.0[0].message.starts_with("there is no configuration file");
        let code = if missing { CONFIG_MISSING } else { CONFIG };
        Self {
            code,
            message: format!("the configuration cannot be used\n{problems}"),
            fix: " ".trim().into(),
            exit: 1,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let code = match e.kind() {
            ErrorKind::AddrInUse => PORT_BUSY,
            ErrorKind::PermissionDenied => NO_RIGHT,
            ErrorKind::AddrNotAvailable => NO_ADDRESS,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DISK_FULL,
            _ => INTERNAL,
        };
        Self::new(code, e.to_string())
    }
}

impl From<signalbox_journal::Error> for Failure {
    fn from(e: signalbox_journal::Error) -> Self {
        use signalbox_journal::Error;
        let code = match &e {
            Error::Locked { .. } => ALREADY_RUNNING,
            Error::Foreign { .. } => JOURNAL_FOREIGN,
            Error::FutureFormat { .. } => JOURNAL_FUTURE,
            Error::Damaged(_) | Error::CutBelow { .. } => JOURNAL_DAMAGED,
            Error::Full { .. } => DISK_FULL,
            Error::BadBackup { .. } => BACKUP_BAD,
            Error::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => NO_RIGHT,
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => DISK_FULL,
                _ => JOURNAL_FAILED,
            },
            _ => JOURNAL_FAILED,
        };
        Self::new(code, e.to_string())
    }
}

impl From<signalbox_store::Error> for Failure {
    fn from(e: signalbox_store::Error) -> Self {
        use signalbox_store::Class;
        match e.class() {
            Class::Newer => Self::new(STORE_NEWER, e.to_string()),
            Class::Schema => Self::new(STORE_FAILED, e.to_string()).fix(
                "a table is missing or damaged; running projections make it anew by themselves: `signalbox projections` shows how far they are, `signalbox projections rebuild --all` asks for it",
            ),
            _ => Self::new(STORE_FAILED, e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order_and_say_everything() {
        for pair in CATALOGUE.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} {}", pair[0].code, pair[1].code);
        }
        for entry in CATALOGUE {
            assert!(
                !entry.title.is_empty() && entry.meaning.ends_with('.') && entry.action.ends_with('.'),
                "{}",
                entry.code
            );
        }
    }

    #[test]
    fn a_code_is_found_however_it_is_pasted() {
        for text in ["SB0201", "sb0201", "201", " SB201 "] {
            assert_eq!(find(text).map(|e| e.code), Some(PORT_BUSY), "{text}");
        }
        assert!(find("SB9999").is_none() && find("x").is_none());
    }
}
