//! The running edge, as the rest of the process sees it.

use crate::certificates::Certificates;
use crate::config::{Hooks, InForce, Reloaded, Unusable};
use crate::error::Fatal;
use crate::keep::Files;
use crate::look::{self, Page, Which};
use crate::metrics::Metrics;
use crate::resolver::Resolver;
use crate::status::{BackendFigure, Component, Figures, Shared};
use crate::supervise::{End, StopReport};
use crate::turn::{Mailbox, Told};
use signalbox_base::{EventSeq, Now, Text};
use signalbox_engine::{Command, CommandReply, Engine, Settings, Watch};
use signalbox_journal::storage::SharedStorage;
use signalbox_journal::{Cursors, Layout, Mark, Reader, Start, Watermark, Writer};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};

/// A running edge; cloned freely. It runs until [`EdgeHandle::stop`], or until it fails.
#[derive(Clone)]
pub struct EdgeHandle(pub(crate) Arc<Inner>);

/// Why a question or command got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Too much waits for the engine thread.
    #[error("the edge is too busy to take this; try again")]
    Busy,
    /// The edge has stopped or is stopping.
    #[error("the edge is stopping")]
    Gone,
}

/// Readers of this edge's journal in its own process.
#[derive(Clone)]
pub struct JournalAccess {
    watermark: Arc<Watermark>,
    cursors: Cursors,
    files: Files,
}

impl JournalAccess {
    pub(crate) fn new(writer: &Writer, files: Files) -> Self {
        Self { watermark: writer.watermark(), cursors: writer.cursors(), files }
    }

    /// A reader that never passes the durable watermark.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn reader(&self, start: Start) -> signalbox_journal::Result<Reader> {
        let Files { storage, layout, mark, .. } = self.files.clone();
        Reader::open(storage, layout, mark, start)
    }

    /// The durable watermark, to wait for or subscribe to.
    #[must_use]
    pub fn watermark(&self) -> Arc<Watermark> {
        Arc::clone(&self.watermark)
    }

    /// The sinks' positions.
    #[must_use]
    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    /// Where the journal is.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.files.layout
    }

    /// The journal's disk.
    #[must_use]
    pub fn storage(&self) -> SharedStorage {
        Arc::clone(&self.files.storage)
    }

    /// The durable mark.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.files.mark.clone()
    }
}

/// What the start made; shared by all clones.
pub(crate) struct Inner {
    pub(crate) mailbox: Mailbox,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Metrics,
    pub(crate) settings: Mutex<Arc<Settings>>,
    /// Revision in force, and what it is. Held over a reload, so that two never mix.
    pub(crate) applied: tokio::sync::Mutex<(u64, InForce)>,
    pub(crate) hooks: Hooks,
    pub(crate) end: watch::Receiver<Option<End>>,
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) journal: JournalAccess,
    pub(crate) admin: Option<SocketAddr>,
    /// One permit for each request of the admin socket that is not answered yet.
    pub(crate) answering: Semaphore,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) resolver: Resolver,
}

/// Requests of the admin socket worked on at a time.
pub(crate) const ANSWERING_MAX: u32 = 64;

