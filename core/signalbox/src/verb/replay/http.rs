//! One POST, over HTTP/1.1 (RFC 9112) with or without TLS, on a connection of its own.

use crate::errors::{Failure, USAGE};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Each step may take this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are looked at.
const ANSWER_MAX: u64 = 16 * 1024;

/// Where to post.
pub(super) struct Endpoint {
    host: String,
    port: u16,
    /// With the query.
    path: String,
    tls: Option<Arc<ClientConfig>>,
    /// Holds a bearer token; read at each request.
    token_file: Option<PathBuf>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        // Without the query: it may hold a secret.
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}:{}{path}", self.host, self.port)
    }
}

impl Endpoint {
    /// Reads `http://host[:port][/path]` or `https://…`.
    pub(super) fn new(url: &str, token_file: Option<&Path>) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            let fix = "write https://host[:port]/path; a secret goes into --token-file";
            Failure::new(USAGE, format!("--url: {why}")).fix(fix)
        };
        let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong("it is neither http nor https")),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("a login stands in the address"));
        }
        if url.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(wrong("it has a character that may not stand in an address"));
        }
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong("its port is no number"))?),
            None => (authority, if secure { 443 } else { 80 }),
        };
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let tls = if secure { Some(trust().map_err(|why| wrong(&why))?) } else { None };
        let token_file = token_file.map(Path::to_owned);
        Ok(Self { host: host.to_owned(), port, path, tls, token_file })
    }

    /// Posts and returns the status; blocks.
    pub(super) fn post(&self, content_type: &str, body: &[u8]) -> io::Result<u16> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut stream = connect(bare, self.port)?;
        let head = self.head(content_type, body.len())?;
        let Some(config) = &self.tls else {
            return exchange(&mut stream, &head, body);
        };
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        exchange(&mut StreamOwned::new(connection, stream), &head, body)
    }

    fn head(&self, content_type: &str, length: usize) -> io::Result<String> {
        let token = match &self.token_file {
            Some(file) => {
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), format!("the token in {}: {error}", file.display()))
                };
                format!("Authorization: Bearer {}\r\n", std::fs::read_to_string(file).map_err(named)?.trim())
            }
            None => String::new(),
        };
        let (path, host, port, version) = (&self.path, &self.host, self.port, env!("CARGO_PKG_VERSION"));
        Ok(format!(
            "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: signalbox/{version}\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n{token}\r\n"
        ))
    }
}

fn trust() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this machine trusts no certificate authority (install ca-certificates)".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| error.to_string())?.with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(stream: &mut (impl Read + Write), head: &str, body: &[u8]) -> io::Result<u16> {
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut bytes = [0; 1024];
    // Only the status counts; some servers close without a word of TLS after it.
    while !answer.windows(2).any(|two| two == b"\r\n") && (answer.len() as u64) < ANSWER_MAX {
        match stream.read(&mut bytes)? {
            0 => break,
            read => answer.extend_from_slice(&bytes[..read]),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let status =
        line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|text| text.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_without_its_query() {
        let plain = Endpoint::new("http://10.0.0.1:8080/in?key=s3cret", None).unwrap();
        assert_eq!((&*plain.host, plain.port, &*plain.path), ("10.0.0.1", 8080, "/in?key=s3cret"));
        assert_eq!(plain.to_string(), "http://10.0.0.1:8080/in");
        let v6 = Endpoint::new("http://[::1]", None).unwrap();
        assert_eq!((&*v6.host, v6.port, &*v6.path), ("[::1]", 80, "/"));
        for wrong in ["ftp://x", "http://", "http://u:p@x/", "http://x:port/", "http://x/a b"] {
            assert!(Endpoint::new(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_status_is_what_counts_of_an_answer() {
        struct Peer(&'static [u8]);
        impl Read for Peer {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Write for Peer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(exchange(&mut Peer(b"HTTP/1.1 204 No Content\r\n\r\n"), "", b"").unwrap(), 204);
        assert!(exchange(&mut Peer(b"SSH-2.0-x\r\n"), "", b"").is_err());
        assert!(exchange(&mut Peer(b""), "", b"").is_err());
    }
}
