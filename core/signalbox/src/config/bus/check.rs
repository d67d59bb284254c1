//! What is wrong with `[bus]`: what parses but cannot work, with the fix.

use super::{Bus, BusKind, MaxAge, Mechanism, Switch};
use crate::config::check::Check;
use crate::config::model::File;
use crate::config::value::{Size, is_host_name, split_host_port};
use signalbox_bus::publisher::WINDOW_MAX;
use std::net::IpAddr;
use std::time::Duration;

/// What is wrong with `[bus]`, and what is only odd.
pub(in crate::config) fn check(check: &mut Check<'_>, file: &File) {
    let mut check = OfBus { bus: &file.bus, check };
    match file.bus.kind {
        BusKind::Journal => check.unused(&["url", "ca_file", "nats", "kafka"]),
        BusKind::Nats => {
            check.unused(&["kafka"]);
            check.nats();
        }
        BusKind::Kafka => {
            check.unused(&["nats"]);
            check.kafka();
        }
    }
    if file.bus.kind != BusKind::Journal {
        check.both();
        check.ages(file);
    }
}

struct OfBus<'a, 'c> {
    bus: &'a Bus,
    check: &'a mut Check<'c>,
}

impl OfBus<'_, '_> {
    /// Keys that were written and are not looked at.
    fn unused(&mut self, keys: &[&str]) {
        for key in keys.iter().map(|key| format!("bus.{key}")) {
            let written = self
                .check
                .sources
                .origins
                .keys()
                .find(|at| **at == key || at.starts_with(&format!("{key}.")));
            if let Some(at) = written {
                let message = format!("is not looked at with kind = \"{}\"", self.bus.kind.as_str());
                self.check.warn(at, message, "remove it, or set bus.kind");
            }
        }
    }

    fn both(&mut self) {
        let bus = self.bus;
        if !(1..=WINDOW_MAX).contains(&usize::from(bus.window)) {
            self.check.wrong(
                "bus.window",
                format!("{} is out of range", bus.window),
                format!("write 1 to {WINDOW_MAX}"),
            );
        }
        let audit = bus.audit_interval.0;
        if !audit.is_zero() && audit < Duration::from_secs(1) {
            self.check.wrong(
                "bus.audit_interval",
                "is too short to read anything back",
                "write \"1s\" or more, or \"0s\" for never",
            );
        }
        if bus.cert_file.is_some() != bus.key_file.is_some() {
            let (there, other) =
                if bus.cert_file.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
            self.check.wrong(
                &format!("bus.{there}"),
                format!("{other} is missing"),
                format!("name bus.{other} too"),
            );
        }
        for (path, file) in bus.files() {
            if let Some(Err(error)) = file.as_ref().map(std::fs::File::open) {
                self.check.wrong(
                    path,
                    error.to_string(),
                    "name a file that the user running signalbox can read",
                );
            }
        }
    }

    fn url(&mut self, good: impl Fn(&str) -> bool, fix: &str) {
        for url in self.bus.urls() {
            // Without the line: it would put the password on the screen and into logs.
            if url.contains('@') {
                let fix = "move it to files: see bus.nats and bus.kafka in `signalbox schema config`";
                self.check.wrong_unseen("bus.url", "a login stands in the address", fix);
            } else if !good(&url) {
                self.check.wrong(
                    "bus.url",
                    format!("\"{url}\" is not an address of a {} server", self.bus.kind.as_str()),
                    fix,
                );
            }
        }
    }

