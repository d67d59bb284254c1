//! Starting: lock and recover the journal, open the sockets, let the engine resume, run the threads.

use crate::admin;
use crate::certificates::{self, Certificates};
use crate::commit::{Batch, Committer, Handover, Progress};
use crate::config::{EdgeConfig, Fork, Hooks, InForce};
use crate::entropy::Randomness;
use crate::error::StartError;
use crate::handle::{ANSWERING_MAX, EdgeHandle, Inner, JournalAccess};
use crate::keep::{self, Files, Keeping};
use crate::listen::{self, Opened};
use crate::metrics::Metrics;
use crate::recover;
use crate::remote::UPDATES_MAX;
use crate::resolver::Resolver;
use crate::status::Shared;
use crate::supervise::{self, Threads};
use crate::turn::{self, About, Mailbox, Parts, Told};
use crate::wire::Wires;
use crossbeam_channel::Receiver;
use signalbox_base::{EventSeq, Text};
use signalbox_engine::{Command, Context, Engine, Entropy, Input, Settings, Watch};
use signalbox_io::{Clock, OsEntropy, StreamDriver, Waker};
use signalbox_journal::{Journal, Recovered, Writer};
use signalbox_schemas::Event;
use signalbox_schemas::edge::EdgeStarted;
use signalbox_schemas::values::TransportAddress;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

/// Starts edges.
pub struct Edge;

impl Edge {
    /// Recovers, binds and serves. Blocks while it recovers; `runtime` runs what is not on the hot path (HTTP, the admin
    /// socket, name resolution).
    ///
    /// # Errors
    /// [`StartError`], one line each that says what to do. Nothing is served then, and nothing was recorded.
    pub fn start(config: EdgeConfig, hooks: Hooks, runtime: &Handle) -> Result<EdgeHandle, StartError> {
        let mut entropy = OsEntropy::seeded()?;
        let clock = Clock::start();
        // The journal's lock comes first: it is what keeps a second instance away from everything else.
        let (mut writer, mut recovered) = open_journal(&config, &clock, &mut entropy)?;
        fork_if_asked(&config, &mut writer, &mut recovered, &clock, &mut entropy)?;
        let waker = Waker::new()?;
        let Opened { wires, driver, addresses: listeners } =
            listen::open(&config.settings, &config.streams, &clock, &waker)?;
        let certificates = Arc::new(Certificates::new(wires.streams.clone()));
        certificates.put(Certificates::load(&config.streams)?, &config.streams, &config.settings);
        let settings = Arc::new(completed(&config.settings, &writer, &listeners));
        let admin = admin::Listeners::bind(&config)?;

        let mut first = First { clock: &clock, entropy: Randomness(entropy), batch: Batch::default() };
        let layout = signalbox_journal::Layout {
            dir: config.journal.dir.clone(),
            archive: config.journal.archive.clone(),
        };
        let state = recover::recover(&config.storage, &layout, &writer, recovered.last)?;
        let (mut engine, revision) = first.begin(state, &settings, &recovered, &config.in_force);
        certificates.peers(&config.known);
        for updates in config.known.chunks(UPDATES_MAX) {
            first.turn(&mut engine, Input::Remote(updates));
        }

        let about = About::new(&settings, clock.now().wall, revision);
        let names = settings.listeners.iter().map(|l| format!("{}:{}", l.transport, l.address)).collect();
        let shared = Arc::new(Shared::new(
            about.figures(),
            names,
            Arc::clone(&hooks.components),
            wires.streams.clone(),
        ));
        let metrics = Metrics::new(Arc::clone(&shared));
        let (mailbox, mail) = Mailbox::new(waker.clone());
        let resolver = Resolver::new(runtime, &mailbox, &certificates, &shared, &config.dns);
        let files = files_of(&config, &writer, layout);
        let journal = JournalAccess::new(&writer, files.clone());
        let (end_sender, end) = watch::channel(None);
        let threads = Spawning {
            wires: Arc::new(wires),
            driver,
            waker,
            mail,
            mailbox: mailbox.clone(),
            shared: Arc::clone(&shared),
            clock: clock.clone(),
            resolver: resolver.clone(),
            files,
            about,
        };
        let First { entropy, batch, .. } = first;
        let spawned = threads.spawn(engine, entropy, batch, writer, &config, metrics.measured())?;
        supervise::spawn(spawned, Arc::clone(&shared), end_sender).map_err(StartError::Thread)?;

        let handle = EdgeHandle::new(Inner {
            mailbox,
            shared,
            metrics,
            settings: Mutex::new(settings),
            applied: tokio::sync::Mutex::new((revision, config.in_force)),
            hooks,
            end,
            listeners,
            journal,
            admin: admin.http_address(),
            answering: Semaphore::new(ANSWERING_MAX as usize),
            certificates: Arc::clone(&certificates),
            resolver,
        });
        certificates::watch(certificates, handle.clone(), clock, runtime);
        admin.serve(&handle, runtime);
        Ok(handle)
    }
}

