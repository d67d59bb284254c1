//! A tap on a host of a story: every UDP datagram that arrives there, as the kernel delivers it.

use crate::message::Message;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, socket};
use std::net::{IpAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const DATAGRAM_MAX: usize = 65_535;
const UDP_HEADER: usize = 8;
/// How long it takes to notice that the tap is closed.
const MOMENT: Duration = Duration::from_millis(50);

/// An open tap.
#[derive(Debug)]
pub struct Tap {
    heard: Arc<Mutex<Vec<Message>>>,
    closed: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Tap {
    /// Opens one on a host.
    ///
    /// # Panics
    /// This is not root, or the host has no IPv4 address.
    #[must_use]
    pub fn on(host: IpAddr) -> Self {
        let IpAddr::V4(host) = host else { panic!("stories have IPv4 networks") };
        // A raw socket gets a copy of what comes to the address it is bound to, whoever it is for.
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Udp)
            .expect("root may listen");
        bind(raw.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(host, 0)))
            .expect("it is an address of ours");
        let raw = UdpSocket::from(raw);
        raw.set_read_timeout(Some(MOMENT)).expect("a span above zero is allowed");
        let (heard, closed) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let listener = {
            let (heard, closed) = (Arc::clone(&heard), Arc::clone(&closed));
            std::thread::spawn(move || listen(&raw, &heard, &closed))
        };
        Self { heard, closed, listener: Some(listener) }
    }

    /// SIP messages so far; nothing but SIP goes to a port of its servers.
    #[must_use]
    pub fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

fn listen(raw: &UdpSocket, heard: &Mutex<Vec<Message>>, closed: &AtomicBool) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    while !closed.load(Ordering::Relaxed) {
        let Ok(len) = raw.recv(&mut buffer) else { continue };
        let header = usize::from(buffer[0] & 0x0F) * 4;
        let payload = buffer[..len].get(header + UDP_HEADER..).unwrap_or_default();
        if let Some(message) = Message::read(payload) {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        }
    }
}
