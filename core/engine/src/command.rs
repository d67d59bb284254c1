//! What operators ask of the running engine.

use crate::backend;
use crate::contract::{Command, CommandReply, Context, Outbox};
use crate::engine::{Engine, settle};
use crate::facts::{admin, config, edge};
use crate::settings::Settings;
use crate::tenancy::Directory;
use crate::turn::Turn;
use signalbox_base::{Now, Text};
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    pub(crate) fn command(&mut self, now: Now, command: Command, cx: &mut Context<'_>, out: &mut Outbox) {
        let reload = match &command {
            Command::Reload { settings, .. } => Some(self.replace_settings(Arc::clone(settings))),
            _ => None,
        };
        let (mut turn, rooms) = self.lend(now, cx, out);
        let reply = match command {
            Command::Reload { revision, sha256, effective, diff, actor, .. } => {
                let changes = diff.len();
                let fact =
                    config::applied(&turn, config::Applied { revision, sha256, effective, diff, actor });
                let applied = turn.record_urgent(fact);
                let mut removed = 0;
                if let Some(old) = reload {
                    backend::reload(&mut turn, &old);
                    rooms.registrar.on_reload(&turn);
                    removed = rooms.registrar.remove_orphans(&mut turn, applied);
                    rooms.registrar.outbound.configure(&mut turn);
                    rooms.standalone.on_reload(&turn);
                }
                let gone =
                    if removed > 0 { format!(", {removed} registrations removed") } else { String::new() };
                CommandReply::Done(Text::from(format!("revision {revision}, {changes} changes{gone}")))
            }
            Command::ReloadRejected { errors, actor } => {
                let fact = config::rejected(&turn, errors, actor);
                turn.record(fact);
                CommandReply::Done(Text::new("the configuration before stays in force"))
            }
            Command::Backend { name, wish, actor } => backend::on_command(&mut turn, &name, wish, &actor),
            Command::Drain { deadline, actor } => {
                rooms.registrar.outbound.withdraw_all(&mut turn);
                drain(&mut turn, rooms.calls.active(), deadline, &actor)
            }
            Command::Stop { clean } => {
                rooms.hops.on_stop(&mut turn);
                let fact = edge::stopped(&turn, clean, rooms.calls.active());
                turn.record_urgent(fact);
                CommandReply::Done(Text::new("stopped"))
            }
            Command::Acted { action, target, outcome, actor } => {
                let done = if *outcome == *"done" { Ok(()) } else { Err(&*outcome) };
                let fact = admin::acted(&turn, &actor, &action, &target, done);
                turn.record(fact);
                CommandReply::Done(action)
            }
            Command::Note(event) => {
                let fact = edge::noted(&turn, *event);
                turn.record_urgent(fact);
                CommandReply::Done(Text::default())
            }
            Command::RemoveBinding { aor, tenant, actor } => {
                rooms.registrar.remove(&mut turn, &aor, tenant.as_ref(), &actor)
            }
        };
        turn.out.replies.push(reply);
        settle(&mut turn, rooms);
    }

    /// New settings are in force for whatever comes.
    fn replace_settings(&mut self, settings: Arc<Settings>) -> Arc<Settings> {
        let mut directory = Directory::new(&settings);
        directory.carry_over(&self.directory, &self.settings, &settings);
        self.directory = directory;
        std::mem::replace(&mut self.settings, settings)
    }
}

fn drain(turn: &mut Turn<'_>, calls_left: u64, deadline: Duration, actor: &Text) -> CommandReply {
    if turn.net.draining {
        return CommandReply::Done(Text::from(format!("draining already, {calls_left} calls left")));
    }
    turn.net.draining = true;
    let seq = {
        let fact = admin::acted(turn, actor, "drain", "", Ok(()));
        turn.record(fact)
    };
    let fact = edge::draining(turn, calls_left, deadline).because(seq);
    turn.record_urgent(fact);
    CommandReply::Done(Text::from(format!("draining, {calls_left} calls left")))
}
