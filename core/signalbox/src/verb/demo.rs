//! `signalbox demo`: everything, on one machine, without a server.

use super::run::{Banner, until_the_end};
use super::runtime;
use crate::args::{Cli, DemoArgs};
use crate::config;
use crate::demo::{CONFIG_FILE, Cast, GUEST, Passwords, Script, invitation, pbx_sockets, write_config};
use crate::errors::{Failure, INTERNAL};
use crate::logging;
use crate::roles::{self, Roles};
use signalbox_io::OsEntropy;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long calls may go on after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(15);

/// Starts it and plays until Ctrl-C or `--stop-after`.
pub fn run(_: &Cli, args: &DemoArgs) -> Result<(), Failure> {
    let mut entropy = OsEntropy::seeded().map_err(|e| Failure::new(INTERNAL, e.to_string()))?;
    let passwords = Passwords::new(&mut entropy);
    let pbxs = pbx_sockets()?;
    let ports = [port(&pbxs[0])?, port(&pbxs[1])?];
    let path = write_config(args, ports)?;
    let loaded = config::load(&path, std::env::vars())?;
    let level = logging::start(&loaded.file.log);
    let runtime = runtime()?;
    let banner = Banner::new(&loaded);
    let roles = Roles::new(&[], &loaded.file)?;
    let running = roles::start(loaded, roles, Some(level), runtime.handle())?;
    banner.lines(&running).iter().for_each(|line| eprintln!("{line}"));
    eprintln!("  phones   6 at acme, 6 at globex (extension 401 exists in both)\n");
    if !args.listen.is_loopback() {
        let settings = running.edge.as_ref().map(signalbox_edge::EdgeHandle::settings);
        let first = settings.and_then(|settings| settings.listeners.first().map(|l| l.advertise.to_string()));
        let advertise = first.unwrap_or_default();
        let password = passwords.of("acme", GUEST);
        invitation(&advertise, GUEST, "acme.test", &password).iter().for_each(|line| eprintln!("{line}"));
    }
    hints(args);
    let cast = Cast::new(args, pbxs, &passwords, &mut entropy, Script::default())?;
    let stop = Arc::new(AtomicBool::new(false));
    let playing = {
        let stop = Arc::clone(&stop);
        std::thread::Builder::new().name("demo-cast".into()).spawn(move || cast.play(&stop))?
    };
    let ended = runtime.block_on(async {
        match args.stop_after {
            None => until_the_end(running, DRAIN).await,
            Some(after) => {
                tokio::time::sleep(after.0).await;
                let actor = "--stop-after";
                running.stop(DRAIN, actor).await?.map_or(Ok(()), |end| super::run::ended(&end))
            }
        }
    });
    stop.store(true, Ordering::Relaxed);
    let _ = playing.join();
    ended
}

fn port(socket: &UdpSocket) -> Result<u16, Failure> {
    Ok(socket.local_addr()?.port())
}

fn hints(args: &DemoArgs) {
    let program = std::env::args().next().unwrap_or_else(|| "signalbox".into());
    // Without --config the commands find the demo of this directory by themselves.
    let own = args.dir.join(CONFIG_FILE);
    let found = config::find(None).is_ok_and(|p| p == own);
    let command = if found { program } else { format!("{program} --config {}", own.display()) };
    eprintln!("Try, in another terminal:");
    let lines = [
        ("tail call", "watch calls as they happen"),
        ("locations", "who is registered, where from"),
        ("cdr --last 10", "the latest call records"),
        ("why <id>", "one call's, phone's or address's story"),
        ("init", "a configuration of your own"),
    ];
    let width = command.len() + 16;
    for (verb, about) in lines {
        eprintln!("  {:<width$} {about}", format!("{command} {verb}"));
    }
}