    fn nats(&mut self) {
        let address = |url: &str| {
            let rest = ["nats://", "tls://"].iter().find_map(|scheme| url.strip_prefix(scheme));
            rest.is_some_and(is_host_port)
        };
        self.url(address, "write nats://host:port or tls://host:port, several by comma");
        let n = &self.bus.nats;
        let user = n.user.is_some() || n.password_file.is_some();
        let ways = [n.credentials_file.is_some(), n.nkey_file.is_some(), n.token_file.is_some(), user];
        if ways.iter().filter(|way| **way).count() > 1 {
            let fix = "keep one of credentials_file, nkey_file, token_file, or user with password_file";
            self.check.wrong("bus.nats", "there are several logins", fix);
        }
        self.login("nats", n.user.is_some(), n.password_file.is_some());
        if !(1..=5).contains(&n.replicas) {
            self.check.wrong(
                "bus.nats.replicas",
                format!("{} is out of range", n.replicas),
                "write 1 to 5, an odd number",
            );
        }
        if !matches!(n.max_bytes, Size::Bytes(bytes) if bytes >= 1 << 20) {
            let fix = "write bytes of a stream, for example \"20GiB\"";
            self.check.wrong(
                "bus.nats.max_bytes",
                format!("\"{}\" is no size of a stream", n.max_bytes),
                fix,
            );
        }
        if n.duplicate_window.0 < Duration::from_secs(1) {
            self.check.wrong("bus.nats.duplicate_window", "is too short", "write for example \"2m\"");
        }
        if self.bus.tls == Switch::On {
            self.check.wrong(
                "bus.tls",
                "NATS is told by its address",
                "write tls://host:port in bus.url and remove this",
            );
        }
    }

    fn kafka(&mut self) {
        if !cfg!(feature = "kafka") {
            let fix = "use a build with the feature `kafka`, or write kind = \"nats\" or \"journal\"";
            self.check.wrong("bus.kind", "this program was built without Kafka", fix);
        }
        self.url(is_host_port, "write host:port of one broker or several, by comma");
        let k = &self.bus.kafka;
        self.login("kafka", k.user.is_some(), k.password_file.is_some());
        let tls = self.bus.tls == Switch::On;
        if k.user.is_some() && k.mechanism == Mechanism::Plain && !tls {
            let fix = "write bus.tls = \"on\", or mechanism = \"SCRAM-SHA-512\"";
            self.check.wrong(
                "bus.kafka.mechanism",
                "PLAIN would send the password readable for everyone",
                fix,
            );
        }
        if !tls
            && let Some(key) = [("ca_file", &self.bus.ca_file), ("cert_file", &self.bus.cert_file)]
                .into_iter()
                .find_map(|(key, file)| file.as_ref().map(|_| key))
        {
            self.check.wrong(
                &format!("bus.{key}"),
                "is not looked at without TLS",
                "write bus.tls = \"on\", or remove it",
            );
        }
        for (key, value) in
            [("replicas", k.replicas), ("min_insync", k.min_insync), ("partitions", k.partitions)]
        {
            if value == 0 {
                self.check.wrong(&format!("bus.kafka.{key}"), "0 would hold nothing", "write 1 or more");
            }
        }
        if k.min_insync > k.replicas {
            let message = format!("{} copies are asked for and there are {}", k.min_insync, k.replicas);
            self.check.wrong("bus.kafka.min_insync", message, "write replicas or fewer");
        }
    }

    fn login(&mut self, kind: &str, user: bool, password: bool) {
        match (user, password) {
            (true, false) => {
                self.check.wrong(
                    &format!("bus.{kind}.user"),
                    "its password is missing",
                    "name a password_file",
                );
            }
            (false, true) => {
                self.check.wrong(
                    &format!("bus.{kind}.password_file"),
                    "whose it is, is missing",
                    "add user = \"…\"",
                );
            }
            _ => {}
        }
    }

    /// Events that the broker forgets while the journal still has them look like a loss to whoever reads late.
    fn ages(&mut self, file: &File) {
        let MaxAge { call, registration, security, operations } = &self.bus.max_age;
        let all = [
            ("call", call),
            ("registration", registration),
            ("security", security),
            ("operations", operations),
        ];
        for (key, age) in all.into_iter().filter(|(_, age)| !age.0.is_zero() && age.0 < file.journal.retain.0)
        {
            let message =
                format!("\"{age}\" is less than journal.retain: the bus forgets what the journal still has");
            let fix = "make it as long as journal.retain, or longer";
            self.check.warn(&format!("bus.max_age.{key}"), message, fix);
        }
    }
}

fn is_host_port(text: &str) -> bool {
    split_host_port(text).is_some_and(|(host, port)| {
        (host.parse::<IpAddr>().is_ok() || is_host_name(host))
            && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    })
}
