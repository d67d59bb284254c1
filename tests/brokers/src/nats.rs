//! A real nats-server with JetStream.

use crate::login::Credentials;
use crate::place::{Place, Port, cache};
use crate::server::{Hull, Server};
use crate::tls::Tls;
use async_nats::jetstream::{self, Context};
use signalbox_bus::nats::{Config, Login, MaxAge};
use signalbox_e2e::{Process, wait};
use std::fmt::Write;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// How Signalbox logs in; it may do everything.
    pub login: NatsLogin,
    /// Who else may log in, by password, to the same account; not with [`NatsLogin::Token`] or
    /// [`NatsLogin::Credentials`].
    pub users: Vec<NatsUser>,
    /// TLS is required.
    pub tls: bool,
    /// A certificate of the client is required.
    pub client_certificates: bool,
    /// Bytes of a message, headers included.
    pub max_payload: usize,
    /// fsync before each acknowledgement.
    pub sync_always: bool,
    /// Further lines of the server's configuration.
    pub extra: String,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            login: NatsLogin::Open,
            users: Vec::new(),
            tls: false,
            client_certificates: false,
            max_payload: 2 << 20,
            sync_always: false,
            extra: String::new(),
        }
    }
}

/// How Signalbox logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsLogin {
    /// Not at all.
    Open,
    /// By a token.
    Token,
    /// As `edge` with a password.
    User,
    /// By an nkey.
    Nkey,
    /// By a `.creds` file; the server is in operator mode.
    Credentials,
}

/// A user with a password, and what it may do; `None`: everything.
#[derive(Clone, Debug)]
pub struct NatsUser {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
    /// Subjects it may publish to.
    pub publish: Option<Vec<String>>,
    /// Subjects it may subscribe to.
    pub subscribe: Option<Vec<String>>,
}

/// A running server, or a dead one that can be started again. Everything goes when it is dropped.
#[derive(Debug)]
pub struct Nats {
    hull: Hull,
    port: Port,
    config: PathBuf,
    login: Login,
    tls: Option<Tls>,
    client_certificates: bool,
}

const PASSWORD: &str = "pw-edge";

impl Nats {
    /// Starts one; it is ready.
    #[must_use]
    pub fn start(options: NatsOptions) -> Self {
        let (place, port) = (Place::new("nats"), Port::take());
        let tls = (options.tls || options.client_certificates).then(|| Tls::make(&place));
        let (login, access) = access(&options, &place);
        // Streams reserve room without taking it; by default there is as much as the disk has left.
        let mut text = format!(
            "host: 127.0.0.1\nport: {}\nmax_payload: {}\njetstream {{ store_dir: \"{}\", max_file_store: 64GB{} }}\n{access}{}\n",
            port.number(),
            options.max_payload,
            place.data().display(),
            if options.sync_always { ", sync_interval: always" } else { "" },
            options.extra,
        );
        if let Some(tls) = &tls {
            let (certificate, key, ca) =
                (tls.server_certificate.display(), tls.server_key.display(), tls.ca.display());
            let verify = options.client_certificates;
            let _ = writeln!(
                text,
                "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: {verify} }}"
            );
        }
        let config = place.file("nats.conf", &text);
        let client_certificates = options.client_certificates;
        let mut nats = Self { hull: Hull::new(place), port, config, login, tls, client_certificates };
        nats.start_again();
        nats
    }

