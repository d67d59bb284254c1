//! Waiting for several sockets and a waker.

use crate::error::Fault;
use crate::udp::UdpSocket;
use crate::wake::Waker;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::time::Duration;

/// Sockets told of in one wait; the others are told of in the next.
const EVENTS_MAX: usize = 32;

const WAKER: u64 = u64::MAX;

/// What is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// The socket with this index has datagrams.
    Readable(usize),
    /// The socket with this index has errors to tell ([`UdpSocket::take_errors`]).
    Errors(usize),
}

/// Waits for sockets in the order they were given, and for a waker.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    waker: Waker,
    events: [EpollEvent; EVENTS_MAX],
    filled: usize,
}

impl Poller {
    /// Watches `sockets` and `waker`.
    ///
    /// # Errors
    /// When the process is out of file descriptors or the kernel out of memory.
    pub fn new(sockets: &[UdpSocket], waker: Waker) -> Result<Self, Fault> {
        let fault = |e| Fault::new("epoll", e);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fault)?;
        for (index, socket) in sockets.iter().enumerate() {
            epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, index as u64)).map_err(fault)?;
        }
        epoll.add(&waker, EpollEvent::new(EpollFlags::EPOLLIN, WAKER)).map_err(fault)?;
        Ok(Self { epoll, waker, events: [EpollEvent::empty(); EVENTS_MAX], filled: 0 })
    }

    /// Waits until something is ready, the waker is woken, or `timeout` has passed (rounded up to milliseconds; `None`
    /// waits for ever). A signal ends the wait early. What is ready is then in [`Poller::ready`].
    ///
    /// # Errors
    /// Only when the process's own state is broken.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Fault> {
        self.filled = match self.epoll.wait(&mut self.events, timeout.map_or(EpollTimeout::NONE, rounded_up))
        {
            Ok(filled) => filled,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(Fault::new("epoll_wait", errno)),
        };
        if self.events[..self.filled].iter().any(|event| event.data() == WAKER) {
            self.waker.drain();
        }
        Ok(())
    }

    /// What the last wait found.
    pub fn ready(&self) -> impl Iterator<Item = Ready> + '_ {
        self.events[..self.filled].iter().filter(|event| event.data() != WAKER).flat_map(|event| {
            let index = event.data() as usize;
            let errors = event.events().contains(EpollFlags::EPOLLERR).then_some(Ready::Errors(index));
            let readable = event.events().contains(EpollFlags::EPOLLIN).then_some(Ready::Readable(index));
            errors.into_iter().chain(readable)
        })
    }
}

fn rounded_up(timeout: Duration) -> EpollTimeout {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(u32::try_from(millis).unwrap_or(u32::MAX).min(i32::MAX as u32))
        .unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_an_armed_waker_when_woken_then_a_wait_without_timeout_returns_and_the_next_one_waits() {
        let waker = Waker::new().unwrap();
        let mut poller = Poller::new(&[], waker.clone()).unwrap();
        waker.arm();
        let other = waker;
        let thread = std::thread::spawn(move || other.wake());
        poller.wait(None).unwrap();
        thread.join().unwrap();
        assert_eq!(poller.ready().count(), 0);
        poller.wait(Some(Duration::from_nanos(1))).unwrap();
        assert_eq!(poller.filled, 0, "the wake-up was taken back");
    }

    #[test]
    fn given_an_awake_sleeper_when_woken_then_nothing_is_signalled() {
        let waker = Waker::new().unwrap();
        let mut poller = Poller::new(&[], waker.clone()).unwrap();
        waker.arm();
        waker.disarm();
        waker.wake();
        poller.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(poller.filled, 0);
    }

    #[test]
    fn timeouts_round_up_so_that_no_timer_is_looked_at_too_early() {
        assert_eq!(rounded_up(Duration::from_micros(1)), EpollTimeout::from(1u8));
        assert_eq!(rounded_up(Duration::ZERO), EpollTimeout::from(0u8));
    }
}
