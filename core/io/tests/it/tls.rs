//! TLS: the certificate for the name that is asked for, who must show one, reloads, and backends that are not who they say.

use crate::streams::{ASK, Came, World, limits};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use signalbox_base::{ListenerId, Transport};
use signalbox_io::{CertificateFiles, ClientAuth, SendFailure, StreamEnd, Tls, TlsError, TlsFiles};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// An authority and what it has signed, as files.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Signalbox stories");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key), ca }
    }

    fn sign(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let files = CertificateFiles {
            certificate: self.dir.path().join(format!("{file}.pem")),
            key: self.dir.path().join(format!("{file}.key")),
        };
        std::fs::write(&files.certificate, signed.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn files(&self, certificates: Vec<CertificateFiles>, auth: ClientAuth) -> TlsFiles {
        TlsFiles {
            certificates,
            tls13_only: false,
            backend_ca_file: Some(self.ca.clone()),
            listeners: vec![(ListenerId(3), auth)],
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        roots
    }
}

fn chain(files: &CertificateFiles) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
    (vec![certificate], PrivateKeyDer::from_pem_file(&files.key).unwrap())
}

type Line = StreamOwned<ClientConnection, TcpStream>;

/// A phone that trusts the authority, asks for `name` and may show a certificate.
fn phone(world: &World, authority: &Authority, name: &str, shown: Option<&CertificateFiles>) -> Line {
    let builder = ClientConfig::builder().with_root_certificates(authority.roots());
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = chain(files);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), world.connect())
}

/// The certificate that the edge showed.
fn shown(line: &Line) -> &[CertificateDer<'static>] {
    line.conn.peer_certificates().unwrap()
}

#[test]
fn given_several_certificates_then_each_phone_gets_the_one_for_its_domain_and_else_the_first() {
    let authority = Authority::new();
    let all = vec![
        authority.sign("first", &["sbc.example.net", "127.0.0.1"]),
        authority.sign("acme", &["ACME.example"]),
        authority.sign("wild", &["*.globex.example"]),
    ];
    let tls = Tls::load(&authority.files(all.clone(), ClientAuth::None)).unwrap();
    assert_eq!(tls.certificates()[1].names, ["acme.example"]);
    assert_eq!(tls.certificates()[0].subject, "CN=first");
    assert!(tls.certificates()[0].not_after > tls.certificates()[0].not_before);
    let mut world = World::over(Transport::Tls, limits());
    world.streams.set_tls(Arc::new(tls));
    for (name, wanted) in
        [("acme.example", 1), ("a.globex.example", 2), ("sbc.example.net", 0), ("127.0.0.1", 0)]
    {
        let mut line = phone(&world, &authority, name, None);
        line.write_all(ASK).unwrap();
        let flow = world.asked();
        assert_eq!(flow.transport, Transport::Tls);
        assert_eq!(shown(&line), chain(&all[wanted]).0, "{name}");
        world.send(flow, b"SIP/2.0 200 OK\r\n\r\n", None);
        let mut answer = [0; 18];
        line.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"SIP/2.0 200 OK\r\n\r\n");
        line.conn.send_close_notify();
        line.flush().unwrap();
        assert_eq!(world.take(1), [Came::Closed(flow, StreamEnd::Closed)]);
    }
}

#[test]
fn given_a_reload_then_new_connections_get_the_new_certificate_and_old_ones_go_on() {
    let authority = Authority::new();
    let old = authority.sign("old", &["acme.example"]);
    let mut world = World::over(Transport::Tls, limits());
    let load = |one: &CertificateFiles| {
        Arc::new(Tls::load(&authority.files(vec![one.clone()], ClientAuth::None)).unwrap())
    };
    world.streams.set_tls(load(&old));
    let mut first = phone(&world, &authority, "acme.example", None);
    first.write_all(ASK).unwrap();
    let flow = world.asked();
    let new = authority.sign("new", &["acme.example"]);
    world.streams.set_tls(load(&new));
    let mut second = phone(&world, &authority, "acme.example", None);
    second.write_all(ASK).unwrap();
    world.asked();
    assert_eq!((shown(&first), shown(&second)), (&*chain(&old).0, &*chain(&new).0));
    first.write_all(ASK).unwrap();
    assert_eq!(world.asked(), flow, "the connection of before is as it was");
}

