//! Domains whose users the edge itself knows: `mode`, `users_file`, `auth` and what else stands in a domain's table.

use super::check::Check;
use super::model::{CallsFrom, Domain, DomainTable, File};
use super::secret::{self, Told};
use super::span::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::{Text, Wall};
use signalbox_engine::settings as engine;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Largest file of users that is read, bytes: some 500,000 lines.
const USERS_BYTES_MAX: u64 = 64 << 20;
/// Contacts of an AoR where nothing is said, and at most.
const CONTACTS: [u16; 2] = [10, 32];
/// Shortest and longest registration where nothing is said, seconds.
const EXPIRES_SECS: [u32; 2] = [60, 3600];
/// Methods that may stand in `auth`: those that begin something. REGISTER is asked where the edge is the registrar.
const METHODS: [&str; 8] =
    ["INVITE", "MESSAGE", "SUBSCRIBE", "PUBLISH", "OPTIONS", "REFER", "INFO", "NOTIFY"];

/// Who answers REGISTER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The tenant's backends.
    #[default]
    Proxy,
    /// The edge itself, for the users of `users_file`.
    Registrar,
}

impl Mode {
    /// Whether nothing need be said.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which requests of phones need credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected \"challenge\", \"none\" or a list of methods such as [\"INVITE\"]")]
pub enum Auth {
    /// All that begin something, or none.
    Word(AuthWord),
    /// Those of these methods.
    Methods(Vec<String>),
}

/// A word for `auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthWord {
    /// None: who is registered is known by its address.
    None,
    /// All.
    Challenge,
}

impl Auth {
    fn challenged(&self) -> engine::Challenged {
        match self {
            Self::Word(AuthWord::None) => engine::Challenged::None,
            Self::Word(AuthWord::Challenge) => engine::Challenged::All,
            Self::Methods(methods) => {
                engine::Challenged::Methods(methods.iter().map(|name| Text::new(name)).collect())
            }
        }
    }
}

fn challenged(table: &DomainTable) -> engine::Challenged {
    table.auth.as_ref().map_or(engine::Challenged::None, Auth::challenged)
}

/// Files of users are named as they stand beside the configuration at `path`, with when they were last written.
pub(super) fn anchor(file: &mut File, path: &Path) {
    let beside = path.parent().unwrap_or(Path::new(""));
    super::outbound::anchor(file, beside);
    for domain in file.tenant.iter_mut().flat_map(|tenant| &mut tenant.domains) {
        if let Domain::Table(DomainTable { users_file: Some(users), users_written_at, .. }) = domain {
            *users = beside.join(&*users);
            let written = std::fs::metadata(&*users).and_then(|metadata| metadata.modified()).ok();
            let since = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            *users_written_at = since.map(|since| Wall::default().plus(since).to_string());
        }
    }
}

/// What the engine is told of a domain.
///
/// # Errors
/// When the file of users cannot be used any more.
pub(super) fn policy(domain: &Domain) -> Result<engine::DomainPolicy, Problem> {
    let Domain::Table(table) = domain else { return Ok(engine::DomainPolicy::default()) };
    let users = match &table.users_file {
        None => None,
        Some(path) => {
            let read = read(path, &table.name);
            Some(read.map_err(|told| Problem::of_file(path, "users_file", told))?)
        }
    };
    let [min, max] = expires(table);
    Ok(engine::DomainPolicy {
        registrar: (table.mode == Mode::Registrar).then_some(engine::RegistrarSettings {
            min_expires_secs: min,
            max_expires_secs: max,
            contacts_max: table.max_contacts.unwrap_or(CONTACTS[0]),
        }),
        users: users.map(Arc::new),
        challenged: challenged(table),
        refresh_upstream: table.refresh_upstream.map(|span| span.0),
    })
}

fn expires(table: &DomainTable) -> [u32; 2] {
    let secs = |span: &super::value::Span| u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX);
    let [min, max] = EXPIRES_SECS;
    let min = table.min_expires.as_ref().map_or(min, secs);
    [min, table.max_expires.as_ref().map_or(max.max(min), secs)]
}

/// Reads a file of users; what is wrong with it, and what to do.
fn read(path: &Path, domain: &str) -> Result<engine::Users, Told> {
    let name = path.display();
    let (larger, open) = ("are too large for users", "what stands there is as good as passwords: ");
    let text = secret::File { path, bytes_max: USERS_BYTES_MAX, larger, open }.read()?;
    engine::Users::read(&text, &domain.to_ascii_lowercase()).map_err(|bad| {
        const SHOWN: usize = 5;
        let lines: Vec<_> = bad.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = if bad.len() > SHOWN { format!(" and {} more", bad.len() - SHOWN) } else { String::new() };
        let fix = format!("write user:{domain}:HA1 as `htdigest` does; of SHA-256 with 64 digits");
        (format!("{name}: {}{more}", lines.join("; ")), fix)
    })
}

