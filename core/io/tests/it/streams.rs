//! Connections: framed, bounded, told when they end, made anew when wanted.

use signalbox_base::{ConnId, Flow, ListenerId, Text, Transport};
use signalbox_io::{
    Arrival, Arrivals, Clock, Poller, SendFailure, StreamDriver, StreamEnd, StreamLimits, StreamListener,
    StreamOutgoing, Streams, Waker,
};
use signalbox_sip::MalformedReason;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const ASK: &[u8] =
    b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\r\nl: 4\r\n\r\nbody";

/// The stream thread and who takes what it brings.
pub(crate) struct World {
    pub(crate) streams: Streams,
    pub(crate) address: SocketAddr,
    transport: Transport,
    poller: Poller,
    waker: Waker,
    arrivals: Arrivals,
    /// Why TLS has failed, each time.
    pub(crate) tls_failed: Vec<String>,
    thread: Option<JoinHandle<()>>,
}

/// An arrival, kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Came {
    Message(Flow, Vec<u8>),
    Unframed(Flow, MalformedReason),
    Shown(Flow, Vec<Text>),
    Closed(Flow, StreamEnd),
    Unsent(Option<u64>, SendFailure),
    TlsFailed(Text),
}

impl World {
    fn new(limits: StreamLimits) -> Self {
        Self::over(Transport::Tcp, limits)
    }

    pub(crate) fn over(transport: Transport, limits: StreamLimits) -> Self {
        Self::listening(transport, limits, &[])
    }

    pub(crate) fn with_origins(origins: &[&str]) -> Self {
        Self::listening(Transport::Ws, limits(), origins)
    }

    fn listening(transport: Transport, limits: StreamLimits, origins: &[&str]) -> Self {
        let waker = Waker::new().unwrap();
        let localhost = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let listener = StreamListener {
            id: ListenerId(3),
            transport,
            address: localhost,
            origins: origins.iter().map(ToString::to_string).collect(),
        };
        let (driver, streams) =
            StreamDriver::bind(&[listener], limits, Clock::start(), waker.clone()).unwrap();
        let address = driver.addresses()[0];
        let poller = Poller::new(&[], waker.clone()).unwrap();
        let thread = Some(std::thread::spawn(move || driver.run().unwrap()));
        let (arrivals, tls_failed) = (Arrivals::default(), Vec::new());
        Self { streams, address, transport, poller, waker, arrivals, tls_failed, thread }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits for the next batch.
    pub(crate) fn batch(&mut self) -> Vec<Came> {
        loop {
            self.waker.arm();
            if !self.streams.has_arrivals() {
                self.poller.wait(Some(PATIENCE)).unwrap();
            }
            self.waker.disarm();
            assert!(self.streams.has_arrivals(), "nothing came");
            self.streams.take(&mut self.arrivals);
            let mut came: Vec<Came> = self.arrivals.iter().map(kept).collect();
            // Beside what ends the connection; told apart for the stories about it.
            came.retain(|one| match one {
                Came::TlsFailed(reason) => {
                    self.tls_failed.push(reason.to_string());
                    false
                }
                _ => true,
            });
            if !came.is_empty() {
                return came;
            }
        }
    }

    /// Waits for `count` arrivals.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Came> {
        let mut came = Vec::new();
        while came.len() < count {
            came.extend(self.batch());
        }
        assert_eq!(came.len(), count, "{came:?}");
        came
    }

    /// The flow of the only message that came.
    pub(crate) fn asked(&mut self) -> Flow {
        match self.take(1).remove(0) {
            Came::Message(flow, bytes) if bytes == ASK => flow,
            other => panic!("{other:?} instead of a message"),
        }
    }

    pub(crate) fn send(&self, flow: Flow, bytes: &[u8], ticket: Option<u64>) {
        self.streams.send([StreamOutgoing { flow, bytes, ticket }].into_iter());
    }

    /// The flow to a peer that the edge has not met.
    pub(crate) fn towards(&self, remote: SocketAddr) -> Flow {
        Flow { listener: ListenerId(3), transport: self.transport, local: self.address, remote, conn: None }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.streams.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the stream thread failed");
    }
}

fn kept(arrival: Arrival<'_>) -> Came {
    match arrival {
        Arrival::Message { flow, bytes } => Came::Message(flow, bytes.to_vec()),
        Arrival::Unframed { flow, fault, .. } => Came::Unframed(flow, fault.reason),
        Arrival::Shown { flow, names } => Came::Shown(flow, names.to_vec()),
        Arrival::TlsFailed { reason, .. } => Came::TlsFailed(reason.clone()),
        Arrival::Closed { flow, end } => Came::Closed(flow, end),
        Arrival::Unsent { ticket, why, .. } => Came::Unsent(ticket, why),
    }
}