#[test]
fn given_a_listener_that_requires_a_certificate_then_only_who_has_one_of_the_authority_gets_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("edge", &["edge.example"]);
    let require = ClientAuth::Require { ca_file: authority.ca.clone() };
    let request = ClientAuth::Request { ca_file: authority.ca.clone() };
    let (good, bad) = (authority.sign("phone", &["phone"]), stranger.sign("phone", &["phone"]));
    for (auth, shown, enters) in [
        (&require, Some(&good), true),
        (&require, Some(&bad), false),
        (&require, None, false),
        (&request, None, true),
        (&request, Some(&good), true),
        (&request, Some(&bad), false),
    ] {
        let mut world = World::over(Transport::Tls, limits());
        let files = authority.files(vec![own.clone()], auth.clone());
        world.streams.set_tls(Arc::new(Tls::load(&files).unwrap()));
        let mut line = phone(&world, &authority, "edge.example", shown);
        // With TLS 1.3 the phone may have written before it hears that it was refused.
        let _ = line.write_all(ASK);
        match world.take(1).remove(0) {
            Came::Message(_, bytes) => assert!(enters && bytes == ASK, "{auth:?} {shown:?}"),
            came => {
                assert!(
                    !enters && matches!(came, Came::Closed(_, StreamEnd::Untrusted)),
                    "{auth:?} {came:?}"
                );
            }
        }
    }
}

#[test]
fn given_tls_13_only_then_nothing_older_is_spoken() {
    let authority = Authority::new();
    let files = authority.files(vec![authority.sign("edge", &["edge.example"])], ClientAuth::None);
    let mut world = World::over(Transport::Tls, limits());
    world.streams.set_tls(Arc::new(Tls::load(&TlsFiles { tls13_only: true, ..files }).unwrap()));
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let name = ServerName::try_from("edge.example").unwrap();
    let mut line = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), world.connect());
    let refused = line.write_all(ASK).unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    assert!(matches!(world.take(1)[0], Came::Closed(_, StreamEnd::Failed)));
}

#[test]
fn given_plain_sip_on_a_tls_listener_then_the_connection_ends() {
    let authority = Authority::new();
    let files = authority.files(vec![authority.sign("edge", &["edge.example"])], ClientAuth::None);
    let mut world = World::over(Transport::Tls, limits());
    world.streams.set_tls(Arc::new(Tls::load(&files).unwrap()));
    world.connect().write_all(ASK).unwrap();
    assert!(matches!(world.take(1)[0], Came::Closed(_, StreamEnd::Failed)));
    assert_eq!(world.tls_failed, ["received corrupt message of type InvalidContentType"]);
}

/// A backend that serves one connection with this certificate: the first bytes it reads.
fn backend(files: &CertificateFiles) -> (std::net::SocketAddr, std::thread::JoinHandle<Vec<u8>>) {
    let (chain, key) = chain(files);
    let config =
        Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut line = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
        let mut read = vec![0; ASK.len()];
        match line.read_exact(&mut read) {
            Ok(()) => {
                line.write_all(ASK).unwrap();
                line.flush().unwrap();
                read
            }
            Err(_) => Vec::new(),
        }
    });
    (address, thread)
}

#[test]
fn given_a_backend_over_tls_then_messages_wait_for_the_handshake_and_its_name_must_be_right() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("edge", &["edge.example"]);
    for (files, name, good) in [
        (authority.sign("pbx", &["pbx.example"]), Some("pbx.example"), true),
        (authority.sign("ip", &["127.0.0.1"]), None, true),
        (authority.sign("other", &["other.example"]), Some("pbx.example"), false),
        (stranger.sign("pbx", &["pbx.example"]), Some("pbx.example"), false),
    ] {
        let mut world = World::over(Transport::Tls, limits());
        let tls = Tls::load(&authority.files(vec![own.clone()], ClientAuth::None)).unwrap();
        world.streams.set_tls(Arc::new(tls));
        let (address, thread) = backend(&files);
        if let Some(name) = name {
            world.streams.set_name(address, name);
        }
        let flow = world.towards(address);
        world.send(flow, ASK, Some(5));
        if good {
            assert_eq!(world.batch()[0], Came::Message(flow, ASK.to_vec()));
        } else {
            let wanted =
                [Came::Unsent(Some(5), SendFailure::Refused), Came::Closed(flow, StreamEnd::Untrusted)];
            assert_eq!(world.take(2), wanted, "nothing is told to who is not who it should be");
            assert!(world.tls_failed[0].starts_with("invalid peer certificate"), "{:?}", world.tls_failed);
        }
        assert_eq!(thread.join().unwrap() == ASK, good, "{files:?}");
    }
}