fn files_of(config: &EdgeConfig, writer: &Writer, layout: signalbox_journal::Layout) -> Files {
    Files { storage: Arc::clone(&config.storage), layout, mark: writer.mark(), journal: writer.journal() }
}

fn open_journal(
    config: &EdgeConfig,
    clock: &Clock,
    entropy: &mut OsEntropy,
) -> Result<(Writer, Recovered), StartError> {
    let mut random = [0; 32];
    entropy.fill(&mut random);
    let storage = Arc::clone(&config.storage);
    let identity = &config.settings.identity;
    let (writer, recovered) =
        Journal::open(storage, config.journal.clone(), identity, clock.now().wall, random)?;
    if let Some(cut) = &recovered.cut {
        tracing::warn!(
            file = %cut.file.display(), offset = cut.offset, bytes = cut.bytes,
            "the journal's last batch was torn and was cut; nothing in it had been acknowledged to anyone"
        );
    }
    for cursor in &recovered.cursors_aside {
        tracing::warn!(
            file = %cursor.display(),
            "a damaged cursor was put aside; whoever it belongs to reads the journal from its oldest event again"
        );
    }
    Ok((writer, recovered))
}

/// Before anything is recorded: whether this journal may go on under its id.
fn fork_if_asked(
    config: &EdgeConfig,
    writer: &mut Writer,
    recovered: &mut Recovered,
    clock: &Clock,
    entropy: &mut OsEntropy,
) -> Result<(), StartError> {
    let Some(ask) = config.before_first.as_ref().filter(|_| !recovered.created) else { return Ok(()) };
    let opened = crate::config::Opened {
        storage: Arc::clone(&config.storage),
        layout: signalbox_journal::Layout {
            dir: config.journal.dir.clone(),
            archive: config.journal.archive.clone(),
        },
        mark: writer.mark(),
        journal: writer.journal(),
    };
    if let Fork::New(why) = ask(&opened) {
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let id = writer.fork_identity(clock.now().wall, random)?;
        tracing::warn!(journal = %id, continues = %recovered.journal, why, "the journal goes on under a new id");
        recovered.continues = Some(recovered.journal);
        recovered.journal = id;
        recovered.domains.clear();
    }
    Ok(())
}

/// The settings with what only the start knows: the journal's id, and the ports behind port 0.
fn completed(settings: &Settings, writer: &Writer, listeners: &[SocketAddr]) -> Settings {
    let mut settings = settings.clone();
    settings.journal = writer.journal();
    for (listener, bound) in settings.listeners.iter_mut().zip(listeners) {
        if *listener.advertise == *listener.address.to_string() {
            listener.advertise = Text::from(bound.to_string());
        }
        listener.address = *bound;
    }
    settings
}

/// The turns before the first datagram: what recovery redoes, and the start's own records.
struct First<'a> {
    clock: &'a Clock,
    entropy: Randomness,
    batch: Batch,
}