    /// `nats://` or `tls://`, without a login.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "tls" } else { "nats" };
        format!("{scheme}://127.0.0.1:{}", self.port.number())
    }

    /// Its certificates, if it has some.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// What the product is configured with to reach it as a user who may do everything.
    #[must_use]
    pub fn config(&self) -> Config {
        let certificate = |tls: &Tls| (tls.client_certificate.clone(), tls.client_key.clone());
        Config {
            urls: vec![self.url()],
            client_name: "signalbox-story".into(),
            ca_file: self.tls.as_ref().map(|tls| tls.ca.clone()),
            certificate: self.tls.as_ref().filter(|_| self.client_certificates).map(certificate),
            login: self.login.clone(),
            manage: true,
            replicas: 1,
            max_bytes: 1 << 30,
            duplicate_window: Duration::from_secs(120),
            max_age: MaxAge::default(),
        }
    }

    /// Deletes a stream, as an operator may.
    pub fn delete(&self, stream: &str) {
        let deleted = async |context: Context| context.delete_stream(stream).await.map(drop);
        self.asked(deleted).expect("the story has made it");
    }

    /// Deletes every message of a stream, as an operator may.
    pub fn empty(&self, stream: &str) {
        let emptied = async |context: Context| {
            let stream = context.get_stream(stream).await.expect("the story has made it");
            stream.purge().await.map(drop)
        };
        self.asked(emptied).expect("it may be purged");
    }

    fn asked<T>(&self, ask: impl AsyncFnOnce(Context) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.block_on(async { ask(jetstream::new(self.client().await)).await })
    }

    /// A plain client with the same login.
    pub async fn client(&self) -> async_nats::Client {
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("the starter wrote it");
        let mut options = match &self.login {
            Login::None => async_nats::ConnectOptions::new(),
            Login::Token(file) => async_nats::ConnectOptions::with_token(read(file)),
            Login::User(name, file) => {
                async_nats::ConnectOptions::with_user_and_password(name.clone(), read(file))
            }
            Login::Nkey(file) => async_nats::ConnectOptions::with_nkey(read(file)),
            Login::Credentials(file) => {
                async_nats::ConnectOptions::with_credentials(&read(file)).expect("the starter wrote it well")
            }
        };
        if let Some(tls) = &self.tls {
            options = options.add_root_certificates(tls.ca.clone()).require_tls(true);
            if self.client_certificates {
                options =
                    options.add_client_certificate(tls.client_certificate.clone(), tls.client_key.clone());
            }
        }
        options.connect(self.url()).await.expect("the server has just said that it is ready")
    }
}

impl Server for Nats {
    fn hull(&self) -> &Hull {
        &self.hull
    }

    fn hull_mut(&mut self) -> &mut Hull {
        &mut self.hull
    }

    fn start_again(&mut self) {
        let mut command = Command::new(cache().join("python/bin/nats-server"));
        let mut process = Process::start(self.dir(), "nats", command.arg("-c").arg(&self.config));
        let port = self.port.number();
        wait::until("nats-server to be ready", || {
            assert!(process.ended().is_none(), "nats-server ended:\n{}", process.stderr());
            let mut greeting = [0; 4];
            TcpStream::connect(("127.0.0.1", port)).and_then(|mut s| s.read_exact(&mut greeting)).ok()?;
            (&greeting == b"INFO").then_some(())
        });
        self.hull.process = Some(process);
    }
}

/// The client's login, and what the server is told of who may log in.
fn access(options: &NatsOptions, place: &Place) -> (Login, String) {
    let user = |who: &str, rights: &str| format!("{{ {who}{rights} }}");
    let (login, own) = match options.login {
        NatsLogin::Token => {
            let file = place.file("token", "t0ken-of-the-story");
            return (Login::Token(file), "authorization { token: \"t0ken-of-the-story\" }\n".into());
        }
        NatsLogin::Credentials => {
            let credentials = Credentials::make();
            return (Login::Credentials(place.file("edge.creds", &credentials.user)), credentials.server);
        }
        NatsLogin::Open if options.users.is_empty() => return (Login::None, String::new()),
        NatsLogin::Nkey => {
            let pair = nkeys::KeyPair::new_user();
            let seed = pair.seed().expect("a pair that was made here has its seed");
            (Login::Nkey(place.file("edge.nk", &seed)), user(&format!("nkey: {}", pair.public_key()), ""))
        }
        NatsLogin::Open | NatsLogin::User => {
            let own = user(&format!("user: edge, password: \"{PASSWORD}\""), "");
            (Login::User("edge".into(), place.file("password", PASSWORD)), own)
        }
    };
    let others = options.users.iter().map(|other| {
        let mut rights = String::new();
        for (what, subjects) in [("publish", &other.publish), ("subscribe", &other.subscribe)] {
            if let Some(subjects) = subjects {
                let _ = write!(rights, "{what}: {subjects:?}, ");
            }
        }
        let rights = if rights.is_empty() {
            rights
        } else {
            format!(", permissions: {{ {rights} allow_responses: false }}")
        };
        user(&format!("user: {:?}, password: {:?}", other.name, other.password), &rights)
    });
    let users: Vec<String> = std::iter::once(own).chain(others).collect();
    (login, format!("accounts {{ SIGNALBOX {{ jetstream: enabled, users: [ {} ] }} }}\n", users.join(", ")))
}
