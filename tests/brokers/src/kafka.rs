//! A real Apache Kafka: one KRaft node, from the jars that `make setup-peers` fetched.

use crate::place::{Place, Port, cache};
use crate::server::{Hull, Server};
use crate::tls::Tls;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use signalbox_bus::kafka::{Config, Login, Mechanism};
use signalbox_bus::nats::MaxAge;
use signalbox_e2e::edge::said;
use signalbox_e2e::{Process, wait};
use std::fmt::Write;
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How a broker is set up.
#[derive(Clone, Debug, Default)]
pub struct KafkaOptions {
    /// Names and passwords of users who log in by SCRAM-SHA-512 or -256 over TLS.
    pub scram: Vec<(String, String)>,
    /// Names and passwords of users who log in by PLAIN over TLS.
    pub plain: Vec<(String, String)>,
    /// A listener for TLS without a login, where the client may show a certificate.
    pub tls: bool,
    /// Only who is allowed may do anything: the first user of each list, and who comes without a login, may do all.
    pub acls: bool,
    /// Further settings of the broker, or other values.
    pub properties: Vec<(String, String)>,
}

/// A running broker, or a dead one that can be started again. Everything goes when it is dropped.
#[derive(Debug)]
pub struct Kafka {
    hull: Hull,
    ports: Ports,
    options: KafkaOptions,
    tls: Option<Tls>,
    config: PathBuf,
}

#[derive(Debug)]
struct Ports {
    plain: Port,
    sasl: Port,
    tls: Port,
    controller: Port,
}

/// The broker that stories of this test process use one after the other: it runs and has no topics. A story may do with it
/// what it likes, kill it too.
#[derive(Debug)]
pub struct Lease(MutexGuard<'static, Kafka>);

/// Waits until the broker is free.
#[must_use]
pub fn lease() -> Lease {
    static SHARED: OnceLock<Mutex<Kafka>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| Mutex::new(Kafka::start(KafkaOptions::default())));
    // A story that failed has left it in some state; all of that goes now.
    let mut kafka = shared.lock().unwrap_or_else(PoisonError::into_inner);
    kafka.clean();
    Lease(kafka)
}

impl Deref for Lease {
    type Target = Kafka;
    fn deref(&self) -> &Kafka {
        &self.0
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Kafka {
        &mut self.0
    }
}

impl Kafka {
    /// Formats its directory and starts it; it is ready. Takes 5 to 15 seconds.
    #[must_use]
    pub fn start(options: KafkaOptions) -> Self {
        let place = Place::new("kafka");
        let ports =
            Ports { plain: Port::take(), sasl: Port::take(), tls: Port::take(), controller: Port::take() };
        let secure = options.tls || has_login(&options);
        let tls = secure.then(|| Tls::make(&place));
        let config = place.file("server.properties", &properties(&options, &ports, &place, tls.as_ref()));
        let mut format = java(96, "kafka.tools.StorageTool");
        format.args(["format", "-t", &cluster_id(), "-c"]).arg(&config);
        for (name, password) in &options.scram {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                format.args(["--add-scram", &format!("{mechanism}=[name={name},password={password}]")]);
            }
        }
        let formatted = said(&mut format);
        assert_eq!(formatted.code, 0, "Kafka's directory cannot be formatted: {formatted:?}");
        let mut kafka = Self { hull: Hull::new(place), ports, options, tls, config };
        kafka.start_again();
        kafka
    }

    /// `host:port` of the listener without TLS and login.
    #[must_use]
    pub fn url(&self) -> String {
        address(&self.ports.plain)
    }

    /// `host:port` of the listener with TLS and login.
    #[must_use]
    pub fn sasl_url(&self) -> String {
        address(&self.ports.sasl)
    }

    /// `host:port` of the listener with TLS and without login.
    #[must_use]
    pub fn tls_url(&self) -> String {
        address(&self.ports.tls)
    }

    /// Its certificates, if it has some.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// What the product is configured with to reach it: as the first user of the first list there is, else by TLS if
    /// there is that, else plainly.
    #[must_use]
    pub fn config(&self) -> Config {
        let login = |user: &(String, String), mechanism| Login {
            mechanism,
            user: user.0.clone(),
            password_file: self.hull.place.file(&format!("password-{}", user.0), &user.1),
        };
        let scram = self.options.scram.first().map(|user| login(user, Mechanism::ScramSha512));
        let login = scram.or_else(|| self.options.plain.first().map(|user| login(user, Mechanism::Plain)));
        let url = match (&login, &self.tls) {
            (Some(_), _) => self.sasl_url(),
            (None, Some(_)) => self.tls_url(),
            (None, None) => self.url(),
        };
        Config {
            bootstrap: vec![url],
            client_id: "signalbox-story".into(),
            tls: self.tls.is_some(),
            ca_file: self.tls.as_ref().map(|tls| tls.ca.clone()),
            certificate: None,
            login,
            manage: true,
            replicas: 1,
            min_insync: 1,
            partitions: 3,
            per_tenant: false,
            max_age: MaxAge::default(),
        }
    }

