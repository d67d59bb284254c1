//! A program that a story runs: in a process group of its own, with its output in files, gone with the story.

use crate::janitor::{self, Undo};
use crate::wait;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    ended: Option<ExitStatus>,
    /// Kills the whole group if we are killed ourselves.
    undo: Option<Undo>,
}

impl Process {
    /// Starts a program; its output goes to `<name>.out` and `<name>.err` in `dir`, appended.
    ///
    /// # Panics
    /// The program is not there.
    #[must_use]
    pub fn start(dir: &Path, name: &str, command: &mut Command) -> Self {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let open = |path: &Path| -> File {
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .expect("the story's directory is writable")
        };
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(open(&out))
            .stderr(open(&err))
            .spawn()
            .unwrap_or_else(|e| panic!("{:?} does not start: {e}", command.get_program()));
        let undo = Some(janitor::at_end(&format!("kill -s KILL -- -{}", child.id())));
        Self { child, out, err, ended: None, undo }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are small")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end.
    pub fn wait(&mut self, what: &str) -> ExitStatus {
        wait::until_within(2 * wait::LONG, what, || self.ended())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// kill -9 of it and all it has started; returns when it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
            self.ended = self.child.wait().ok();
        }
    }

    /// What it wrote to standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.err)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.undo.take();
    }
}

/// Where `tests/setup/install.sh` puts what is in no package.
///
/// # Panics
/// Nobody says where home is.
#[must_use]
pub fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("SIGNALBOX_CACHE").or_else(|| Some(variable("XDG_CACHE_HOME")?.join("signalbox")));
    cache.or_else(|| Some(variable("HOME")?.join(".cache/signalbox"))).expect("there is a home")
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