pub(crate) fn limits() -> StreamLimits {
    StreamLimits::default()
}

/// Reads until the other end closes.
fn rest(mut stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it was not closed: {error}"),
    }
    all
}

#[test]
fn given_a_message_in_pieces_and_two_at_once_then_each_comes_whole_over_its_flow() {
    let mut world = World::new(limits());
    let mut phone = world.connect();
    phone.set_nodelay(true).unwrap();
    for piece in ASK.chunks(7) {
        phone.write_all(piece).unwrap();
    }
    let flow = world.asked();
    assert_eq!((flow.listener, flow.transport), (ListenerId(3), Transport::Tcp));
    assert_eq!((flow.local, flow.remote), (world.address, phone.local_addr().unwrap()));
    phone.write_all(&[b"\r\n\r\n", ASK, ASK, b"\r\n"].concat()).unwrap();
    let came = world.take(4);
    let of_flow = |bytes: &[u8]| Came::Message(flow, bytes.to_vec());
    assert_eq!(came, [of_flow(b"\r\n\r\n"), of_flow(ASK), of_flow(ASK), of_flow(b"\r\n")]);

    world.send(flow, b"SIP/2.0 200 OK\r\n\r\n", None);
    let mut answer = [0; 18];
    phone.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SIP/2.0 200 OK\r\n\r\n");
    drop(phone);
    assert_eq!(world.take(1), [Came::Closed(flow, StreamEnd::Closed)]);
    assert_eq!(world.streams.figures().open, [0; 4]);
}

#[test]
fn given_junk_then_it_is_told_with_its_reason_and_the_connection_is_closed() {
    for (junk, reason) in [
        (&b"\x16\x03\x01\x02\x00"[..], MalformedReason::BadStartLine),
        (
            b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\n\r\n",
            MalformedReason::Missing(signalbox_sip::HeaderName::ContentLength),
        ),
        (b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 999999\r\n\r\n", MalformedReason::BadContentLength),
    ] {
        let mut world = World::new(limits());
        let mut phone = world.connect();
        phone.write_all(junk).unwrap();
        let came = world.take(2);
        assert!(matches!(came[0], Came::Unframed(_, why) if why == reason), "{came:?}");
        assert!(matches!(came[1], Came::Closed(_, StreamEnd::Junk)), "{came:?}");
        assert_eq!(rest(&phone), b"");
    }
}

#[test]
fn given_limits_of_connections_then_more_are_closed_at_once_and_counted() {
    let mut world = World::new(StreamLimits { per_source_max: 2, ..limits() });
    let mut phones = [world.connect(), world.connect()];
    for phone in &mut phones {
        phone.write_all(ASK).unwrap();
        world.asked();
    }
    assert_eq!(rest(&world.connect()), b"", "a third one of this source");
    let figures = world.streams.figures();
    assert_eq!((figures.open[0], figures.accepted, figures.refused), (2, 2, 1));
    drop(phones);
    world.take(2);
    let mut again = world.connect();
    again.write_all(ASK).unwrap();
    world.asked();
}

#[test]
fn given_peers_that_say_nothing_or_never_finish_then_they_are_closed_in_time() {
    let soon = Duration::from_millis(50);
    for (limits, said) in [
        (StreamLimits { first_message: soon, ..limits() }, &b""[..]),
        (StreamLimits { message: soon, ..limits() }, b"REGISTER sip:a SI"),
        (StreamLimits { first_message: soon, ..limits() }, b"\r\n\r\n"),
    ] {
        let mut world = World::new(limits);
        let mut phone = world.connect();
        phone.write_all(said).unwrap();
        assert_eq!(rest(&phone), b"");
        let last = loop {
            let came = world.batch();
            if let Some(Came::Closed(_, end)) = came.last() {
                break *end;
            }
        };
        assert_eq!(last, StreamEnd::Slow, "{said:?}");
    }
    let mut world = World::new(StreamLimits { idle: soon, ..limits() });
    let mut phone = world.connect();
    phone.write_all(ASK).unwrap();
    let flow = world.asked();
    assert_eq!(world.take(1), [Came::Closed(flow, StreamEnd::Idle)]);
}

#[test]
fn given_a_peer_that_does_not_read_then_what_waits_for_it_is_bounded_and_told_as_lost() {
    let mut world = World::new(StreamLimits { unread_bytes_max: 100_000, ..limits() });
    let mut phone = world.connect();
    phone.write_all(ASK).unwrap();
    let flow = world.asked();
    let message = vec![b'x'; 50_000];
    let mut sent = 0;
    let came = loop {
        sent += 1;
        world.send(flow, &message, Some(sent));
        if world.streams.has_arrivals() {
            break world.batch();
        }
        assert!(sent < 100_000, "somebody holds all of it");
    };
    assert!(matches!(came[0], Came::Unsent(Some(_), SendFailure::Gone)), "{came:?}");
    assert!(came.contains(&Came::Closed(flow, StreamEnd::Unread)), "{came:?}");
    world.send(flow, b"x", Some(0));
    loop {
        if world.batch().contains(&Came::Unsent(Some(0), SendFailure::Gone)) {
            break;
        }
    }
}

#[test]
fn given_a_peer_to_dial_then_one_connection_serves_all_messages_and_another_is_made_when_it_is_gone() {
    let mut world = World::new(limits());
    let pbx = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = world.towards(pbx.local_addr().unwrap());
    world.send(flow, b"one", Some(1));
    world.send(flow, b"two", Some(2));
    let (mut stream, from) = pbx.accept().unwrap();
    assert_eq!(from, world.address, "it is known by the address that it is told");
    let mut read = [0; 6];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"onetwo");
    stream.write_all(ASK).unwrap();
    assert_eq!(
        world.take(1),
        [Came::Message(flow, ASK.to_vec())],
        "the answer is of the flow that was dialled"
    );
    drop(stream);
    assert_eq!(world.take(1), [Came::Closed(flow, StreamEnd::Closed)]);
    world.send(flow, b"three", Some(3));
    let (mut stream, _) = pbx.accept().unwrap();
    let mut read = [0; 5];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"three");
}