    /// Settings of a plain client.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.url());
        config
    }

    /// Allows a user to read the topics whose names begin so, in groups of any name.
    ///
    /// The protocol's request for that is in no Rust client, so the Python one makes it.
    pub fn allow_read(&self, user: &str, topics: &str) {
        let script = r#"
import sys
from confluent_kafka.admin import *
url, user, topics = sys.argv[1:]
def acl(kind, name):
    return AclBinding(kind, name, ResourcePatternType.PREFIXED if name != "*" else ResourcePatternType.LITERAL,
        f"User:{user}", "*", AclOperation.READ, AclPermissionType.ALLOW)
admin = AdminClient({"bootstrap.servers": url})
for made in admin.create_acls([acl(ResourceType.TOPIC, topics), acl(ResourceType.GROUP, "*")]).values(): made.result(20)
"#;
        let mut python = Command::new(cache().join("python/bin/python3"));
        let done = said(python.args(["-c", script, &self.url(), user, topics]));
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// Deletes every record there is in topics whose names begin so, as an operator may.
    pub fn empty(&self, topics: &str) {
        let client: BaseConsumer = self.client().create().expect("the settings are well-formed");
        let metadata = client.fetch_metadata(None, PATIENCE).expect("it runs");
        let named = metadata.topics().iter().filter(|topic| topic.name().starts_with(topics));
        let partitions = named.flat_map(|topic| topic.partitions().iter().map(|p| (topic.name(), p.id())));
        let bounds = |(topic, partition)| {
            let (low, end) =
                client.fetch_watermarks(topic, partition, PATIENCE).expect("it serves all of them");
            (topic, partition, low, end)
        };
        let mut ends = TopicPartitionList::new();
        for (topic, partition, _, end) in partitions.map(bounds).filter(|(.., low, end)| low < end) {
            ends.add_partition_offset(topic, partition, Offset::Offset(end)).expect("it is an offset");
        }
        let admin: AdminClient<_> = self.client().create().expect("the settings are well-formed");
        let gone = answered(admin.delete_records(&ends, &AdminOptions::new())).expect("Kafka answers");
        assert!(gone.elements().iter().all(|partition| partition.error().is_ok()), "{gone:?}");
    }

    /// Waits until every partition there is can be read: a topic is made before its partitions have their leader.
    pub fn settle(&self) {
        wait::until_within(PATIENCE, "Kafka to serve new partitions", || self.serves().then_some(()));
    }

    fn serves(&self) -> bool {
        let soon = Duration::from_secs(1);
        let client: BaseConsumer = self.client().create().expect("the settings are well-formed");
        let Ok(metadata) = client.fetch_metadata(None, soon) else { return false };
        let ours = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__"));
        let mut partitions = ours.flat_map(|topic| topic.partitions().iter().map(|p| (topic.name(), p.id())));
        !metadata.brokers().is_empty()
            && partitions.all(|(topic, partition)| client.fetch_watermarks(topic, partition, soon).is_ok())
    }

    /// Runs, and without any topic.
    fn clean(&mut self) {
        if self.hull.process.as_mut().is_none_or(|process| process.ended().is_some()) {
            self.start_again();
        }
        self.thaw();
        self.delete("");
        wait::until_true("the topics of the story before to be gone", || self.named("").is_empty());
    }

    /// Deletes the topics whose names begin so, as an operator may.
    pub fn delete(&self, topics: &str) {
        let there = self.named(topics);
        let names: Vec<&str> = there.iter().map(String::as_str).collect();
        if !names.is_empty() {
            let admin: AdminClient<_> = self.client().create().expect("the settings are well-formed");
            let deleted = answered(admin.delete_topics(&names, &AdminOptions::new()));
            assert!(deleted.is_ok_and(|all| all.iter().all(Result::is_ok)), "{names:?} are not deleted");
        }
    }

    fn named(&self, topics: &str) -> Vec<String> {
        let client: BaseConsumer = self.client().create().expect("the settings are well-formed");
        let metadata = client.fetch_metadata(None, PATIENCE).expect("it was ready when it started");
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        names.filter(|name| name.starts_with(topics) && !name.starts_with("__")).collect()
    }
}

/// Waits for an answer wherever it is asked for, on a story's runtime too.
fn answered<T: Send>(asked: impl Future<Output = T> + Send) -> T {
    // It is made and dropped on a thread where that may block.
    let apart = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
        runtime.block_on(asked)
    };
    std::thread::scope(|scope| scope.spawn(apart).join()).expect("it does not panic")
}

