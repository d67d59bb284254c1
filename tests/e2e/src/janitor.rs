//! Undoes what a story did to the machine (processes, mounts, namespaces), also when the test process is killed.
//!
//! One shell per test process waits for its standard input to close, which the kernel does when the process ends,
//! however it ends; then it runs what is still to be undone, newest first. Each undo is a small script in a file of
//! the janitor's directory; one that was run in time is removed from there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// `$1` is the directory of undos. Signals meant for the tests must not stop it.
const JANITOR: &str = r#"
trap '' INT TERM HUP
while read -r _; do :; done
for undo in $(ls -r "$1"); do sh "$1/$undo" >/dev/null 2>&1; done
rm -rf "$1"
"#;

struct Janitor {
    dir: PathBuf,
    next: AtomicU32,
    /// Its standard input stays open for as long as the test process lives.
    _shell: Child,
}

/// Something to be undone: when it is dropped, or when the test process ends.
#[derive(Debug)]
pub struct Undo {
    file: PathBuf,
}

/// Undoes something by a shell script, once.
///
/// # Panics
/// The janitor cannot be started or told.
#[must_use]
pub fn at_end(script: &str) -> Undo {
    let janitor = janitor();
    let number = janitor.next.fetch_add(1, Ordering::Relaxed);
    let file = janitor.dir.join(format!("{number:08}"));
    let draft = file.with_extension("draft");
    fs::write(&draft, script).expect("the janitor's directory is writable");
    fs::rename(&draft, &file).expect("the janitor's directory is writable");
    Undo { file }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let _ = Command::new("sh")
            .arg(&self.file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = fs::remove_file(&self.file);
    }
}

fn janitor() -> &'static Janitor {
    static JANITOR_OF_THIS_PROCESS: OnceLock<Janitor> = OnceLock::new();
    JANITOR_OF_THIS_PROCESS.get_or_init(|| hire(&std::env::temp_dir()))
}

fn hire(parent: &Path) -> Janitor {
    let dir = tempfile::Builder::new()
        .prefix("signalbox-undo-")
        .tempdir_in(parent)
        .expect("a temporary directory")
        .keep();
    let shell = Command::new("sh")
        .args(["-c", JANITOR, "janitor"])
        .arg(&dir)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    Janitor { dir, next: AtomicU32::new(1), _shell: shell }
}
