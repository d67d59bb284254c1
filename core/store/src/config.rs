//! Where the store is: `sqlite:PATH` or `postgres://user@host/db?sslmode=verify-full`.

use crate::error::{Class, Error};
use signalbox_base::Secret;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What to open. Passwords come from a file only, so that an address can be logged and shown.
#[derive(Clone)]
pub struct Config {
    /// What was configured; holds no secret.
    url: String,
    pub(crate) target: Target,
}

#[derive(Clone)]
pub(crate) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<Postgres>),
}

#[derive(Clone)]
pub(crate) struct Postgres {
    pub(crate) options: tokio_postgres::Config,
    pub(crate) tls: Tls,
    pub(crate) connections: usize,
}

/// How the line to PostgreSQL is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Certificate chain and host name are checked, against the system's roots or the named file.
    VerifyFull { root_file: Option<PathBuf> },
    /// Encrypted, but the peer is not checked.
    Require,
    /// In the clear.
    Disable,
}

/// Connections kept to PostgreSQL unless told otherwise.
pub const CONNECTIONS_DEFAULT: usize = 8;

impl Config {
    /// Reads an address. A relative SQLite path is taken below `data_dir`. For PostgreSQL `sslmode` is `verify-full`
    /// (the default), `require` or `disable` (the default over a local socket), `sslrootcert` names a PEM file; the
    /// rest is libpq's.
    ///
    /// # Errors
    /// [`Class::Config`] for another scheme, an unknown option, a password inside the address (it belongs into a
    /// file), or a password file that cannot be read.
    pub fn parse(url: &str, password_file: Option<&Path>, data_dir: &Path) -> Result<Self, Error> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            if path.is_empty() || path.starts_with(":memory") {
                return Err(wrong("sqlite: needs a file's path, for example sqlite:signalbox.db"));
            }
            return Ok(Self { url: url.to_owned(), target: Target::Sqlite(data_dir.join(path)) });
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(wrong("the store's address starts with sqlite: or postgres://"));
        }
        let postgres = Postgres::parse(url, password_file)?;
        Ok(Self { url: url.to_owned(), target: Target::Postgres(Box::new(postgres)) })
    }

    /// An embedded database in `path`.
    #[must_use]
    pub fn sqlite(path: &Path) -> Self {
        Self { url: format!("sqlite:{}", path.display()), target: Target::Sqlite(path.to_owned()) }
    }

    /// Sets how many connections to PostgreSQL are kept (at least 1); SQLite ignores it.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        if let Target::Postgres(postgres) = &mut self.target {
            postgres.connections = connections.max(1);
        }
        self
    }

    /// The address as configured, without secrets.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Only the address: the options behind it may hold the password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Config").field(&self.url).finish()
    }
}

impl Postgres {
    fn parse(url: &str, password_file: Option<&Path>) -> Result<Self, Error> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut kept = Vec::new();
        let (mut mode, mut root_file) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => root_file = Some(PathBuf::from(percent_decoded(value)?)),
                Some(("password", _)) => return Err(password_in_address()),
                _ => kept.push(pair),
            }
        }
        let address = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        // The parser's own message may quote a part of the address: say only that it is wrong.
        let mut options = tokio_postgres::Config::from_str(&address).map_err(|_| {
            wrong("not a PostgreSQL address such as postgres://user@host/database?sslmode=verify-full")
        })?;
        if options.get_password().is_some() {
            return Err(password_in_address());
        }
        if let Some(path) = password_file {
            options.password(read_password(path)?.expose());
        }
        let local = !options.get_hosts().is_empty()
            && options.get_hosts().iter().all(|host| matches!(host, tokio_postgres::config::Host::Unix(_)));
        let tls = match mode {
            None if local => Tls::Disable,
            None | Some("verify-full") => Tls::VerifyFull { root_file },
            Some("require") => Tls::Require,
            Some("disable") => Tls::Disable,
            Some(_) => return Err(wrong("sslmode is verify-full, require or disable")),
        };
        options.ssl_mode(match tls {
            Tls::Disable => tokio_postgres::config::SslMode::Disable,
            _ => tokio_postgres::config::SslMode::Require,
        });
        if options.get_application_name().is_none() {
            options.application_name("signalbox");
        }
        Ok(Self { options, tls, connections: CONNECTIONS_DEFAULT })
    }
}

fn read_password(path: &Path) -> Result<Secret, Error> {
    let mut bytes = std::fs::read(path)
        .map_err(|error| wrong(format!("password_file {} cannot be read: {error}", path.display())))?;
    while bytes.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Secret::new(bytes))
}

fn password_in_address() -> Error {
    wrong(
        "a password does not belong into the store's address: put it into a file and name it as password_file",
    )
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Class::Config, message)
}

fn percent_decoded(text: &str) -> Result<String, Error> {
    let bad = || wrong("sslrootcert is not a path");
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low).ok_or_else(bad)?;
        out.push(u8::try_from(value).map_err(|_| bad())?);
    }
    String::from_utf8(out).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Config, Error> {
        Config::parse(url, None, Path::new("/data"))
    }

    fn tls(url: &str) -> Tls {
        match parse(url).unwrap().target {
            Target::Postgres(postgres) => postgres.tls,
            Target::Sqlite(_) => panic!("not postgres"),
        }
    }

    #[test]
    fn a_relative_sqlite_path_is_below_the_data_directory() {
        let Target::Sqlite(path) = parse("sqlite:a.db").unwrap().target else { panic!("not sqlite") };
        assert_eq!(path, Path::new("/data/a.db"));
    }

    #[test]
    fn the_line_is_verified_unless_the_address_says_otherwise() {
        assert_eq!(tls("postgres://u@db/s"), Tls::VerifyFull { root_file: None });
        let with_root = tls("postgres://u@db/s?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-full");
        assert_eq!(with_root, Tls::VerifyFull { root_file: Some("/etc/ca.pem".into()) });
        assert_eq!(tls("postgres://u@db/s?sslmode=require"), Tls::Require);
        assert_eq!(tls("postgres://u@db/s?sslmode=disable&connect_timeout=3"), Tls::Disable);
        assert_eq!(tls("postgres://u@%2Frun%2Fpostgresql/s"), Tls::Disable);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "mysql://x",
            "sqlite:",
            "sqlite::memory:",
            "postgres://u@h/d?sslmode=prefer",
            "postgres://u@h:x/d",
        ] {
            assert_eq!(parse(bad).unwrap_err().class(), Class::Config, "{bad}");
        }
    }

    #[test]
    fn a_password_is_refused_in_the_address_and_printed_nowhere() {
        for bad in
            ["postgres://u:hunter2@db/s", "postgres://u@db/s?password=hunter2", "postgres://u:hunter2@db:x/s"]
        {
            let error = parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let config = Config::parse("postgres://u@db/s", Some(file.path()), Path::new("/")).unwrap();
        assert!(!format!("{config:?} {}", config.url()).contains("hunter2"));
        let Target::Postgres(postgres) = config.target else { panic!("not postgres") };
        assert_eq!(postgres.options.get_password(), Some(b"hunter2".as_slice()));
    }

    #[test]
    fn a_missing_password_file_is_named() {
        let error =
            Config::parse("postgres://u@db/s", Some(Path::new("/nowhere/pw")), Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/pw"), "{error}");
    }
}
