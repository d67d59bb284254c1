//! UDP: batches, local addresses, and failures that are told.

use signalbox_io::udp::{RECEIVE_BATCH, SEND_BATCH};
use signalbox_io::{
    BindError, Outgoing, Poller, Ready, Receiver, SendFailure, Sender, UdpSocket, Unreachable, Waker,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn bound(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().unwrap()).unwrap()
}

/// Receives until `count` datagrams came, in order of arrival.
fn take(socket: UdpSocket, count: usize) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
    let mut receiver = Receiver::new(&socket);
    let sockets = [socket];
    let mut poller = Poller::new(&sockets, Waker::new().unwrap()).unwrap();
    let mut taken = Vec::new();
    while taken.len() < count {
        poller.wait(Some(PATIENCE)).unwrap();
        assert_eq!(poller.ready().next(), Some(Ready::Readable(0)), "nothing came after {}", taken.len());
        receiver.receive(&sockets[0]).unwrap();
        taken.extend(receiver.datagrams().map(|d| (d.remote, d.local, d.bytes.to_vec())));
    }
    taken
}

fn send(from: &[UdpSocket], messages: &[Outgoing<'_>]) -> Vec<(SocketAddr, SendFailure)> {
    let mut failures = Vec::new();
    Sender::default().send(from, messages.iter().copied(), |m, why| failures.push((m.remote, why)));
    failures
}

#[test]
fn given_more_datagrams_than_a_batch_when_sent_then_all_arrive_in_order() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (from, to) = ([bound(address)], bound(address));
        let payloads: Vec<Vec<u8>> =
            (0..SEND_BATCH * 2 + RECEIVE_BATCH / 2).map(|i| format!("message {i}").into()).collect();
        let (source, remote) = (from[0].local_addr().ip(), to.local_addr());
        let messages: Vec<_> = payloads
            .iter()
            .map(|bytes| Outgoing { socket: 0, source, remote, bytes, ticket: None })
            .collect();
        assert_eq!(send(&from, &messages), []);
        let taken = take(to, payloads.len());
        assert!(taken.iter().all(|(r, l, _)| (*r, *l) == (from[0].local_addr(), remote)));
        assert_eq!(taken.into_iter().map(|(.., bytes)| bytes).collect::<Vec<_>>(), payloads);
    }
}

#[test]
fn given_a_wildcard_socket_when_a_datagram_comes_then_its_local_address_is_told_and_answers_leave_from_it() {
    let (server, client) = (bound("0.0.0.0:0"), bound("127.0.0.1:0"));
    let ours = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 9).into(), server.local_addr().port());
    let clients = [client];
    let client_ip = clients[0].local_addr().ip();
    assert_eq!(
        send(
            &clients,
            &[Outgoing { socket: 0, source: client_ip, remote: ours, bytes: b"ask", ticket: None }]
        ),
        []
    );
    let mut receiver = Receiver::new(&server);
    let servers = [server];
    let mut poller = Poller::new(&servers, Waker::new().unwrap()).unwrap();
    poller.wait(Some(PATIENCE)).unwrap();
    assert_eq!(receiver.receive(&servers[0]).unwrap(), 1);
    let asked = receiver.datagrams().next().unwrap();
    assert_eq!((asked.local, asked.bytes), (ours, b"ask".as_slice()));

    let answer = Outgoing {
        socket: 0,
        source: asked.local.ip(),
        remote: asked.remote,
        bytes: b"answer",
        ticket: None,
    };
    assert_eq!(send(&servers, &[answer]), []);
    let [client] = clients;
    assert_eq!(take(client, 1)[0].0, ours, "the answer comes from the address that was asked");
}