impl Server for Kafka {
    fn hull(&self) -> &Hull {
        &self.hull
    }

    fn hull_mut(&mut self) -> &mut Hull {
        &mut self.hull
    }

    /// Every partition has its leader again.
    fn start_again(&mut self) {
        let mut command = java(384, "kafka.Kafka");
        let mut process = Process::start(self.dir(), "kafka", command.arg(&self.config));
        let port = self.ports.plain.number();
        let looks_well = |process: &mut Process| {
            assert!(process.ended().is_none(), "Kafka ended:\n{}{}", process.stdout(), process.stderr());
        };
        wait::until_within(PATIENCE, "Kafka to listen", || {
            looks_well(&mut process);
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        wait::until_within(PATIENCE, "Kafka to serve its partitions", || {
            looks_well(&mut process);
            self.serves().then_some(())
        });
        self.hull.process = Some(process);
    }
}

impl Server for Lease {
    fn hull(&self) -> &Hull {
        self.0.hull()
    }

    fn hull_mut(&mut self) -> &mut Hull {
        self.0.hull_mut()
    }

    fn start_again(&mut self) {
        self.0.start_again();
    }
}

/// A Java machine on a loaded test machine takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

fn has_login(options: &KafkaOptions) -> bool {
    !options.scram.is_empty() || !options.plain.is_empty()
}

fn address(port: &Port) -> String {
    format!("127.0.0.1:{}", port.number())
}

fn java(megabytes: u32, class: &str) -> Command {
    let mut command = Command::new("java");
    command.arg(format!("-Xmx{megabytes}m")).args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
    command.arg(format!("{}/*", cache().join("kafka-4.1.1").display())).arg(class);
    command
}

/// 16 bytes in base64: 21 hexadecimal digits and an A are that, too.
fn cluster_id() -> String {
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux makes random numbers");
    let digits = random.chars().filter(char::is_ascii_hexdigit).take(21);
    digits.chain(['A']).collect()
}

fn properties(options: &KafkaOptions, ports: &Ports, place: &Place, tls: Option<&Tls>) -> String {
    let controller = address(&ports.controller);
    let mut listeners = format!("PLAINTEXT://{},CONTROLLER://{controller}", address(&ports.plain));
    if tls.is_some() {
        let _ = write!(listeners, ",SSL://{}", address(&ports.tls));
    }
    if has_login(options) {
        let _ = write!(listeners, ",SASL_SSL://{}", address(&ports.sasl));
    }
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
         listeners={listeners}\ncontroller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL\n\
         log.dirs={}\n{SMALL}",
        place.data().display()
    );
    if let Some(tls) = tls {
        let (own, ca) = (tls.server_both.display(), tls.ca.display());
        let _ = write!(
            text,
            "ssl.keystore.type=PEM\nssl.keystore.location={own}\nssl.truststore.type=PEM\n\
             ssl.truststore.location={ca}\nlistener.name.ssl.ssl.client.auth=requested\n"
        );
    }
    text += &logins(options);
    for (name, value) in &options.properties {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

/// One node on a busy machine, killed often: back soon, and with few threads.
const SMALL: &str = "\
auto.create.topics.enable=false
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=1500
controlled.shutdown.enable=false
group.initial.rebalance.delay.ms=0
log.index.size.max.bytes=1048576
num.io.threads=4
num.network.threads=2
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
";

fn logins(options: &KafkaOptions) -> String {
    let mut text = String::new();
    let mut mechanisms = Vec::new();
    let module = "org.apache.kafka.common.security";
    if !options.scram.is_empty() {
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            mechanisms.push(mechanism);
            let name = mechanism.to_lowercase();
            let _ = writeln!(
                text,
                "listener.name.sasl_ssl.{name}.sasl.jaas.config={module}.scram.ScramLoginModule required;"
            );
        }
    }
    if !options.plain.is_empty() {
        mechanisms.push("PLAIN");
        let users: String =
            options.plain.iter().map(|(name, password)| format!(" user_{name}=\"{password}\"")).collect();
        let _ = writeln!(
            text,
            "listener.name.sasl_ssl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required{users};"
        );
    }
    if !mechanisms.is_empty() {
        let _ = writeln!(text, "sasl.enabled.mechanisms={}", mechanisms.join(","));
    }
    if options.acls {
        let firsts = [options.scram.first(), options.plain.first()];
        let users: String = firsts.iter().flatten().map(|(name, _)| format!(";User:{name}")).collect();
        let _ = writeln!(
            text,
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS{users}"
        );
    }
    text
}