/// Whether the tenant needs no backend.
pub(super) fn needs_no_backend(domains: &[Domain]) -> bool {
    let is_own = |domain: &Domain| matches!(domain, Domain::Table(table) if table.mode == Mode::Registrar);
    !domains.is_empty() && domains.iter().all(is_own)
}

/// What is wrong with domains' tables, and what is only odd.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    for (i, tenant) in file.tenant.iter().enumerate() {
        for (j, domain) in tenant.domains.iter().enumerate() {
            let Domain::Table(table) = domain else { continue };
            let path = format!("tenant[{i}].domains[{j}]");
            check.registrar(&path, table, tenant.calls_from);
            check.auth(&path, table);
            check.users(&path, table);
            check.upstream(&path, table);
        }
    }
}

impl Check<'_> {
    fn registrar(&mut self, path: &str, table: &DomainTable, calls_from: CallsFrom) {
        if table.mode == Mode::Proxy {
            let keys = [
                ("min_expires", table.min_expires.is_some()),
                ("max_expires", table.max_expires.is_some()),
                ("max_contacts", table.max_contacts.is_some()),
            ];
            for (key, _) in keys.iter().filter(|(_, there)| *there) {
                let fix = "remove it, or set mode = \"registrar\"";
                self.wrong(&format!("{path}.{key}"), "here the backends decide about registrations", fix);
            }
            return;
        }
        let [min, max] = expires(table);
        if min == 0 || min >= 3600 {
            let fix = "write for example \"60s\"";
            self.wrong(
                &format!("{path}.min_expires"),
                "must be above zero and below an hour (RFC 3261 10.3)",
                fix,
            );
        }
        if max < min {
            let fix = "make it longer than min_expires, for example \"1h\"";
            self.wrong(&format!("{path}.max_expires"), "is shorter than min_expires", fix);
        }
        if table.max_contacts.is_some_and(|max| !(1..=CONTACTS[1]).contains(&max)) {
            let fix = format!("write 1 to {}", CONTACTS[1]);
            self.wrong(&format!("{path}.max_contacts"), "is no number of contacts", fix);
        }
        if calls_from == CallsFrom::Any && !challenged(table).contains("INVITE") {
            let fix = "add auth = \"challenge\", or set calls_from = \"registered\"";
            self.wrong(path, "anyone could call: no backend authenticates calls here", fix);
        }
    }

    fn auth(&mut self, path: &str, table: &DomainTable) {
        if let Some(Auth::Methods(methods)) = &table.auth {
            for (k, name) in methods.iter().enumerate().filter(|(_, name)| !METHODS.contains(&name.as_str()))
            {
                let message = format!("\"{name}\" cannot be asked for credentials");
                self.wrong(&format!("{path}.auth[{k}]"), message, format!("known: {}", METHODS.join(", ")));
            }
        }
    }

    fn users(&mut self, path: &str, table: &DomainTable) {
        let asks = challenged(table) != engine::Challenged::None;
        let Some(users) = &table.users_file else {
            let fix = "add users_file = \"FILE\" with lines user:realm:HA1";
            if table.mode == Mode::Registrar {
                self.wrong(&format!("{path}.mode"), "the registrar's users are not named", fix);
            } else if asks {
                self.wrong(&format!("{path}.auth"), "nobody is named whose credentials count", fix);
            }
            return;
        };
        let path = format!("{path}.users_file");
        match read(users, &table.name) {
            Err((message, fix)) => self.wrong(&path, message, fix),
            Ok(known) if known.is_empty() => {
                let fix = format!("add one: htdigest {} {} USER", users.display(), table.name);
                self.warn(&path, "there is no user", fix);
            }
            Ok(_) if table.mode == Mode::Proxy && !asks => {
                let fix = "add auth = \"challenge\", or remove it";
                self.warn(&path, "nobody is asked for credentials", fix);
            }
            Ok(_) => {}
        }
    }

    fn upstream(&mut self, path: &str, table: &DomainTable) {
        let Some(span) = table.refresh_upstream else { return };
        let path = format!("{path}.refresh_upstream");
        if table.mode == Mode::Registrar {
            self.wrong(&path, "no backend hears of registrations here", "remove it");
        } else if span.0.as_secs() < 120 {
            let fix = "write for example \"1h\"";
            self.wrong(&path, "shorter than two minutes it saves nothing", fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Effective, Keys, Loaded, Problems, load};
    use signalbox_engine::settings::{Challenged, Settings};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    const LINE: &str = "401:b.test:87de33f80f9b176fd5706e7e2b0d9dc1\n";
    const GOOD: &str = r#"
[[tenant]]
name = "acme"
domains = [{ name = "b.test", mode = "registrar", users_file = "b.users", auth = ["INVITE"], max_contacts = 3 }]
"#;

    fn loaded(dir: &Path, text: &str) -> Result<Loaded, Problems> {
        let path = dir.join("signalbox.toml");
        std::fs::write(&path, text).unwrap();
        load(&path, std::iter::empty())
    }

    fn with_users(lines: &str, rights: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.users");
        std::fs::write(&path, lines).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(rights)).unwrap();
        dir
    }

    fn settings(loaded: &Loaded) -> Settings {
        let journal = signalbox_base::JournalId(1);
        let keys = Keys { edge_name: "edge-1".into(), journal, cluster_key: Default::default() };
        Effective::new(&loaded.file).settings(&keys).unwrap()
    }

    #[test]
    fn given_a_registrar_then_its_users_stand_beside_the_file_and_it_needs_no_backend() {
        let dir = with_users(LINE, 0o640);
        let good = loaded(dir.path(), GOOD).unwrap();
        let settings = settings(&good);
        let policy = &settings.tenants[0].domains[0].policy;
        let registrar = policy.registrar.unwrap();
        assert_eq!(
            (registrar.min_expires_secs, registrar.max_expires_secs, registrar.contacts_max),
            (60, 3600, 3)
        );
        assert!(policy.users.as_ref().unwrap().knows(b"401"));
        assert!(policy.challenged.contains("INVITE") && !policy.challenged.contains("MESSAGE"));
        let upstream = GOOD
            .replace("mode = \"registrar\", ", "refresh_upstream = \"1h\", ")
            .replace(", max_contacts = 3", "")
            + "backends = [{ name = \"pbx\", address = \"udp:10.0.0.1\", trusts_edge = true }]\n";
        let settings = self::settings(&loaded(dir.path(), &upstream).unwrap());
        let policy = &settings.tenants[0].domains[0].policy;
        assert_eq!((policy.registrar, policy.refresh_upstream), (None, Some(Duration::from_secs(3600))));
        assert!(policy.challenged != Challenged::None && settings.tenants[0].backends[0].trusts_edge);
    }

    #[test]
    fn given_a_mistake_in_a_domains_table_then_its_place_is_named() {
        let dir = with_users(LINE, 0o640);
        for (from, to, path) in [
            (", users_file = \"b.users\"", "", "tenant[0].domains[0].mode"),
            ("b.users", "other.users", "tenant[0].domains[0].users_file"),
            ("INVITE", "BYE", "tenant[0].domains[0].auth[0]"),
            ("max_contacts = 3", "max_contacts = 33", "tenant[0].domains[0].max_contacts"),
            ("max_contacts = 3", "min_expires = \"1h\"", "tenant[0].domains[0].min_expires"),
            ("max_contacts = 3", "max_expires = \"30s\"", "tenant[0].domains[0].max_expires"),
            ("max_contacts = 3", "refresh_upstream = \"1h\"", "tenant[0].domains[0].refresh_upstream"),
            ("mode = \"registrar\", ", "", "tenant[0].backends"),
            ("mode = \"registrar\", ", "", "tenant[0].domains[0].max_contacts"),
            ("auth = [\"INVITE\"] }]", "auth = \"none\" }]\ncalls_from = \"any\"", "tenant[0].domains[0]"),
        ] {
            let good = GOOD.replace(", max_contacts = 3 }]", " }]");
            let base = if from.starts_with("auth") { &good } else { GOOD };
            assert!(base.contains(from), "{from}");
            let problems = loaded(dir.path(), &base.replace(from, to)).unwrap_err();
            assert!(problems.0.iter().any(|problem| problem.path == path), "{to}: {problems}");
        }
    }

    #[test]
    fn given_users_that_everybody_may_read_or_a_wrong_line_then_it_is_said_without_showing_it() {
        let open = loaded(with_users(LINE, 0o644).path(), GOOD).unwrap_err().to_string();
        assert!(open.contains("everybody on this machine") && open.contains("chmod 640"), "{open}");
        let dir = with_users(&format!("{LINE}402:hunter2\n"), 0o600);
        let wrong = loaded(dir.path(), GOOD).unwrap_err().to_string();
        assert!(
            wrong.contains("b.users: line 2: is not user:realm:HA1") && !wrong.contains("hunter2"),
            "{wrong}"
        );
        let nobody = loaded(with_users("# none yet\n", 0o600).path(), GOOD).unwrap();
        assert!(nobody.warnings.iter().any(|warning| warning.message.contains("there is no user")));
    }
}