#[test]
fn given_an_ipv6_wildcard_socket_then_local_addresses_work_as_with_ipv4() {
    let (server, clients) = (bound("[::]:0"), [bound("[::1]:0")]);
    let ours: SocketAddr = format!("[::1]:{}", server.local_addr().port()).parse().unwrap();
    let source = clients[0].local_addr().ip();
    assert_eq!(
        send(&clients, &[Outgoing { socket: 0, source, remote: ours, bytes: b"ask", ticket: None }]),
        []
    );
    let mut receiver = Receiver::new(&server);
    let servers = [server];
    Poller::new(&servers, Waker::new().unwrap()).unwrap().wait(Some(PATIENCE)).unwrap();
    receiver.receive(&servers[0]).unwrap();
    let asked = receiver.datagrams().next().unwrap();
    assert_eq!(asked.local, ours);
    let answer = Outgoing {
        socket: 0,
        source: asked.local.ip(),
        remote: asked.remote,
        bytes: b"answer",
        ticket: None,
    };
    assert_eq!(send(&servers, &[answer]), []);
    let [client] = clients;
    assert_eq!(take(client, 1)[0].0, ours);
}

#[test]
fn given_a_closed_port_when_sent_to_then_the_refusal_is_told_and_others_still_get_theirs() {
    let closed = bound("127.0.0.1:0").local_addr();
    let (from, open) = ([bound("127.0.0.1:0")], bound("127.0.0.1:0"));
    let source = from[0].local_addr().ip();
    let to = |remote| Outgoing { socket: 0, source, remote, bytes: b"hello".as_slice(), ticket: None };
    let messages = [to(closed), to(open.local_addr()), to(closed), to(open.local_addr())];
    assert_eq!(send(&from, &messages), []);
    assert_eq!(take(open, 2).len(), 2);

    let mut poller = Poller::new(&from, Waker::new().unwrap()).unwrap();
    poller.wait(Some(PATIENCE)).unwrap();
    assert!(poller.ready().any(|r| r == Ready::Errors(0)));
    let mut told = Vec::new();
    from[0].take_errors(|error| told.push(error));
    assert_eq!(told, [Unreachable { remote: closed, refused: true }; 2]);
}

#[test]
fn given_what_cannot_be_sent_when_sent_then_it_is_told_and_the_rest_leaves() {
    let (from, open) = ([bound("127.0.0.1:0")], bound("127.0.0.1:0"));
    let source = from[0].local_addr().ip();
    let large = vec![b'x'; 70_000];
    let messages = [
        Outgoing { socket: 0, source, remote: open.local_addr(), bytes: &large, ticket: None },
        Outgoing { socket: 7, source, remote: open.local_addr(), bytes: b"no such socket", ticket: None },
        Outgoing { socket: 0, source, remote: open.local_addr(), bytes: b"fits", ticket: None },
    ];
    let remote = open.local_addr();
    assert_eq!(send(&from, &messages), [(remote, SendFailure::TooLarge), (remote, SendFailure::Other)]);
    assert_eq!(take(open, 1)[0].2, b"fits");
}

#[test]
fn given_a_large_datagram_when_received_then_it_is_whole() {
    let (from, to) = ([bound("127.0.0.1:0")], bound("127.0.0.1:0"));
    let large = vec![b'x'; 65_507];
    let (source, remote) = (IpAddr::from(Ipv4Addr::LOCALHOST), to.local_addr());
    assert_eq!(send(&from, &[Outgoing { socket: 0, source, remote, bytes: &large, ticket: None }]), []);
    assert_eq!(take(to, 1)[0].2, large);
}

#[test]
fn a_busy_port_and_a_foreign_address_are_named() {
    let taken = bound("127.0.0.1:0").local_addr();
    let holder = UdpSocket::bind(taken).unwrap();
    let busy = UdpSocket::bind(holder.local_addr()).unwrap_err();
    assert!(matches!(busy, BindError::Busy(place) if place.address == taken));
    assert!(busy.to_string().contains("already in use"), "{busy}");
    let foreign = UdpSocket::bind("192.0.2.77:5060".parse().unwrap()).unwrap_err();
    assert!(matches!(foreign, BindError::NotOurs(_)));
    assert!(
        foreign.to_string().starts_with("udp:192.0.2.77:5060 is no address of this machine"),
        "{foreign}"
    );
}
