//! A real Asterisk with PJSIP: the system's, or the one that `tests/setup/install.sh peers` unpacked.
//!
//! Every instance has its configuration and state in a directory of its own. One that lives in the unpacked tree runs
//! in a mount namespace of its own, so that what it mounts is gone when it is.

use crate::janitor::{self, Undo};
use crate::phone::answers;
use crate::process::{self, Process};
use crate::wait;
use crate::world::World;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running Asterisk.
#[derive(Debug)]
pub struct Asterisk {
    process: Process,
    address: SocketAddr,
    tree: Option<PathBuf>,
    /// Its directory as it sees it itself.
    home: PathBuf,
    _remove: Undo,
}

/// What an Asterisk knows.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Users that may register, each with the password `pw-<user>`.
    pub users: &'a [&'a str],
    /// The context `default` of `extensions.conf`.
    pub dialplan: &'a str,
    /// Lines of a user's AoR in `pjsip.conf`.
    pub aor: fn(&str) -> &'static str,
}

impl Default for Plan<'_> {
    /// Nobody, who may register five contacts.
    fn default() -> Self {
        Self { users: &[], dialplan: "", aor: |_| "max_contacts=5\nminimum_expiration=1\n" }
    }
}

impl Asterisk {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn start(world: &World, name: &str, address: SocketAddr, plan: &Plan<'_>) -> Self {
        let tree = unpacked();
        let outside = home_from_outside(world, name, tree.as_deref());
        let home = tree.as_ref().map_or_else(|| outside.clone(), |tree| inside(&outside, tree));
        let remove = janitor::at_end(&format!("rm -rf {}", outside.display()));
        write_configuration(&outside, &home, tree.as_deref(), address, plan);
        let mut command = start_command(tree.as_deref(), &home);
        let mut process = Process::start(world.dir(), name, &mut command);
        wait::until(&format!("Asterisk {name} to answer"), || {
            assert!(
                process.ended().is_none(),
                "Asterisk {name} ended:\n{}{}",
                process.stdout(),
                process.stderr()
            );
            answers(address).then_some(())
        });
        Self { process, address, tree, home, _remove: remove }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs a command of its console.
    #[must_use]
    pub fn console(&self, command: &str) -> String {
        let mut run = match &self.tree {
            Some(tree) => {
                let mut run = Command::new("chroot");
                run.arg(tree).arg("/usr/sbin/asterisk");
                run
            }
            None => Command::new("asterisk"),
        };
        run.arg("-C").arg(self.home.join("asterisk.conf")).args(["-rx", command]);
        crate::edge::said(&mut run).stdout
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stdout()
    }
}

/// The tree that the installer unpacked; `None` when the system has an Asterisk.
fn unpacked() -> Option<PathBuf> {
    if Path::new("/usr/sbin/asterisk").exists() {
        return None;
    }
    let tree = process::cache().join("asterisk-16");
    assert!(tree.join(".complete").exists(), "there is no Asterisk: run tests/setup/install.sh peers");
    Some(tree)
}

fn home_from_outside(world: &World, name: &str, tree: Option<&Path>) -> PathBuf {
    match tree {
        None => world.path(&format!("{name}.home")),
        Some(tree) => {
            let story = world.dir().file_name().expect("it has a name").to_string_lossy().into_owned();
            tree.join("var/tmp").join(format!("{story}-{name}"))
        }
    }
}

fn inside(outside: &Path, tree: &Path) -> PathBuf {
    Path::new("/").join(outside.strip_prefix(tree).expect("it lies in the tree"))
}

fn start_command(tree: Option<&Path>, home: &Path) -> Command {
    let config = home.join("asterisk.conf");
    let mut command = match tree {
        None => Command::new("asterisk"),
        Some(tree) => {
            let mut command = Command::new("unshare");
            // Without its own name in a file it asks the network for it in each call, for up to five seconds.
            let script = "[ -s \"$1/etc/hosts\" ] || { echo \"127.0.0.1 localhost $(hostname)\" > \"$1/etc/hosts.$$\" &&
                mv \"$1/etc/hosts.$$\" \"$1/etc/hosts\"; }
                mount -t proc proc \"$1/proc\" && exec chroot \"$1\" /usr/sbin/asterisk \"$2\" \"$3\" \"$4\" \"$5\"";
            command.args(["--mount", "--", "sh", "-c", script, "asterisk"]).arg(tree);
            command
        }
    };
    command.args(["-f", "-vvv", "-C"]).arg(config);
    command
}

fn write_configuration(
    outside: &Path,
    home: &Path,
    tree: Option<&Path>,
    address: SocketAddr,
    plan: &Plan<'_>,
) {
    for state in ["run", "log", "spool", "db"] {
        fs::create_dir_all(outside.join(state)).expect("the directory is ours");
    }
    let write = |name: &str, text: &str| fs::write(outside.join(name), text).expect("the directory is ours");
    let system = tree.unwrap_or(Path::new("/")).join("etc/asterisk/asterisk.conf");
    write("asterisk.conf", &directories(&fs::read_to_string(system).unwrap_or_default(), home));
    write("modules.conf", MODULES);
    write("logger.conf", "[general]\n[logfiles]\nconsole => notice,warning,error,verbose\n");
    write("rtp.conf", "[general]\nrtpstart=30000\nrtpend=31000\n");
    write("extensions.conf", &format!("[general]\n[default]\n{}\n", plan.dialplan));
    write("pjsip.conf", &pjsip(address, plan));
    for empty in [
        "cdr.conf",
        "cel.conf",
        "features.conf",
        "indications.conf",
        "musiconhold.conf",
        "acl.conf",
        "udptl.conf",
    ] {
        write(empty, "");
    }
}

/// Not needed, slow to load, or in the way of a second instance.
const MODULES: &str = "[modules]
autoload=yes
noload => chan_sip.so
noload => chan_iax2.so
noload => chan_skinny.so
noload => chan_unistim.so
noload => chan_mgcp.so
noload => chan_alsa.so
noload => chan_console.so
noload => chan_oss.so
noload => chan_motif.so
noload => pbx_dundi.so
noload => pbx_ael.so
noload => pbx_lua.so
noload => res_hep.so
noload => res_xmpp.so
noload => res_snmp.so
noload => res_calendar.so
noload => app_jack.so
noload => app_festival.so
";

/// The system's directories, those of this instance's state replaced.
fn directories(system: &str, home: &Path) -> String {
    let own = |key: &str| match key {
        "astetcdir" => Some(home.to_owned()),
        "astdbdir" => Some(home.join("db")),
        "astrundir" => Some(home.join("run")),
        "astlogdir" => Some(home.join("log")),
        "astspooldir" => Some(home.join("spool")),
        _ => None,
    };
    let mut text = String::from("[directories]\n");
    let lines = system.lines().filter(|l| l.starts_with("ast")).filter_map(|l| l.split_once("=>"));
    for (key, value) in lines.map(|(k, v)| (k.trim(), v.trim())) {
        let value = own(key).map_or_else(|| value.to_owned(), |path| path.display().to_string());
        writeln!(text, "{key} => {value}").expect("a string takes text");
    }
    text.push_str("[options]\nhideconnect = yes\n");
    text
}

fn pjsip(address: SocketAddr, plan: &Plan<'_>) -> String {
    let mut text = format!("[transport-udp]\ntype=transport\nprotocol=udp\nbind={address}\n");
    for user in plan.users {
        let aor = (plan.aor)(user);
        write!(
            text,
            "[{user}]\ntype=endpoint\ncontext=default\ndisallow=all\nallow=ulaw\nauth={user}\naors={user}\n\
             direct_media=no\n[{user}]\ntype=auth\nauth_type=userpass\nusername={user}\npassword=pw-{user}\n\
             [{user}]\ntype=aor\n{aor}"
        )
        .expect("a string takes text");
    }
    text
}