#[test]
fn given_who_wants_its_connection_used_for_a_backend_then_its_certificate_must_be_what_dialling_would_want() {
    let (authority, devices) = (Authority::new(), Authority::new());
    let own = authority.sign("edge", &["edge.example"]);
    let (pbx, other) = (authority.sign("pbx", &["pbx.example"]), authority.sign("other", &["other.example"]));
    // Who issues certificates to phones says nothing about backends.
    let phone_s = devices.sign("phone", &["pbx.example"]);
    for (shown, ca, good) in [
        (Some(&pbx), &authority.ca, true),
        (Some(&other), &authority.ca, false),
        (Some(&phone_s), &devices.ca, false),
        (None, &authority.ca, false),
    ] {
        let mut world = World::over(Transport::Tls, limits());
        let auth = ClientAuth::Request { ca_file: ca.clone() };
        world.streams.set_tls(Arc::new(Tls::load(&authority.files(vec![own.clone()], auth)).unwrap()));
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialled = world.towards(backend.local_addr().unwrap());
        world.streams.set_name(dialled.remote, "pbx.example");
        let mut line = phone(&world, &authority, "edge.example", shown);
        line.write_all(ASK).unwrap();
        let flow = world.asked();
        world.streams.reuse(flow, dialled);
        world.send(dialled, ASK, None);
        if good {
            let mut read = vec![0; ASK.len()];
            line.read_exact(&mut read).unwrap();
            assert_eq!(read, ASK);
        } else {
            backend.accept().unwrap();
        }
        backend.set_nonblocking(true).unwrap();
        assert!(backend.accept().is_err(), "{shown:?}");
    }
}

/// An edge of a cluster, with a certificate for its name.
fn edge(authority: &Authority, name: &str) -> World {
    let own = authority.sign(name, &[name]);
    let auth = ClientAuth::Peers { own, ca_file: authority.ca.clone() };
    // What is served to phones counts for nothing between edges.
    let public = authority.sign("public", &["sbc.example.net"]);
    let world = World::over(Transport::Tls, limits());
    world.streams.set_tls(Arc::new(Tls::load(&authority.files(vec![public], auth)).unwrap()));
    world
}

#[test]
fn given_two_edges_when_one_connects_then_both_know_by_certificate_who_the_other_is() {
    let authority = Authority::new();
    let (mut a, mut b) = (edge(&authority, "edge-a"), edge(&authority, "Edge-B"));
    b.streams.set_name(a.address, "edge-a");
    b.send(b.towards(a.address), ASK, None);
    let came = a.take(2);
    let Came::Message(flow, _) = came[1] else { panic!("{came:?}") };
    assert_eq!(came[0], Came::Shown(flow, vec!["edge-b".into()]), "before what it says");
    a.send(flow, ASK, None);
    assert_eq!(b.asked(), b.towards(a.address));
}

#[test]
fn given_an_edge_of_another_name_or_authority_or_nobody_s_certificate_then_nothing_passes() {
    let (authority, others) = (Authority::new(), Authority::new());
    let mut a = edge(&authority, "edge-a");
    // Who answers is not who should be there.
    let mut b = edge(&authority, "edge-b");
    b.streams.set_name(a.address, "edge-c");
    b.send(b.towards(a.address), ASK, Some(5));
    let wanted = [
        Came::Unsent(Some(5), SendFailure::Refused),
        Came::Closed(b.towards(a.address), StreamEnd::Untrusted),
    ];
    assert_eq!(b.take(2), wanted);
    assert!(matches!(a.take(1)[0], Came::Closed(_, StreamEnd::Failed)));
    // Who calls has a certificate of somebody else's authority, but believes in ours.
    let foreign = others.sign("edge-b", &["edge-b"]);
    for shown in [Some(&foreign), None] {
        let mut line = phone(&a, &authority, "edge-a", shown);
        let _ = line.write_all(ASK);
        assert!(matches!(a.take(1)[0], Came::Closed(_, StreamEnd::Untrusted)), "{shown:?}");
    }
}

#[test]
fn given_files_that_do_not_fit_then_the_error_names_the_file_and_what_to_do() {
    let authority = Authority::new();
    let (one, two) = (authority.sign("one", &["a"]), authority.sign("two", &["a"]));
    let load = |certificate: &Path, key: &Path| {
        let files = CertificateFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        Tls::load(&authority.files(vec![files], ClientAuth::None)).unwrap_err()
    };
    let mismatch = load(&one.certificate, &two.key);
    assert!(matches!(&mismatch, TlsError::Mismatch { key, .. } if *key == two.key), "{mismatch}");
    let missing = authority.dir.path().join("missing.pem");
    for (error, file) in [
        (load(&missing, &one.key), &missing),
        (load(&one.key, &one.key), &one.key),
        (load(&one.certificate, &one.certificate), &one.certificate),
    ] {
        let said = error.to_string();
        assert!(said.starts_with(&file.display().to_string()) && said.contains("; write "), "{said}");
    }
    let require = ClientAuth::Require { ca_file: missing };
    let error = Tls::load(&authority.files(vec![one], require)).unwrap_err().to_string();
    assert!(error.contains("missing.pem") && error.contains("authorities"), "{error}");
}