#[test]
fn given_a_port_that_is_taken_then_the_error_names_it_and_how_to_find_who_has_it() {
    let world = World::new(limits());
    let taken = StreamListener {
        id: ListenerId(0),
        transport: Transport::Tcp,
        address: world.address,
        origins: [].into(),
    };
    let waker = Waker::new().unwrap();
    let busy = StreamDriver::bind(&[taken], limits(), Clock::start(), waker).unwrap_err().to_string();
    assert!(busy.starts_with(&format!("tcp:{} is already in use", world.address)), "{busy}");
    assert!(busy.contains("ss -tlpn"), "{busy}");
}

#[test]
fn given_nobody_who_listens_then_every_message_is_told_as_refused() {
    let mut world = World::new(limits());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let flow = world.towards(nobody);
    world.send(flow, b"one", Some(1));
    let came = world.take(2);
    assert_eq!(came, [Came::Unsent(Some(1), SendFailure::Refused), Came::Closed(flow, StreamEnd::Failed)]);
}

#[test]
fn given_a_connection_of_the_past_then_nobody_is_dialled_for_it() {
    let mut world = World::new(limits());
    let phone = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = Flow { conn: Some(ConnId(7)), ..world.towards(phone.local_addr().unwrap()) };
    world.send(flow, b"one", Some(1));
    assert_eq!(world.take(1), [Came::Unsent(Some(1), SendFailure::Gone)]);
    phone.set_nonblocking(true).unwrap();
    assert_eq!(phone.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn given_an_order_to_close_then_what_was_sent_before_arrives_and_the_connection_ends() {
    let mut world = World::new(limits());
    let mut phone = world.connect();
    phone.write_all(ASK).unwrap();
    let flow = world.asked();
    world.send(flow, b"bye", None);
    world.streams.close(flow);
    assert_eq!(rest(&phone), b"bye");
    assert_eq!(world.take(1), [Came::Closed(flow, StreamEnd::Closed)]);
}

#[test]
fn given_a_connection_that_stands_for_an_address_then_what_is_for_that_goes_over_it_until_it_ends() {
    let mut world = World::new(limits());
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let mut peer = world.connect();
    peer.write_all(ASK).unwrap();
    let (flow, dialled) = (world.asked(), world.towards(nobody));
    world.streams.reuse(flow, dialled);
    world.send(dialled, ASK, Some(5));
    let mut read = vec![0; ASK.len()];
    peer.read_exact(&mut read).unwrap();
    assert_eq!(read, ASK);
    drop(peer);
    let ended = [Came::Closed(dialled, StreamEnd::Closed), Came::Closed(flow, StreamEnd::Closed)];
    assert_eq!(world.take(2), ended, "what was sent there is not waited for");
    world.send(dialled, ASK, Some(6));
    assert_eq!(
        world.take(2)[0],
        Came::Unsent(Some(6), SendFailure::Refused),
        "nobody is there to be dialled"
    );
}