impl First<'_> {
    fn begin(
        &mut self,
        state: signalbox_engine::state::State,
        settings: &Arc<Settings>,
        recovered: &Recovered,
        in_force: &InForce,
    ) -> (Engine, u64) {
        let clean = recovered.created || state.edge().stopped_clean;
        let (calls, bindings) = (u64::from(state.calls().active()), state.registrations().len() as u64);
        let (known, before) = (state.config().sha256.clone(), state.config().revision);
        let changed = known != in_force.sha256;
        let revision = if changed { before + 1 } else { before };
        let seed = std::array::from_fn(|_| self.entropy.next_u64());
        let mut engine = Engine::new(Arc::clone(settings), state, seed);
        let watch = Watch::default();
        let mut cx = Context { entropy: &mut self.entropy, watch: &watch };
        engine.resume(self.clock.now(), &mut cx, &mut self.batch.outbox);
        let addresses = settings.listeners.iter().map(|l| TransportAddress::new(l.transport, l.address));
        let started = EdgeStarted {
            edge: settings.identity.edge.clone(),
            version: settings.version.clone(),
            config_revision: revision,
            addresses: addresses.collect(),
            continues: recovered.continues,
            clean,
            calls_recovered: calls,
            bindings_recovered: bindings,
        };
        self.turn(&mut engine, Input::Command(Command::Note(Box::new(Event::from(started)))));
        if changed {
            let applied = Command::Reload {
                settings: Arc::clone(settings),
                revision,
                sha256: in_force.sha256.clone(),
                effective: in_force.effective.clone(),
                diff: Vec::new(),
                actor: Text::new("start"),
            };
            self.turn(&mut engine, Input::Command(applied));
        }
        self.batch.outbox.replies.clear();
        (engine, revision)
    }

    fn turn(&mut self, engine: &mut Engine, input: Input<'_>) {
        let watch = Watch::default();
        let mut cx = Context { entropy: &mut self.entropy, watch: &watch };
        engine.handle(self.clock.now(), input, &mut cx, &mut self.batch.outbox);
    }
}

/// What the threads share.
struct Spawning {
    wires: Arc<Wires>,
    driver: Option<StreamDriver>,
    waker: Waker,
    mail: Receiver<Told>,
    mailbox: Mailbox,
    shared: Arc<Shared>,
    clock: Clock,
    resolver: Resolver,
    files: Files,
    about: About,
}

impl Spawning {
    fn spawn(
        self,
        engine: Engine,
        entropy: Randomness,
        first: Batch,
        writer: Writer,
        config: &EdgeConfig,
        measured: crate::metrics::Measured,
    ) -> Result<Threads, StartError> {
        let handover = Arc::new(Handover::default());
        let durable: EventSeq = writer.watermark().get();
        let progress = Arc::new(Progress::new(durable));
        let (stop_keeping, until) = keep::until_stopped();
        let (begun, segments) = crossbeam_channel::bounded(1);
        let keeping = Keeping {
            keeper: writer.keeper(),
            mailbox: self.mailbox.clone(),
            progress: Arc::clone(&progress),
            clock: self.clock.clone(),
            edge: self.about.edge.clone(),
            files: self.files.clone(),
            unconfirmed: Vec::new(),
        };
        let committer = Committer {
            writer,
            policy: config.commit,
            handover: Arc::clone(&handover),
            progress: Arc::clone(&progress),
            wires: Arc::clone(&self.wires),
            mailbox: self.mailbox.clone(),
            begun,
            measured,
            shared: Arc::clone(&self.shared),
            clock: self.clock.clone(),
        };
        let parts = Parts {
            engine,
            wires: Arc::clone(&self.wires),
            waker: self.waker,
            mail: self.mail,
            handover,
            progress: Arc::clone(&progress),
            clock: self.clock,
            entropy,
            watch: Watch::default(),
            resolver: self.resolver,
            shared: self.shared,
            about: self.about,
            first,
        };
        let journal = named("journal", move || committer.run())?;
        let engine = named("engine", move || turn::run(parts))?;
        let keeper = named("keeper", move || keep::run(keeping, &until, segments))?;
        let mailbox = self.mailbox;
        let streams = match self.driver {
            Some(driver) => Some(named("streams", move || listen::run(driver, &progress, &mailbox))?),
            None => None,
        };
        Ok(Threads { engine, journal, keeper, stop_keeping, files: self.files, wires: self.wires, streams })
    }
}

fn named<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(StartError::Thread)
}