impl EdgeHandle {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// The settings in force, with the journal's id and the real ports.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bound addresses of the listeners, in the settings' order.
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.0.listeners
    }

    /// The address that serves HTTP.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.0.admin
    }

    /// The journal, for local readers.
    #[must_use]
    pub fn journal(&self) -> &JournalAccess {
        &self.0.journal
    }

    /// Figures of about the last second.
    #[must_use]
    pub fn status(&self) -> Arc<Figures> {
        self.0.shared.figures()
    }

    /// Listeners, journal, and what [`Hooks::components`] reports.
    #[must_use]
    pub fn components(&self) -> Vec<Component> {
        self.0.shared.components()
    }

    /// Why it is not ready for traffic; `None` when it is.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.0.shared.not_ready()
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.0.metrics.text()
    }

    /// Gives the engine a command; the answer comes once what it recorded is durable.
    ///
    /// # Errors
    /// [`NoAnswer`]; after [`NoAnswer::Gone`] it is unknown whether the command was recorded.
    pub async fn command(&self, command: Command) -> Result<CommandReply, NoAnswer> {
        let (asker, answer) = oneshot::channel();
        if !self.0.mailbox.tell(Told::Command(Box::new(command), Some(asker))) {
            return Err(self.why_not());
        }
        answer.await.map_err(|_| NoAnswer::Gone)
    }

    /// Looks at the engine between two turns. It must be bounded: calls wait meanwhile.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine, Now) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (asker, answer) = oneshot::channel();
        let told = Told::Look(Box::new(move |engine, now| {
            // Whoever asked may have given up.
            let _ = asker.send(look(engine, now));
        }));
        if !self.0.mailbox.tell(told) {
            return Err(self.why_not());
        }
        answer.await.map_err(|_| NoAnswer::Gone)
    }

    /// A page of the bindings in force.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn locations(&self, which: Which) -> Result<Page, NoAnswer> {
        let edge = self.settings().identity.edge.clone();
        self.look(move |engine, _| look::locations(engine, &edge, &which)).await
    }

    /// A page of the calls in progress.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn calls(&self, which: Which) -> Result<Page, NoAnswer> {
        self.look(move |engine, _| look::calls(engine, &which)).await
    }

    /// All backends.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn backends(&self) -> Result<Vec<BackendFigure>, NoAnswer> {
        self.look(|engine, _| look::backends(engine)).await
    }

    /// Loads the configuration again and applies it, as an event with its diff. A faulty one is recorded as refused and
    /// changes nothing.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn reload(&self, actor: Text) -> Result<CommandReply, NoAnswer> {
        let mut applied = self.0.applied.lock().await;
        let hook = Arc::clone(&self.0.hooks.reload);
        let before = applied.1.clone();
        let load = move || {
            let reloaded = hook(&before)?;
            let tls = Certificates::load(&reloaded.streams).map_err(|error| error.to_string())?;
            Ok((reloaded, tls))
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded
            .unwrap_or_else(|_| Err("loading the configuration panicked; see the log".to_owned().into()));
        let completed = loaded.and_then(|(reloaded, tls)| Ok((self.completed(reloaded)?, tls)));
        let (reloaded, tls) = match completed {
            Ok(reloaded) => reloaded,
            Err(Unusable { errors, told }) => {
                self.command(Command::ReloadRejected { errors, actor }).await?;
                return Ok(CommandReply::Refused(told));
            }
        };
        self.0.certificates.put(tls, &reloaded.streams, &reloaded.settings);
        self.0.resolver.configure(&reloaded.dns);
        if reloaded.diff.is_empty() {
            if !self.0.certificates.any() {
                return Ok(CommandReply::Done(Text::new("nothing changed")));
            }
            self.acted("reload", "certificates", None, actor).await?;
            let told = "the configuration is as it was; certificates were read again for new connections";
            return Ok(CommandReply::Done(Text::new(told)));
        }
        let (settings, in_force) = (Arc::clone(&reloaded.settings), reloaded.in_force.clone());
        let revision = applied.0 + 1;
        let reply = self
            .command(Command::Reload {
                settings: reloaded.settings,
                revision,
                sha256: reloaded.in_force.sha256,
                effective: reloaded.in_force.effective,
                diff: reloaded.diff,
                actor,
            })
            .await?;
        if matches!(reply, CommandReply::Done(_)) {
            *applied = (revision, in_force);
            *self.0.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
        }
        Ok(reply)
    }

    /// Sets the log level by [`Hooks::log_level`]; recorded as `admin.acted`.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn log_level(&self, level: &str, actor: Text) -> Result<CommandReply, NoAnswer> {
        let outcome = (self.0.hooks.log_level)(level);
        let told = match &outcome {
            Ok(()) => CommandReply::Done(Text::from(format!("log level {level}"))),
            Err(why) => CommandReply::Refused(Text::new(why)),
        };
        self.acted("log level", level, outcome.err(), actor).await?;
        Ok(told)
    }

    /// Whose steps are logged from now on; recorded as `admin.acted`.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn watch(&self, watch: Watch, actor: Text) -> Result<CommandReply, NoAnswer> {
        let target = format!("{watch:?}");
        if !self.0.mailbox.tell(Told::Watch(watch)) {
            return Err(self.why_not());
        }
        self.acted("watch", &target, None, actor).await?;
        Ok(CommandReply::Done(Text::new("watching")))
    }

    /// Stops in order: new calls and registrations get 503 at once, calls go on until none is left or `deadline` has
    /// passed, then the last records are written. Calls that are left are taken over by the next start.
    ///
    /// # Errors
    /// [`Fatal`] when the edge failed before it could stop.
    pub async fn stop(&self, deadline: Duration, actor: Text) -> Result<StopReport, Arc<Fatal>> {
        tracing::info!(
            calls = self.status().calls(),
            deadline_seconds = deadline.as_secs(),
            "stopping: new calls and registrations are refused, calls in progress may end until the deadline"
        );
        // An edge that has gone already answers by its end.
        let _ = self.command(Command::Drain { deadline, actor }).await;
        let (asker, none_left) = oneshot::channel();
        self.0.mailbox.tell(Told::WhenNoCallIsLeft(asker));
        let _ = tokio::time::timeout(deadline, none_left).await;
        self.0.mailbox.tell(Told::Stop);
        match self.wait_end().await {
            End::Stopped(report) => Ok(report),
            End::Failed(fatal) => Err(fatal),
        }
    }

    /// Waits until the edge has ended, in whatever way.
    pub async fn wait_end(&self) -> End {
        let mut end = self.0.end.clone();
        match end.wait_for(Option::is_some).await.map(|end| end.clone()) {
            Ok(Some(end)) => end,
            // The supervisor says how it ended before it goes; a panic of its own is the only other way.
            _ => End::Failed(Arc::new(Fatal::Panic("supervisor"))),
        }
    }

    /// Waits until every request of the admin socket is answered: whoever asked the edge to stop hears how that went.
    pub async fn wait_answered(&self) {
        // The semaphore is never closed.
        let _ = self.0.answering.acquire_many(ANSWERING_MAX).await;
    }

    /// A request of the admin socket is being worked on, until the permit is dropped.
    pub(crate) async fn answering(&self) -> Option<SemaphorePermit<'_>> {
        self.0.answering.acquire().await.ok()
    }

    /// Waits until the edge fails; never returns after an orderly stop.
    pub async fn wait_fatal(&self) -> Arc<Fatal> {
        match self.wait_end().await {
            End::Failed(fatal) => fatal,
            End::Stopped(_) => std::future::pending().await,
        }
    }

    /// Position of the last durable event.
    #[must_use]
    pub fn durable(&self) -> EventSeq {
        self.0.journal.watermark.get()
    }

    /// Settings of a reload with what only the start knew; refused when the sockets would have to change.
    fn completed(&self, mut reloaded: Reloaded) -> Result<Reloaded, Unusable> {
        let old = self.settings();
        let mut new = (*reloaded.settings).clone();
        let socket = |l: &signalbox_engine::settings::ListenerSettings| (l.transport, l.network);
        let kept = old.listeners.len() == new.listeners.len()
            && old.identity == new.identity
            && old.listeners.iter().zip(&new.listeners).all(|(old, new)| {
                let any_port = new.address.port() == 0 && new.address.ip() == old.address.ip();
                socket(old) == socket(new) && (new.address == old.address || any_port)
            });
        if !kept {
            let why =
                "listeners and the edge's names change with a restart only; everything else can be reloaded";
            return Err(why.to_owned().into());
        }
        for (old, new) in old.listeners.iter().zip(&mut new.listeners) {
            if *new.advertise == *new.address.to_string() {
                new.advertise = Text::from(old.address.to_string());
            }
            new.address = old.address;
        }
        new.journal = old.journal;
        reloaded.settings = Arc::new(new);
        Ok(reloaded)
    }

    async fn acted(
        &self,
        action: &str,
        target: &str,
        error: Option<String>,
        actor: Text,
    ) -> Result<(), NoAnswer> {
        let outcome = Text::from(error.unwrap_or_else(|| "done".to_owned()));
        let (action, target) = (Text::new(action), Text::new(target));
        self.command(Command::Acted { action, target, outcome, actor }).await.map(drop)
    }

    /// Queues something for the engine thread; `false` when it is full, or gone.
    pub(crate) fn tell(&self, told: Told) -> bool {
        self.0.mailbox.tell(told)
    }

    pub(crate) fn why_not(&self) -> NoAnswer {
        if self.0.end.borrow().is_some() { NoAnswer::Gone } else { NoAnswer::Busy }
    }
}
